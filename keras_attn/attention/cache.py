"""The keys and values that an attention keeps from step to step: fixed in size, written in place.

A cache is a dictionary of tensors. Position p stands in place `p % L`, so that a cache which
is as long as a window reaches holds the window's last positions, and one as long as the whole
sequence holds all. Keys and values are kept apart.

An exact cache has `"key"` and `"value"`, `[B, H, L, K]`. An int8 cache has `"key_scale"` and
`"value_scale"` `[B, H, L]` beside, one number per position and head.
"""

import contextlib
import contextvars

from keras import ops

from keras_attn.backend import empty, write_rows
from keras_attn.backend.precision import at_least_float32
from keras_attn.base.checks import check_positive, integers, is_array
from keras_attn.base.slot import Slot, register

_writes_in_place = contextvars.ContextVar("writes_in_place", default=False)
_written = contextvars.ContextVar("written", default=None)


@contextlib.contextmanager
def in_place():
    """Lets steps write into the very cache they are given, in loops that use each state once.

    Outside, a step leaves the state it was given as it was, at the price of a copy where the
    backend cannot see that nobody needs it any more (TensorFlow without XLA, PyTorch).
    """
    token = _writes_in_place.set(True)
    try:
        yield
    finally:
        _writes_in_place.reset(token)


@contextlib.contextmanager
def written_up_to(limit, max_length):
    """Tells steps that no more than `limit` of the `max_length` tokens are written, so that none reads beyond."""
    token = _written.set((limit, max_length))
    try:
        yield
    finally:
        _written.reset(token)


class Cache(Slot):
    """How keys and values are kept."""

    def start(self, shape, dtype):
        """Returns an empty cache of one tensor, `[B, H, L, K]`, as a dictionary from suffix to tensor."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `start(shape, dtype)`.")


@register
class ExactCache(Cache):
    """Keys and values in the dtype they were computed in."""

    def start(self, shape, dtype):
        return {"": empty(shape, dtype, _writes_in_place.get())}


@register
class Int8Cache(Cache):
    """Keys and values as 8-bit integers, each position and head with a scale of its own.

    Scores and outputs differ from the exact ones by up to about one part in a hundred of the
    largest key or value of a position; memory is a quarter of float32's.
    """

    def start(self, shape, dtype):
        in_place = _writes_in_place.get()
        return {"": empty(shape, "int8", in_place), "_scale": empty(shape[:3], at_least_float32(dtype), in_place)}


def new_cache(batch_size, num_heads, length, sizes, dtype, cache=None):
    """Returns an empty cache.

    Args:
        batch_size: B, an integer or a scalar tensor.
        num_heads: Number of key and value heads.
        length: Number L of positions it holds, an integer or a scalar tensor.
        sizes: Head sizes of key and value.
        dtype: Of the keys and values.
        cache: `ExactCache()` by default, or `Int8Cache()`.
    """
    if not is_array(length):
        check_positive("max_length", length)
    kind = ExactCache() if cache is None else cache
    return {
        name + suffix: tensor
        for name, size in zip(("key", "value"), sizes)
        for suffix, tensor in kind.start((batch_size, num_heads, length, size), dtype).items()
    }


def write(cache, key, value, index):
    """Returns the cache with the key and value of one position.

    Args:
        cache: From `new_cache` or the write before.
        key, value: `[B, H, 1, K]`.
        index: The position, integers `[B or 1]`.
    """
    written, index = {}, integers("index", index)
    for name, heads in (("key", key), ("value", value)):
        heads = heads[:, :, 0]  # [B, H, K]
        if f"{name}_scale" in cache:
            heads, scale = quantize(heads)
            written[f"{name}_scale"] = _write(cache[f"{name}_scale"][..., None], scale, index)[..., 0]
        written[name] = _write(cache[name], heads, index)
    return written


def _write(places, heads, index):
    """Writes `[B, H, K]` into one place per row of `[B, H, L, K]`."""
    batch, num_heads, length, size = ops.shape(places)
    row = ops.reshape(ops.arange(batch * num_heads, dtype="int32"), (batch, num_heads)) * length
    rows = ops.reshape(row + ops.reshape(index % length, (-1, 1)), (-1,))
    flat = ops.reshape(places, (batch * num_heads * length, size))
    heads = ops.cast(ops.reshape(heads, (batch * num_heads, size)), flat.dtype)
    return ops.reshape(write_rows(flat, rows, heads, _writes_in_place.get()), ops.shape(places))


def fill(cache, key, value, lengths):
    """Returns the cache with the first positions of whole sequences, of each row as many as it has.

    Args:
        cache: From `new_cache`; it holds L positions.
        key, value: `[B, H, T, K]`.
        lengths: int32 `[B]`, at most T.
    """
    held = positions(cache, lengths - 1)  # [B, L]
    filled = {}
    for name, heads in (("key", key), ("value", value)):
        last = ops.convert_to_tensor(ops.shape(heads)[2] - 1, "int32")
        source = ops.maximum(ops.minimum(held, last), ops.zeros((), "int32"))
        if not heads.shape[2]:  # a sequence that is, or may be, empty has no position to take
            heads = ops.pad(heads, [[0, 0], [0, 0], [0, 1], [0, 0]])
        heads = ops.take_along_axis(heads, source[:, None, :, None], axis=2)  # [B, H, L, K]
        if f"{name}_scale" in cache:
            heads, filled[f"{name}_scale"] = quantize(heads)
            filled[f"{name}_scale"] = filled[f"{name}_scale"][..., 0]
        filled[name] = ops.cast(heads, cache[name].dtype)
    return filled


def read(cache, dtype):
    """Returns keys and values `[B, H, L, K]` in a dtype."""
    parts = []
    for name in ("key", "value"):
        heads = ops.cast(cache[name], dtype)
        scale = cache.get(f"{name}_scale")
        parts.append(heads if scale is None else heads * ops.cast(scale, dtype)[..., None])
    return parts


def in_use(cache):
    """Returns a cache without a window cut to the places that may be in use, for reading alone."""
    limit, max_length = _written.get() or (0, 0)
    length = ops.shape(cache["key"])[2]
    if limit == max_length or (isinstance(length, int) and length < max_length):
        return cache
    return {name: tensor[:, :, : length - (max_length - limit)] for name, tensor in cache.items()}


def positions(cache, index):
    """Returns which position stands in each place, `[B or 1, L]`, after that of `index` `[B or 1]`; negative: none."""
    length = ops.shape(cache["key"])[2]
    index = ops.reshape(index, (-1, 1))
    return index - (index - ops.arange(length, dtype="int32")[None]) % length


def quantize(heads):
    """Returns 8-bit integers `[..., K]` and their scale `[..., 1]`: the largest number is 127."""
    heads = ops.cast(heads, at_least_float32(heads.dtype))
    scale = ops.max(ops.abs(heads), axis=-1, keepdims=True) / 127
    return ops.cast(ops.round(heads / ops.where(scale > 0, scale, 1)), "int8"), scale
