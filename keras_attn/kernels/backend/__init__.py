"""The one place that knows which backend Keras runs on: an adapter per backend, the same names in each.

- `scan(step, carry, inputs, like)`: a differentiable loop over the leading axis.
- `fori(low, high, body, carry)`: a loop over indices that is not differentiated.
- `zero_blocks`, `add_to_block`, `stack_blocks`: sums of blocks that a loop adds to in place.
- `block_uniform(shape, seed, row, column)`: random numbers that depend on nothing else.
- `is_concrete(tensor)`: whether the tensor's values can be looked at now.
"""

import keras

if keras.config.backend() == "tensorflow":
    from keras_attn.kernels.backend import tensorflow as adapter
elif keras.config.backend() == "jax":
    from keras_attn.kernels.backend import jax as adapter
elif keras.config.backend() == "torch":
    from keras_attn.kernels.backend import torch as adapter
else:
    raise ImportError(
        f"keras_attn runs on Keras with TensorFlow, JAX or PyTorch. Received: backend {keras.config.backend()!r}."
    )

add_to_block = adapter.add_to_block
block_uniform = adapter.block_uniform
fori = adapter.fori
is_concrete = adapter.is_concrete
scan = adapter.scan
stack_blocks = adapter.stack_blocks
zero_blocks = adapter.zero_blocks
