"""Type aliases of the whole package. Keras and TensorFlow ship no types, so a tensor is an alias of `Any`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypedDict

Tensor: TypeAlias = Any
"""A tensor, variable or symbolic tensor of the backend, or a NumPy array."""

ArrayLike: TypeAlias = Any
"""What `base.tensors.to_tensor` accepts: a tensor, an array, or nested lists of numbers."""

Shape: TypeAlias = tuple[int | None, ...]
"""The static shape of a tensor, None for sizes that are not static."""

DType: TypeAlias = Any
"""What Keras accepts as `dtype`: a name, for example `"float32"`, or a dtype policy."""

State: TypeAlias = Any
"""A structure of tensors that a loop carries: named tuples, tuples, dictionaries. `keras.tree` traverses it."""

Results: TypeAlias = Any
"""What a call returns: the outputs, or with `return_attention_scores=True` a tuple of outputs and scores."""

Config: TypeAlias = dict[str, Any]
"""What `get_config` returns."""

Activation: TypeAlias = str | Callable[[Tensor], Tensor]
"""What `keras.activations.get` accepts."""

Identifier: TypeAlias = Any
"""What `keras.initializers.get`, `keras.regularizers.get` and `keras.constraints.get` accept."""


Serialized: TypeAlias = Any
"""A serialised argument in a config: dictionaries, lists, strings, numbers, booleans, None."""

Argument: TypeAlias = Any
"""A constructor argument that a config contains: a number, a name, a layer, a slot object, or a list of them."""

CallArguments: TypeAlias = Mapping[str, Any]
"""Arguments of a layer's `call` by name: tensors, lists, booleans, None."""


class LayerArguments(TypedDict, total=False):
    """The arguments of `keras.layers.Layer`, which every layer of the package takes too."""

    name: str | None
    dtype: DType
    trainable: bool
    autocast: bool
    activity_regularizer: Identifier
