"""Tables from our layers to the weights of a checkpoint: what is read, with which shape, and how it is changed.

A table is a dictionary from the path of a layer of our model (`"encoder.blocks.0.attention.in_projection"`) to an
entry. An entry knows the names and shapes of the checkpoint's weights, and returns the arrays of our layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

Shapes: TypeAlias = dict[str, tuple[int, ...]]
Read: TypeAlias = Callable[[str], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Entry:
    """Base class of entries.

    Attributes:
        name: Name of their layer, or a tuple of names; `{i}` is the number of the block.
    """

    name: str | tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,) if isinstance(self.name, str) else self.name

    def of_block(self, i: int) -> Entry:
        """Returns the entry for block i."""
        names = tuple(name.replace("{i}", str(i)) for name in self.names)
        return dataclasses.replace(self, name=names)

    def shapes(self) -> Shapes:
        """Returns the shapes of the checkpoint's weights by name."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `shapes()`.")

    @property
    def optional(self) -> tuple[str, ...]:
        """The names of weights that may be missing, and are zero then."""
        return ()

    def arrays(self, read: Read) -> list[np.ndarray]:
        """Returns the arrays of our layer; `read` returns a weight by name."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `arrays(read)`.")


@dataclasses.dataclass(frozen=True)
class Linear(Entry):
    """`W [out, in]` and `b [out]` become kernel and bias; several maps are joined, and one may be a part of theirs.

    Attributes:
        inputs: Size of the inputs of their maps.
        outputs: Size of the outputs of each of their maps, or one size per map.
        bias: Whether they have a bias.
        part: `(k, n)` for part k of n equal parts of their outputs, None for all.
    """

    inputs: int
    outputs: int | tuple[int, ...]
    bias: bool = True
    part: tuple[int, int] | None = None

    def shapes(self) -> Shapes:
        wanted: Shapes = {}
        sizes = (self.outputs,) * len(self.names) if isinstance(self.outputs, int) else self.outputs
        for name, outputs in zip(self.names, sizes, strict=True):
            wanted[f"{name}.weight"] = (outputs, self.inputs)
            if self.bias:
                wanted[f"{name}.bias"] = (outputs,)
        return wanted

    def arrays(self, read: Read) -> list[np.ndarray]:
        kinds = ("weight", "bias") if self.bias else ("weight",)
        joined = (np.concatenate([self._part(read(f"{name}.{kind}")) for name in self.names]) for kind in kinds)
        return [array.T for array in joined]

    def _part(self, array: np.ndarray) -> np.ndarray:
        return array if self.part is None else np.split(array, self.part[1])[self.part[0]]


@dataclasses.dataclass(frozen=True)
class InOut(Entry):
    """`W [in, out]` and `b [out]`, as GPT-2 stores its linear maps, become kernel and bias."""

    inputs: int
    outputs: int

    def shapes(self) -> Shapes:
        return {f"{self.names[0]}.weight": (self.inputs, self.outputs), f"{self.names[0]}.bias": (self.outputs,)}

    def arrays(self, read: Read) -> list[np.ndarray]:
        return [read(name) for name in self.shapes()]


@dataclasses.dataclass(frozen=True)
class Norm(Entry):
    """Scale `[size]`, and a bias `[size]` if `bias`.

    Attributes:
        offset: Added to the scale: 1 for the norms of Gemma, which multiply by one more than their weight.
        factor: Multiplies the scale, where the family multiplies the outputs of the norm by a number.
    """

    size: int
    bias: bool = True
    offset: float = 0.0
    factor: float = 1.0

    def shapes(self) -> Shapes:
        kinds = ("weight", "bias") if self.bias else ("weight",)
        return {f"{name}.{kind}": (self.size,) for name in self.names for kind in kinds}

    def arrays(self, read: Read) -> list[np.ndarray]:
        scale, *bias = (read(name) for name in self.shapes())
        scale = scale + np.float32(self.offset) if self.offset else scale
        return [scale * np.float32(self.factor) if self.factor != 1 else scale, *bias]


@dataclasses.dataclass(frozen=True)
class Rows(Entry):
    """Embeddings `[rows, size]`.

    Attributes:
        copies: Names of further weights that may hold the same embeddings, which must then be equal.
    """

    rows: int
    size: int
    copies: tuple[str, ...] = ()

    def shapes(self) -> Shapes:
        return {f"{name}.weight": (self.rows, self.size) for name in self.names}

    def arrays(self, read: Read) -> list[np.ndarray]:
        return [read(name) for name in self.shapes()]


@dataclasses.dataclass(frozen=True)
class Vector(Entry):
    """One vector `[size]`, by its full name."""

    size: int

    def shapes(self) -> Shapes:
        return {name: (self.size,) for name in self.names}

    def arrays(self, read: Read) -> list[np.ndarray]:
        return [read(name) for name in self.names]


@dataclasses.dataclass(frozen=True)
class LogitsBias(Entry):
    """The bias of logits `[size]`, stored as `[1, size]`, by its full name; it may be missing."""

    size: int

    @property
    def optional(self) -> tuple[str, ...]:
        return self.names

    def shapes(self) -> Shapes:
        return {name: (1, self.size) for name in self.names}

    def arrays(self, read: Read) -> list[np.ndarray]:
        return [read(name)[0] for name in self.names]


@dataclasses.dataclass(frozen=True)
class BiasedLogits(Entry):
    """The matrix `[out, in]` of logits and their bias `[1, out]`, which may be missing, by their full names."""

    inputs: int
    outputs: int

    @property
    def optional(self) -> tuple[str, ...]:
        return self.names[1:]

    def shapes(self) -> Shapes:
        return {self.names[0]: (self.outputs, self.inputs), self.names[1]: (1, self.outputs)}

    def arrays(self, read: Read) -> list[np.ndarray]:
        return [read(self.names[0]).T, read(self.names[1])[0]]


Table: TypeAlias = dict[str, Entry]


def blocks(number: int, ours: str, table: Mapping[str, Entry]) -> Table:
    """Returns a table for all blocks: `ours` is the path of block `{i}`, to which the keys of `table` are relative."""
    return {
        f"{ours.replace('{i}', str(i))}.{path}": entry.of_block(i)
        for i in range(number)
        for path, entry in table.items()
    }
