"""Dtype policies of parts, which follow the layer that holds them."""

import keras

DTypePolicyMap = keras.dtype_policies.DTypePolicyMap


def with_policy(config, policy):
    """Returns a layer's config in which the parts have the policy of the layer, where they were saved with another.

    Parts have the policy of the layer that holds them. So a part which was saved with another
    one than `policy` tells what the layer's was, and all that has that one changes; what had a
    policy of its own keeps it.
    """
    new = plain_policy(policy)
    parts = [item for value in config.values() for item in (value if isinstance(value, (list, tuple)) else [value])]
    for part in parts:
        own = part.get("config") if isinstance(part, dict) else None
        # The own policy of a model computes nothing, and need not be that of the layer which holds it.
        if isinstance(own, dict) and own.get("dtype") is not None and "layers" not in own:
            old = plain_policy(keras.dtype_policies.get(own["dtype"]))
            if (old.compute_dtype, old.variable_dtype) != (new.compute_dtype, new.variable_dtype):
                config = {name: replace_policy(value, old.name, new.name) for name, value in config.items()}
    return config


def plain_policy(policy):
    """Returns a policy without what `quantize` added to it."""
    if isinstance(policy, DTypePolicyMap):
        return plain_policy(policy.default_policy)
    return policy if policy.quantization_mode is None else keras.DTypePolicy(policy.get_config()["source_name"])


def replace_policy(config, old, new):
    """Returns a config with the policies named `old` replaced, by themselves and as the source of quantised ones."""
    if isinstance(config, (list, tuple)):
        return [replace_policy(item, old, new) for item in config]
    if not isinstance(config, dict):
        return config
    if str(config.get("class_name")).endswith("DTypePolicy"):
        own = config["config"].items()
        return {**config, "config": {name: new if value == old else value for name, value in own}}
    replaced = {name: replace_policy(value, old, new) for name, value in config.items()}
    return {**replaced, "dtype": new} if config.get("dtype") == old else replaced
