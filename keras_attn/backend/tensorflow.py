"""The adapter of TensorFlow: the loop is a `tf.while_loop` over TensorArrays, which trains with and without XLA."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from keras import tree

from keras_attn.base.types import State, Tensor

has_fused = False
has_later_gradient = True


def scan(
    step: Callable[[State, State], tuple[State, State]], carry: State, inputs: State, like: State
) -> tuple[State, State]:
    """Runs `carry, outputs = step(carry, inputs[t])` over the leading axis.

    The gradients of tensors that `step` reads from its closure are summed over the steps.

    Args:
        step: Function from (carry, inputs of one step) to (carry, outputs of one step).
        carry: Structure of tensors; shapes and dtypes stay the same from step to step.
        inputs: Structure of tensors `[T, ...]`.
        like: Structure of tensors shaped as the outputs of one step.

    Returns:
        The last carry, and the outputs stacked to `[T, ...]`.
    """
    flat_inputs = tree.flatten(inputs)
    length = flat_inputs[0].shape[0]
    if length is None:
        length = tf.shape(flat_inputs[0])[0]
    readers = [
        tf.TensorArray(tensor.dtype, length, element_shape=tensor.shape[1:]).unstack(tensor) for tensor in flat_inputs
    ]
    writers = [tf.TensorArray(tensor.dtype, length, element_shape=tensor.shape) for tensor in tree.flatten(like)]

    def body(
        index: Tensor, flat_carry: list[Tensor], writers: list[tf.TensorArray]
    ) -> tuple[Tensor, list[Tensor], list[tf.TensorArray]]:
        now = tree.pack_sequence_as(inputs, [reader.read(index) for reader in readers])
        new_carry, outputs = step(tree.pack_sequence_as(carry, flat_carry), now)
        new_carry = [same_shape(new, old) for new, old in zip(tree.flatten(new_carry), flat_carry)]
        writers = [writer.write(index, output) for writer, output in zip(writers, tree.flatten(outputs))]
        return index + 1, new_carry, writers

    _, flat_carry, writers = tf.while_loop(
        lambda index, *_: index < length,
        body,
        (tf.constant(0), tree.flatten(carry), writers),
        maximum_iterations=length,
    )
    outputs = [
        stack_array(writer, tensor, flat_inputs[0].shape[0]) for writer, tensor in zip(writers, tree.flatten(like))
    ]
    return tree.pack_sequence_as(carry, flat_carry), tree.pack_sequence_as(like, outputs)


def stack_array(writer: tf.TensorArray, like: Tensor, length: int | None) -> Tensor:
    """Returns the elements of a `TensorArray`, `[T, ...]`; those of an empty one get the shape of `like`."""
    if length or like.shape.is_fully_defined():
        return writer.stack()
    stack = tf.raw_ops.TensorListStack(
        input_handle=writer.flow, element_shape=tf.shape(like), element_dtype=like.dtype, num_elements=-1
    )
    return tf.ensure_shape(stack, [length, *like.shape])


def same_shape(new: Tensor, old: Tensor) -> Tensor:
    """Returns `new` with the static shape of `old`, which it replaces in a loop."""
    return new if isinstance(old, tf.TensorArray) else tf.ensure_shape(new, old.shape)


def is_concrete(tensor: Tensor) -> bool:
    """Returns whether the tensor's values can be read now: eager, not in a graph."""
    return isinstance(tensor, tf.Tensor) and tf.executing_eagerly()


def fori(low: Tensor, high: Tensor, body: Callable[[Tensor, State], State], carry: State) -> State:
    """Runs `carry = body(index, carry)` for low <= index < high, one after the other; not differentiable."""
    _, carry = tf.while_loop(
        lambda index, _: index < high,
        lambda index, carry: (index + 1, body(index, carry)),
        (tf.convert_to_tensor(low), carry),
        parallel_iterations=1,
    )
    return carry


def zero_blocks(blocks: Tensor) -> tf.TensorArray:
    """Returns sums of the blocks `[J, ...]`, all zero, with the shape and dtype of the blocks."""
    zeros = tf.zeros_like(blocks)
    array = tf.TensorArray(zeros.dtype, tf.shape(zeros)[0], element_shape=zeros.shape[1:], clear_after_read=False)
    return array.unstack(zeros)


