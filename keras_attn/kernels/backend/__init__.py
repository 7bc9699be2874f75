"""The one place that knows which backend Keras runs on: an adapter per backend, the same names in each.

- `scan(step, carry, inputs, like)`: a differentiable loop over the leading axis.
- `is_concrete(tensor)`: whether the tensor's values can be looked at now.
"""

import keras

if keras.config.backend() == "tensorflow":
    from keras_attn.kernels.backend.tensorflow import is_concrete, scan
elif keras.config.backend() == "jax":
    from keras_attn.kernels.backend.jax import is_concrete, scan
else:
    from keras_attn.kernels.backend.eager import is_concrete, scan

__all__ = ["is_concrete", "scan"]
