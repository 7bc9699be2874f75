"""Positions: added to embeddings (`Sinusoidal`, `Learned`) or turning queries and keys (`Rotary`)."""

import keras
import numpy as np
from keras import ops

from keras_attn import masks
from keras_attn.checks import check_positive
from keras_attn.composite import Composite
from keras_attn.kernels.softmax import wide
from keras_attn.slots import Slot, register


class _AddedPositions(Composite):
    """What the added positions share: `y = x + table[positions]`, in float32 inside."""

    axes = {"inputs": "BTD", "positions": "BT", "mask": "BT", "inputs_mask": "BT"}

    def call(self, inputs, positions=None, mask=None, inputs_mask=None, training=None):
        inputs = masks.hide(inputs, masks.first_given(mask, inputs_mask))
        positions = row_positions(inputs, positions)
        table = self.table(positions, inputs.shape[-1])  # [B or 1, T, D]
        outputs = ops.cast(inputs, wide(inputs.dtype)) + ops.cast(table, wide(inputs.dtype))
        return ops.cast(outputs, self.compute_dtype)

    def table(self, positions, size):
        """Returns the vectors `[B or 1, T, D]` of integer positions `[B or 1, T]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `table(positions, size)`.")

    def compute_output_shape(self, inputs_shape):
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs, positions=None, mask=None, inputs_mask=None, training=None):
        return keras.KerasTensor(inputs.shape, self.compute_dtype)


@register
class Sinusoidal(_AddedPositions):
    """Adds sines and cosines of geometrically spaced wavelengths.

    `PE(p, 2i) = sin(p / base^(2i / D))`, `PE(p, 2i+1) = cos(p / base^(2i / D))`

    Args:
        base: The longest wavelength is `2 pi base`.

    Call arguments:
        inputs: Embeddings `[B, T, D]`.
        positions: Integers `[B, T]`; 0, 1, ... T-1 by default.
        mask, inputs_mask: Padding `[B, T]`, filled in by Keras.

    Returns:
        `[B, T, D]`.

    Raises:
        ValueError: If `inputs` is not of rank 3 or `positions` not `[B, T]`.

    Example:
    >>> import numpy as np
    >>> from keras_attn import Sinusoidal
    >>> np.round(Sinusoidal()(np.zeros((1, 2, 4), "float32"))[0], 2).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.8399999737739563, 0.5400000214576721, 0.009999999776482582, 1.0]]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.5.
    """

    def __init__(self, base=10000.0, **kwargs):
        super().__init__(**kwargs)
        check_base(base)
        self.base = base

    def table(self, positions, size):
        dtype = wide(self.compute_dtype)
        angles = position_angles(positions, (size + 1) // 2, 2 / size, self.base, dtype)  # [B, T, ceil(D / 2)]
        waves = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)  # [B, T, ceil(D / 2), 2]
        return ops.reshape(waves, (*ops.shape(angles)[:2], 2 * angles.shape[-1]))[..., :size]


@register
class Learned(_AddedPositions):
    """Adds a learned vector per position.

    `y_p = x_p + P_p`

    Args:
        max_length: Number of positions that have a vector.

    Call arguments and Returns as `Sinusoidal`.

    Raises:
        ValueError: If `inputs` is longer than `max_length` (where its length is static; elsewhere
            the embedding lookup decides: an error on a CPU, the last vector under XLA).

    Example:
    >>> import numpy as np
    >>> from keras_attn import Learned
    >>> Learned(max_length=32)(np.zeros((2, 7, 4), "float32")).shape.as_list()
    [2, 7, 4]

    References:
        Gehring et al. 2017, Convolutional Sequence to Sequence Learning, arXiv:1705.03122.
    """

    def __init__(self, max_length, **kwargs):
        super().__init__(**kwargs)
        check_positive("max_length", max_length)
        self.max_length = max_length

    def build(self, inputs_shape):
        self.embedding = keras.layers.Embedding(
            self.max_length, inputs_shape[-1], dtype=self.policy_of("embedding"), name="embedding"
        )
        self.build_child(self.embedding, inputs_shape[:-1])

    def check_arguments(self, arguments):
        sizes = super().check_arguments(arguments)
        if arguments.get("positions") is None and (sizes.get("T") or 0) > self.max_length:
            raise ValueError(
                f"`inputs` may have at most max_length={self.max_length} positions. "
                f"Received: inputs.shape={tuple(arguments['inputs'].shape)}."
            )
        return sizes

    def table(self, positions, size):
        return self.embedding(positions)


class HeadPosition(Slot):
    """What fills an attention layer's `position=` slot: acts on the heads, not on embeddings."""

    def turn(self, heads, positions):
        """Returns queries or keys `[B, H, T, K]` turned by their integer positions `[B or 1, T]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `turn(heads, positions)`.")


@register
class Rotary(HeadPosition):
    """Turns pairs of query and key units by angles that grow with the position.

    Units i and i + R/2 of the first R = fraction * K units form a pair, turned by
    `p * base^(-2i / R)`, so that scores depend on the distance of query and key alone.

    Args:
        base: The slowest pair turns once in about `2 pi base` positions.
        fraction: Share of each head's units that turn, in (0, 1].

    Raises:
        ValueError: If the number of turning units is not even.

    Example:
    >>> from keras_attn import MultiHeadSelfAttention, Rotary
    >>> layer = MultiHeadSelfAttention(num_heads=8, position=Rotary())

    References:
        Su et al. 2021, RoFormer, arXiv:2104.09864.
    """

    def __init__(self, base=10000.0, fraction=1.0):
        check_base(base)
        if not 0 < fraction <= 1:
            raise ValueError(f"`fraction` must be in (0, 1]. Received: fraction={fraction!r}.")
        self.base = base
        self.fraction = fraction

    def turn(self, heads, positions):
        size = int(heads.shape[-1] * self.fraction)
        if size % 2 or size == 0:
            raise ValueError(
                "The head size times `fraction` must be even and positive. "
                f"Received: head size {heads.shape[-1]}, fraction={self.fraction}."
            )
        angles = position_angles(positions, size // 2, 2 / size, self.base, wide(heads.dtype))
        angles = angles[:, None]  # [B, 1, T, R / 2]
        cosine, sine = ops.cos(angles), ops.sin(angles)
        first, second = (ops.cast(half, wide(half.dtype)) for half in ops.split(heads[..., :size], 2, axis=-1))
        turned = ops.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
        return ops.concatenate([ops.cast(turned, heads.dtype), heads[..., size:]], axis=-1)


def row_positions(inputs, positions):
    """Returns `positions` `[B, T]`, by default 0 ... T-1 as `[1, T]`."""
    return ops.arange(ops.shape(inputs)[1])[None] if positions is None else ops.convert_to_tensor(positions)


def position_angles(positions, count, exponent, base, dtype):
    """Returns `p * base^(-exponent * i)` for i in 0 ... count-1, `[B, T, count]`."""
    rates = base ** (-exponent * np.arange(count))
    return ops.cast(positions, dtype)[..., None] * ops.convert_to_tensor(rates, dtype=dtype)


def check_base(base):
    """Raises a `ValueError` unless `base` is greater than 1."""
    if not base > 1:
        raise ValueError(f"`base` must be greater than 1. Received: base={base!r}.")