def add_to_block(sums: tf.TensorArray, index: Tensor, value: Tensor) -> tf.TensorArray:
    """Returns the sums with `value` added to block `index`, in place."""
    return sums.write(index, sums.read(index) + value)


def stack_blocks(sums: tf.TensorArray) -> Tensor:
    """Returns the sums as one tensor `[J, ...]`."""
    return sums.stack()


def block_uniform(shape: Sequence[int | Tensor], seed: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Uniform float32 numbers of a block, the same for the same seed `[2]` and block indices."""
    seed = tf.cast(tf.bitcast(tf.cast(seed, tf.uint32), tf.int32), tf.int32)
    seed = seed + tf.stack([row * 1_000_003, column])
    # XLA draws the same integers, but converts them to other floats.
    bits = tf.random.stateless_uniform(shape, seed=seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24


def has_free_shapes() -> bool:
    """Returns whether the function that is being traced may make tensors whose shape depends on values."""
    return not tf.executing_eagerly() and not in_xla()


def real_rows(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the `rows`, `places` and `is_real` of `RealPositions`, for a padding mask `[B, T]`."""
    real = tf.reshape(tf.cast(mask, tf.bool), [-1])
    size = tf.size(real)
    padded = tf.argmin(tf.cast(tf.concat([real, [False]], 0), tf.int32), output_type=tf.int32)  # the first one
    rows = tf.concat([tf.cast(tf.where(real)[:, 0], tf.int32), tf.minimum(padded, size - 1)[None][:size]], 0)
    places = tf.where(real, tf.cumsum(tf.cast(real, tf.int32)) - 1, tf.size(rows) - 1)
    return rows, places, tf.cast(real, tf.float32)[:, None]


def gather_rows(x: Tensor, rows: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Returns the rows `[n]` of `x` `[R, X]`, whose gradient is `weights` `[R, 1]` times the rows `places` `[R]` of it.

    That is the gradient if each row of `x` is read at most once, by place `places`, or has the weight 0.
    """

    @tf.custom_gradient
    def run(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return tf.gather(x, rows), lambda upstream: tf.gather(upstream, places) * tf.cast(weights, upstream.dtype)

    return run(x)


def dropout(x: Tensor, rate: float, seed: keras.random.SeedGenerator) -> Tensor:
    """Returns `x` with a share `rate` of its elements set to 0 and the others divided by `1 - rate`.

    An element takes 16 random bits, half of those of `tf.nn.dropout`; `rate` is rounded to a multiple of 2^-16.
    """
    size, threshold = tf.size(x), round(rate * 2**16)
    numbers = tf.bitcast(tf.cast(seed.next(), tf.uint32), tf.int32)
    pairs = tf.random.stateless_uniform(
        [(size + 1) // 2], numbers, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    bits = tf.reshape(tf.reshape(tf.bitcast(pairs, tf.uint16), [-1])[:size], tf.shape(x))
    kept = tf.cast(bits >= tf.constant(threshold, tf.uint16), x.dtype)
    return x * (kept * tf.cast(2**16 / (2**16 - threshold), x.dtype))


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor | None, epsilon: float) -> Tensor:
    """Normalises the last axis of `x` `[..., D]`, which is at least float32; the gradient takes few passes over `x`."""
    tensors = [each for each in (x, gamma, beta) if each is not None]

    @tf.custom_gradient
    def run(x: Tensor, gamma: Tensor, *beta: Tensor) -> tuple[Tensor, Callable[[Tensor], list[Tensor]]]:
        centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True) + epsilon)
        normal = centred * inverse

        def gradient(upstream: Tensor) -> list[Tensor]:
            scaled = upstream * gamma
            along = tf.reduce_mean(scaled * normal, axis=-1, keepdims=True)
            towards = (scaled - tf.reduce_mean(scaled, axis=-1, keepdims=True) - normal * along) * inverse
            axes = list(range(len(x.shape) - 1))
            sums = [tf.reduce_sum(each, axis=axes) for each in (upstream * normal, upstream)[: 1 + len(beta)]]
            return [towards, *sums]

        outputs = normal * gamma
        return outputs + beta[0] if beta else outputs, gradient

    return run(*tensors)


def product(left: Tensor, right: Tensor, transpose_left: bool = False, transpose_right: bool = False) -> Tensor:
    """Products of the last two axes, summed and returned in float32, or float64 for float64.

    XLA multiplies in the narrower of the operands' dtypes, which is fast on accelerators.
    TensorFlow's own kernels cannot sum products of a narrow dtype in a wider one. Therefore
    their operands are cast to the wider dtype, which costs no time on a CPU.
    """
    narrow = min(left.dtype, right.dtype, key=lambda dtype: dtype.size)
    if narrow.size < 4 and in_xla():
        operands = {"x": tf.cast(left, narrow), "y": tf.cast(right, narrow)}
        return tf.raw_ops.BatchMatMulV3(**operands, Tout=tf.float32, adj_x=transpose_left, adj_y=transpose_right)
    wide = max(tf.float32, left.dtype, right.dtype, key=lambda dtype: dtype.size)
    return tf.matmul(tf.cast(left, wide), tf.cast(right, wide), transpose_left, transpose_right)


def in_xla() -> bool:
    """Returns whether XLA will compile the function that is being traced (`jit_compile=True`)."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        context = graph._get_control_flow_context()
        while context is not None:
            if context.IsXLAContext():
                return True
            context = context.outer_context
        graph = getattr(graph, "outer_graph", None)
    return False


def value_of(tensor: Tensor) -> Tensor:
    """Returns the tensor, or the value of a variable, because a custom gradient takes no variables."""
    return tf.convert_to_tensor(tensor)


def fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    bias: Tensor | None,
    scale: float | Tensor,
    is_causal: bool = False,
    window: int | None = None,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
) -> Tensor:
    """Raises an error, because TensorFlow has no fused attention."""
    raise NotImplementedError("TensorFlow has no fused attention.")


def fused_is_linear(query: Tensor, masked: bool, biased: bool) -> bool:
    """As the JAX adapter's `fused_is_linear`."""
    del query, masked, biased
    return False


def fused_skips(query: Tensor) -> bool:
    """As the JAX adapter's `fused_skips`."""
    del query
    return False


def device_kind(tensor: Tensor | None = None) -> str:
    """Returns the kind of device that computes a tensor, or the kind of the default device if it is not known.

    Args:
        tensor: A tensor, or None for the default device: a TPU or a GPU if available.

    Returns:
        `"cpu"`, `"gpu"`, `"tpu"`, or the lower-case name of another kind.
    """
    name = tensor.device if tensor is not None and tf.is_tensor(tensor) else None
    kind = tf.DeviceSpec.from_string(name).device_type if name else None
    if kind is None:
        kinds = {device.device_type for device in tf.config.list_logical_devices()}
        kind = next((each for each in ("TPU", "GPU") if each in kinds), "CPU")
    return "tpu" if kind.startswith("TPU") else kind.lower()  # inside a replica: TPU_REPLICATED_CORE


def with_gradient(
    function: Callable[..., tuple[Tensor, State]], gradient: Callable[..., tuple[Tensor, ...]], *tensors: Tensor
) -> Tensor:
    """Returns the outputs of `function(*tensors)`, whose gradient is `gradient`.

    Args:
        function: From tensors to the outputs and what the gradient needs of the computation, a structure of tensors.
        gradient: From the gradient of the outputs, what `function` kept, and the tensors, to their gradients.
        *tensors: The tensors. The gradient reads them from the closure, as a loop keeps the arguments of a custom
            gradient once per step, even those that are the same in all steps.
    """

    @tf.custom_gradient
    def run(*arguments: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
        outputs, kept = function(*arguments)
        return outputs, lambda upstream: gradient(upstream, kept, *tensors)

    return run(*tensors)


def with_later_gradient(
    value: Tensor, weights: tuple[Tensor, ...], gradient: Callable[[Tensor], tuple[Tensor, ...]]
) -> Tensor:
    """Returns `value`; `gradient` computes the gradients of the weights from the gradient of the value.

    It runs in the backward pass, so that it may read what was computed after `value`. First order only: a
    gradient of these gradients would miss what depends on the weights, and is refused.
    """

    @tf.custom_gradient
    def run(value: Tensor, *weights: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
        return tf.identity(value), lambda upstream: tuple(map(first_order, (upstream, *gradient(upstream))))

    def first_order(tensor: Tensor) -> Tensor:
        message = "A gradient of the gradient of a recurrent decoder needs a call with training=False."
        return tf.raw_ops.PreventGradient(input=tensor, message=message)

    return run(value, *weights)


def tanh_gradient(outputs: Tensor, upstream: Tensor) -> Tensor:
    """Returns `upstream * (1 - outputs^2)`, the gradient of a tanh with these outputs, in one pass."""
    return tf.raw_ops.TanhGrad(y=outputs, dy=upstream)


def write_rows(table: Tensor, rows: Tensor, values: Tensor, in_place: bool) -> Tensor:
    """Returns the table `[R, K]` with the values `[n, K]` in the rows `[n]`.

    Args:
        in_place: Whether the table itself may be overwritten, because it is not read again.
    """
    if in_place and not in_xla():  # its cost does not depend on R; outside XLA, that of a scatter does
        return tf.ensure_shape(tf.raw_ops.InplaceUpdate(x=table, i=rows, v=values), table.shape)
    return tf.tensor_scatter_nd_update(table, rows[:, None], values)


def while_loop(condition: Callable[[State], Tensor], body: Callable[[State], State], carry: State) -> State:
    """Runs `carry = body(carry)` while `condition(carry)`; shapes and dtypes of the carry stay the same."""
    nested = tree.flatten(carry)
    used = [place for place, tensor in enumerate(nested) if tensor is not None]

    def pack(flat: Sequence[Tensor]) -> State:
        tensors = dict(zip(used, flat))
        return tree.pack_sequence_as(carry, [tensors.get(place) for place in range(len(nested))])

    def turn(*flat: Tensor) -> list[Tensor]:
        new = tree.flatten(body(pack(flat)))
        return [same_shape(new[place], old) for place, old in zip(used, flat)]

    flat = tf.while_loop(
        lambda *flat: condition(pack(flat)), turn, [tf.convert_to_tensor(nested[place]) for place in used]
    )
    return pack(flat)


def no_gradient() -> contextlib.AbstractContextManager[None]:
    """Returns a context in which nothing is stored for gradients; outside a tape TensorFlow stores nothing."""
    return contextlib.nullcontext()


def compiled(
    model: keras.Model, function: Callable[..., State], examples: Sequence[Tensor | None], jit_compile: bool
) -> Callable[..., State]:
    """Returns `function(*tensors)` compiled, traced once for tensors of all sizes.

    Args:
        model: The model whose weights the function reads.
        examples: Tensors with the ranks and dtypes of the arguments, or None.
        jit_compile: Whether XLA compiles it, once per shape.
    """
    del model
    specs = [each if each is None else tf.TensorSpec([None] * len(each.shape), each.dtype) for each in examples]
    known = [spec for spec in specs if spec is not None]

    @functools.partial(tf.function, input_signature=known, jit_compile=jit_compile, autograph=False)
    def run(*given: Tensor) -> State:
        tensors = iter(given)
        return function(*(None if spec is None else next(tensors) for spec in specs))

    return lambda *tensors: run(*(tensor for tensor in tensors if tensor is not None))


def copy(tensor: Tensor) -> Tensor:
    """Returns a copy that shares no memory, so that it can be written in place; constants of a graph may share it."""
    return tensor if in_xla() else tf.ensure_shape(tf.raw_ops.DeepCopy(x=tensor), tensor.shape)


def random_seed() -> Tensor:
    """Returns random integers `[2]`; no variable is used, so that it can be saved in a graph."""
    return tf.cast(tf.random.uniform((2,), maxval=2**31 - 1, dtype=tf.int32), tf.uint32)
