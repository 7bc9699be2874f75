"""Static patterns: masks that are functions of the query's and the key's index, and are saved with a layer."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence

import numpy as np

from keras_attn.base.checks import check_positive, is_number
from keras_attn.base.slot import register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Tensor
from keras_attn.masks.algebra import Coverage, Pattern, Rectangle


@register
class Causal(Pattern):
    """A query attends to the keys up to its own index: `key <= query`.

    With fewer queries than keys, the last query attends to every key (bottom-right alignment).

    >>> from keras_attn import masks
    >>> masks.Causal()(2, 3)
    False
    """

    ahead = 0

    def __call__(self, query_index: int | Tensor, key_index: int | Tensor) -> bool | Tensor:
        return key_index <= query_index

    def coverage(self, rectangle: Rectangle) -> Coverage:
        return Coverage(rectangle.key_low <= rectangle.query_high, rectangle.key_high <= rectangle.query_low)


@register
class Window(Pattern):
    """A query attends to `left` keys back and `right` keys ahead, both including its own.

    With `Window(n)`, query i attends to the keys i-n+1 ... i+n-1; with `Causal() & Window(n)`, to the
    last n (Beltagy et al. 2020, arXiv:2004.05150).

    Args:
        left: Number of keys at or before the query, at least 1.
        right: Number of keys at or after the query, at least 1; None means `left`.

    >>> from keras_attn import masks
    >>> [key for key in range(9) if masks.Window(2)(4, key)]
    [3, 4, 5]
    """

    def __init__(self, left: int, right: int | None = None) -> None:
        check_positive("left", left)
        check_positive("right", right, optional=True)
        self.left = left
        self.right = right
        self.reach = left
        self.ahead = (left if right is None else right) - 1

    def __call__(self, query_index: int | Tensor, key_index: int | Tensor) -> bool | Tensor:
        right = self.left if self.right is None else self.right
        distance = key_index - query_index
        return (distance > -self.left) & (distance < right)

    def coverage(self, rectangle: Rectangle) -> Coverage:
        right = self.left if self.right is None else self.right
        lowest = rectangle.key_low - rectangle.query_high
        highest = rectangle.key_high - rectangle.query_low
        return Coverage((highest > -self.left) & (lowest < right), (lowest > -self.left) & (highest < right))


@register
class Prefix(Pattern):
    """Every query attends to the first `length` keys; `Causal() | Prefix(n)` is the mask of a prefix language model.

    See Raffel et al. 2020, arXiv:1910.10683.

    Args:
        length: Number of keys in the prefix, at least 1.

    >>> from keras_attn import masks
    >>> (masks.Causal() | masks.Prefix(3))(0, 2)
    True
    """

    def __init__(self, length: int) -> None:
        check_positive("length", length)
        self.length = length
        self.ahead = length - 1

    def __call__(self, query_index: int | Tensor, key_index: int | Tensor) -> bool | Tensor:
        return key_index < self.length + 0 * query_index

    def coverage(self, rectangle: Rectangle) -> Coverage:
        return Coverage(rectangle.key_low < self.length, rectangle.key_high < self.length)


@register
class Global(Pattern):
    """The positions `indices` attend to every key, and every query attends to them.

    `Window(n) | Global([0])` is a mask of Longformer (Beltagy et al. 2020, arXiv:2004.05150).

    Args:
        indices: Indices of the global positions, a sequence of at least one non-negative integer.

    >>> from keras_attn import masks
    >>> mask = masks.Window(2) | masks.Global([0])
    >>> [key for key in range(9) if mask(4, key)]
    [0, 3, 4, 5]
    """

    def __init__(self, indices: Sequence[int]) -> None:
        values = indices.tolist() if isinstance(indices, np.ndarray) else indices
        is_sequence = isinstance(values, Sequence) and len(values) > 0
        if not is_sequence or not all(is_number(value, int, at_least=0) for value in values):
            raise ValueError(
                "`indices` must be a sequence of at least one non-negative integer. "
                f"Received: indices={short_repr(indices)}."
            )
        self.indices = tuple(int(value) for value in values)
        self._runs = runs(self.indices)

    def __call__(self, query_index: int | Tensor, key_index: int | Tensor) -> bool | Tensor:
        return self._all_global(query_index, query_index) | self._all_global(key_index, key_index)

    def coverage(self, rectangle: Rectangle) -> Coverage:
        queries, keys = (rectangle.query_low, rectangle.query_high), (rectangle.key_low, rectangle.key_high)
        any_visible = self._any_global(*queries) | self._any_global(*keys)
        return Coverage(any_visible, self._all_global(*queries) | self._all_global(*keys))

    def _any_global(self, low: int | Tensor, high: int | Tensor) -> bool | Tensor:
        """Returns whether one of the positions low ... high is global."""
        return functools.reduce(operator.or_, ((low <= last) & (high >= first) for first, last in self._runs))

    def _all_global(self, low: int | Tensor, high: int | Tensor) -> bool | Tensor:
        """Returns whether all of the positions low ... high are global."""
        return functools.reduce(operator.or_, ((low >= first) & (high <= last) for first, last in self._runs))


@register
class Blocks(Pattern):
    """A query attends to the keys of its own block of `size` positions.

    Args:
        size: Number of positions in a block, at least 1.

    >>> from keras_attn import masks
    >>> [key for key in range(9) if masks.Blocks(3)(4, key)]
    [3, 4, 5]
    """

    def __init__(self, size: int) -> None:
        check_positive("size", size)
        self.size = size
        self.reach = size
        self.ahead = size - 1

    def __call__(self, query_index: int | Tensor, key_index: int | Tensor) -> bool | Tensor:
        return query_index // self.size == key_index // self.size

    def coverage(self, rectangle: Rectangle) -> Coverage:
        queries = rectangle.query_low // self.size, rectangle.query_high // self.size
        keys = rectangle.key_low // self.size, rectangle.key_high // self.size
        any_visible = (keys[0] <= queries[1]) & (keys[1] >= queries[0])
        return Coverage(any_visible, (keys[0] == queries[1]) & (keys[1] == queries[0]))


@register
class Dilated(Pattern):
    """A query attends to its own key and every `step`-th key before and after it (Child et al. 2019, arXiv:1904.10509).

    Args:
        step: Distance between these keys, at least 1.

    >>> from keras_attn import masks
    >>> [key for key in range(9) if masks.Dilated(3)(4, key)]
    [1, 4, 7]
    """

    def __init__(self, step: int) -> None:
        check_positive("step", step)
        self.step = step

    def __call__(self, query_index: int | Tensor, key_index: int | Tensor) -> bool | Tensor:
        return (query_index - key_index) % self.step == 0


@register
class Where(Pattern):
    """A mask given as a function of the query's and the key's index.

    Args:
        function: Takes integer arrays or tensors (query index, key index), and returns booleans. To be saved
            with a layer, it must be registered with `keras.saving.register_keras_serializable`.

    `reach` and `ahead` are unknown. To decode step by step, combine it with `Causal()`; otherwise it is
    evaluated at sample indices (see `check_hides_the_future`).

    >>> from keras_attn import masks
    >>> masks.Where(lambda query, key: key != query)(4, 4)
    False
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        if not callable(function):
            raise ValueError(
                f"`function` must be a function of query and key index. Received: function={short_repr(function)}."
            )
        self.function = function

    def __call__(self, query_index: int | Tensor, key_index: int | Tensor) -> bool | Tensor:
        return self.function(query_index, key_index)


def runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Returns the first and the last index of each run of consecutive integers, in order.

    >>> runs([7, 0, 1, 2])
    [(0, 2), (7, 7)]
    """
    found: list[tuple[int, int]] = []
    for index in sorted(set(indices)):
        first = found.pop()[0] if found and found[-1][1] == index - 1 else index
        found.append((first, index))
    return found
