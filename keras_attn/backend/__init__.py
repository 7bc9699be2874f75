"""The only code that depends on the backend of Keras: one adapter per backend, with the same functions.

- `scan(step, carry, inputs, like)`: a differentiable loop over the leading axis.
- `fori(low, high, body, carry)`: a loop over indices that is not differentiated.
- `zero_blocks`, `add_to_block`, `stack_blocks`: sums of blocks that a loop adds to in place.
- `block_uniform(shape, seed, row, column)`: random numbers that depend on these arguments alone.
- `with_gradient(function, gradient, *tensors)`: a call with a gradient of its own.
- `with_later_gradient(value, weights, gradient)`: the gradients of weights from the gradient of a value, computed
  from what comes after it, if the backend `has_later_gradient`.
- `tanh_gradient(outputs, upstream)`: the gradient of a tanh, given its outputs.
- `product(left, right, transpose_left, transpose_right)`: matrix products summed in float32 or wider.
- `layer_norm(x, gamma, beta, epsilon)`: layer normalisation of the last axis. `dropout(x, rate, seed)`: dropout.
- `fused(query, key, value, visible, bias, scale, is_causal, window, query_mask, key_mask)`: the backend's own
  attention, if it `has_fused`.
- `fused_is_linear(query, masked, biased)`: whether its memory is linear in length.
- `fused_skips(query)`: whether it takes the last three arguments, and skips what they hide.
- `device_kind(tensor)`: the kind of device that computes it, `"cpu"`, `"gpu"`, `"tpu"`, or another name.
- `in_xla()`: whether XLA compiles the function that is being traced.
- `value_of(tensor)`: the tensor, or the value of a variable.
- `write_rows(table, rows, values, in_place)`: a table with new values in some rows.
- `real_rows(mask)`, `gather_rows(x, rows, places, weights)`: the positions that are not padding, where the backend
  `has_free_shapes()`.
- `while_loop(condition, body, carry)`, `no_gradient()`: the loop of generation.
- `compiled(model, function, examples, jit_compile)`: a compiled function that reads the model's weights.
- `copy(tensor)`: a copy that shares no memory. `random_seed()`: new random integers at each call.
- `is_concrete(tensor)`: whether the tensor's values can be read now.
"""

import importlib
from typing import TYPE_CHECKING

import keras

BACKENDS = ("tensorflow", "jax", "torch")

if keras.config.backend() not in BACKENDS:
    raise ImportError(f"keras_attn runs on one of {BACKENDS}. Received: Keras backend {keras.config.backend()!r}.")
if TYPE_CHECKING:  # all adapters have the same signatures
    from keras_attn.backend import tensorflow as adapter
else:
    adapter = importlib.import_module(f"keras_attn.backend.{keras.config.backend()}")

add_to_block = adapter.add_to_block
block_uniform = adapter.block_uniform
compiled = adapter.compiled
device_kind = adapter.device_kind
dropout = adapter.dropout
fori = adapter.fori
copy = adapter.copy
random_seed = adapter.random_seed
real_rows = adapter.real_rows
fused = adapter.fused
fused_is_linear = adapter.fused_is_linear
fused_skips = adapter.fused_skips
gather_rows = adapter.gather_rows
has_free_shapes = adapter.has_free_shapes
has_fused = adapter.has_fused
has_later_gradient = adapter.has_later_gradient
in_xla = adapter.in_xla
is_concrete = adapter.is_concrete
layer_norm = adapter.layer_norm
no_gradient = adapter.no_gradient
product = adapter.product
scan = adapter.scan
stack_blocks = adapter.stack_blocks
tanh_gradient = adapter.tanh_gradient
value_of = adapter.value_of
while_loop = adapter.while_loop
with_gradient = adapter.with_gradient
with_later_gradient = adapter.with_later_gradient
write_rows = adapter.write_rows
zero_blocks = adapter.zero_blocks
