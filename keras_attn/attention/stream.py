"""Which positions the position-wise layers of a stack compute: all, or all but padding.

Projections, norms and feed-forward layers treat each position separately. In training on TensorFlow, a stack
therefore gives them only the real positions, one after the other, `[1, N, D]`, and its attention layers put the
projections back into rows.
"""

from __future__ import annotations

import dataclasses

from keras import ops

from keras_attn import masks
from keras_attn.backend import gather_rows, real_rows
from keras_attn.base.tensors import as_matrix, shape_of
from keras_attn.base.types import Tensor


@dataclasses.dataclass(frozen=True)
class Stream:
    """All positions.

    Attributes:
        mask: Padding mask `[B, T]`; None if there is no padding.
    """

    mask: Tensor | None = None

    def enter(self, x: Tensor) -> Tensor:
        """Returns the vectors of the stream for inputs `[B, T, D]`: here all of them."""
        return x

    def leave(self, x: Tensor) -> Tensor:
        """The inverse of `enter`."""
        return x

    def hide(self, x: Tensor) -> Tensor:
        """Returns the vectors with zeros at padding."""
        return masks.hide(x, self.mask)

    def sizes(self, x: Tensor) -> tuple[int | Tensor, int | Tensor]:
        """Returns B and T for the vectors `x`."""
        batch_size, length, _ = shape_of(x)
        return batch_size, length

    def pack(self, matrix: Tensor) -> Tensor:
        """Returns the rows of a matrix `[B T, X]` that belong to vectors."""
        return matrix

    def spread(self, matrix: Tensor) -> Tensor:
        """The inverse of `pack`."""
        return matrix

    def vectors(self, matrix: Tensor, batch_size: int | Tensor, length: int | Tensor) -> Tensor:
        """Returns a packed matrix as vectors: `[B T, D]` -> `[B, T, D]`."""
        return ops.reshape(matrix, (batch_size, length, matrix.shape[-1]))


EVERY_POSITION = Stream()


@dataclasses.dataclass(frozen=True)
class RealPositions(Stream):
    """The real positions, and a last vector that stands for all padding: `[1, N, D]`.

    All padded positions have the same vector, because their inputs are zeros and attention gives them zeros.

    Attributes:
        mask: Padding mask `[B, T]`.
        rows: For each vector its index among the B T positions, int32 `[N]`.
        places: For each position the index of its vector, int32 `[B T]`.
        is_real: Float `[B T, 1]`, 0 for padding.
    """

    rows: Tensor = None
    places: Tensor = None
    is_real: Tensor = None

    @classmethod
    def of(cls, mask: Tensor) -> RealPositions:
        """Returns the real positions of a padding mask `[B, T]`."""
        return cls(mask, *real_rows(mask))

    def enter(self, x: Tensor) -> Tensor:
        return self.pack(as_matrix(x))[None]

    def leave(self, x: Tensor) -> Tensor:  # not `spread`: a loss may read padding
        return ops.reshape(ops.take(x[0], self.places, axis=0), (*shape_of(self.mask), x.shape[-1]))

    def hide(self, x: Tensor) -> Tensor:
        return x * ops.cast(self._is_real_vector(), x.dtype)

    def sizes(self, x: Tensor) -> tuple[int | Tensor, int | Tensor]:
        batch_size, length = shape_of(self.mask)
        return batch_size, length

    def pack(self, matrix: Tensor) -> Tensor:
        return gather_rows(matrix, self.rows, self.places, self.is_real)

    def spread(self, matrix: Tensor) -> Tensor:
        """The inverse of `pack`, where what is read of the result at padding has no gradient."""
        return gather_rows(matrix, self.places, self.rows, self._is_real_vector())

    def vectors(self, matrix: Tensor, batch_size: int | Tensor, length: int | Tensor) -> Tensor:
        return matrix[None]

    def _is_real_vector(self) -> Tensor:
        """Returns `[N, 1]`, False for the last vector."""
        size = ops.shape(self.rows)[0]
        return (ops.arange(size, dtype="int32") < size - 1)[:, None]
