"""Types that the annotations of the package share. Keras and TensorFlow ship none, so a tensor is an alias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypedDict

Tensor: TypeAlias = Any
"""A tensor, variable or symbolic tensor of the backend, or a NumPy array."""

ArrayLike: TypeAlias = Any
"""What `base.tensors.to_tensor` reads: a tensor, an array, or nested lists of numbers."""

Shape: TypeAlias = tuple[int | None, ...]
"""The static shape of a tensor, None for sizes that are not static."""

DType: TypeAlias = Any
"""What Keras takes as `dtype=`: a name such as `"float32"`, or a dtype policy."""

State: TypeAlias = Any
"""A structure of tensors that a loop carries: named tuples, tuples, dictionaries. `keras.tree` walks it."""

Results: TypeAlias = Any
"""What a call returns: outputs, a tensor; with `return_attention_scores=True` a tuple of them and the scores."""

Config: TypeAlias = dict[str, Any]
"""What `get_config` returns."""

Activation: TypeAlias = str | Callable[[Tensor], Tensor]
"""What `keras.activations.get` reads."""

Identifier: TypeAlias = Any
"""What `keras.initializers.get`, `keras.regularizers.get` and `keras.constraints.get` read."""


class LayerArguments(TypedDict, total=False):
    """The arguments of `keras.layers.Layer`, which every layer of the package takes too."""

    name: str | None
    dtype: DType
    trainable: bool
    autocast: bool
    activity_regularizer: Identifier
