"""Dtype policies of the parts of a layer, which follow the policy of the layer."""

from __future__ import annotations

import keras

from keras_attn.base.types import Config, Serialized

DTypePolicyMap = keras.dtype_policies.DTypePolicyMap


def with_policy(config: Config, policy: keras.DTypePolicy) -> Config:
    """Returns a layer's config with the policy of its parts changed to that of the layer.

    Parts are saved with the policy of the layer that contains them. If the policy of a part is not `policy`,
    it was the layer's old policy and is replaced everywhere. Other policies are kept.
    """
    new = plain_policy(policy)
    parts = [item for value in config.values() for item in (value if isinstance(value, (list, tuple)) else [value])]
    for part in parts:
        own = part.get("config") if isinstance(part, dict) else None
        # Keras does not use the policy of a model, which may differ from that of the layer that contains it.
        if isinstance(own, dict) and own.get("dtype") is not None and "layers" not in own:
            old = plain_policy(keras.dtype_policies.get(own["dtype"]))
            if (old.compute_dtype, old.variable_dtype) != (new.compute_dtype, new.variable_dtype):
                config = {name: replace_policy(value, old.name, new.name) for name, value in config.items()}
    return config


def plain_policy(policy: keras.DTypePolicy) -> keras.DTypePolicy:
    """Returns the policy that a layer had before `quantize`."""
    if isinstance(policy, DTypePolicyMap):
        return plain_policy(policy.default_policy)
    return policy if policy.quantization_mode is None else keras.DTypePolicy(policy.get_config()["source_name"])


def replace_policy(config: Serialized, old: str, new: str) -> Serialized:
    """Returns a config with all policies named `old` replaced by `new`, also as the source of quantised policies."""
    if isinstance(config, (list, tuple)):
        return [replace_policy(item, old, new) for item in config]
    if not isinstance(config, dict):
        return config
    if str(config.get("class_name")).endswith("DTypePolicy"):
        own = config["config"].items()
        return {**config, "config": {name: new if value == old else value for name, value in own}}
    replaced = {name: replace_policy(value, old, new) for name, value in config.items()}
    return {**replaced, "dtype": new} if config.get("dtype") == old else replaced
