"""Copies of models in another dtype, whose weights are rounded once, before they are written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from keras_attn.base.policies import replace_policy
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Config, Serialized
from keras_attn.decoding.protocol import decodes
from keras_attn.models.id_model import IdModel
from keras_attn.models.layers import Logits
from keras_attn.pretrained import Pretrained

DTYPES: Sequence[str] = ("bfloat16", "float16")


def in_dtype(model: Any, dtype: str | None) -> Any:
    """Returns a copy of a model that generates, with weights and arithmetic in `dtype`; the model itself for None.

    Logits, softmax, norms and positions stay in float32, as under every dtype policy.

    Args:
        model: A recipe, or what `pretrained.load` returns.
        dtype: `"bfloat16"`, `"float16"` or None.

    Raises:
        ValueError: For another dtype, and for models that are no recipes or do not generate.
    """
    if dtype is None:
        return model
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {list(DTYPES)} or None. Received: dtype={short_repr(dtype)}.")
    if isinstance(model, Pretrained):
        return dataclasses.replace(model, model=in_dtype(model.model, dtype))
    if not decodes(model) or not isinstance(model, IdModel):
        raise ValueError(
            "`dtype` needs a model of `keras_attn.models` that generates, which can be copied. "
            f"Received: {short_repr(model)}."
        )
    config = model.get_config()
    layers = [each if each["class_name"] == Logits.__name__ else with_dtype(each, dtype) for each in config["layers"]]
    copied: keras.Model = model.__class__.from_config({**config, "layers": layers})
    copied.set_weights(model.get_weights())
    return copied


def with_dtype(config: Config, dtype: str) -> Config:
    """Returns the config of a layer whose dtype policy, and those of its parts, are replaced by that of a dtype."""
    policy = keras.dtype_policies.get(config["config"].get("dtype"))
    return without_orthogonal(replace_policy(config, policy.name, dtype))


def without_orthogonal(config: Serialized) -> Serialized:
    """Returns a config whose orthogonal initialisers are zeros: TensorFlow has none in half precision."""
    if isinstance(config, list):
        return [without_orthogonal(item) for item in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") in ("Orthogonal", "OrthogonalInitializer"):
        return keras.saving.serialize_keras_object(keras.initializers.Zeros())
    return {name: without_orthogonal(value) for name, value in config.items()}
