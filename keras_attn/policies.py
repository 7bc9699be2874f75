"""Dtype policies of parts, which follow the layer that holds them."""

import keras

DTypePolicyMap = keras.dtype_policies.DTypePolicyMap


def with_policy(config, policy):
    """Returns the config of a part, or of a list of parts, with the dtype policy of the layer that holds it.

    A part has its holder's policy, so one that was saved with another was saved under another
    holder's. What has the same old policy inside the part changes with it; all else stays.
    """
    if isinstance(config, (list, tuple)):
        return [with_policy(item, policy) for item in config]
    own = config.get("config") if isinstance(config, dict) else None
    if not isinstance(own, dict) or own.get("dtype") is None:
        return config
    old, new = (plain_policy(keras.dtype_policies.get(each)) for each in (own["dtype"], policy))
    if (old.compute_dtype, old.variable_dtype) == (new.compute_dtype, new.variable_dtype):
        return config
    return replace_policy(config, old.name, new.name)


def plain_policy(policy):
    """Returns a policy without what `quantize` added to it."""
    if isinstance(policy, DTypePolicyMap):
        return plain_policy(policy.default_policy)
    return policy if policy.quantization_mode is None else keras.DTypePolicy(policy.get_config()["source_name"])


def replace_policy(config, old, new):
    """Returns a config with the policies named `old` replaced, by themselves and as the source of quantised ones."""
    if isinstance(config, list):
        return [replace_policy(item, old, new) for item in config]
    if not isinstance(config, dict):
        return config
    if str(config.get("class_name")).endswith("DTypePolicy"):
        own = config["config"].items()
        return {**config, "config": {name: new if value == old else value for name, value in own}}
    replaced = {name: replace_policy(value, old, new) for name, value in config.items()}
    return {**replaced, "dtype": new} if config.get("dtype") == old else replaced
