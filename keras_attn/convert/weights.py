"""Copies the weights of layers of Keras and PyTorch into layers of keras_attn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_attn.attention.self_attention import MultiHeadSelfAttention
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import ArrayLike
from keras_attn.convert.source_checks import (
    ATTENTIONS,
    Attention,
    Block,
    Stack,
    check_keras_options,
    check_kind,
    check_module,
    check_option,
    check_parts,
    check_plain,
    is_module,
)
from keras_attn.transformer import DecoderBlock, EncoderBlock
from keras_attn.transformer.stacks import Decoder, Encoder

if TYPE_CHECKING:
    import torch

PARTS = "query", "key", "value", "attention_output"  # of Keras' layers
LayerWeights: TypeAlias = list[tuple[keras.layers.Layer, list[np.ndarray]]]


def from_keras(layer: Attention, source: keras.layers.MultiHeadAttention | keras.layers.GroupQueryAttention) -> None:
    """Copies the weights of a `keras.layers.MultiHeadAttention` or `keras.layers.GroupQueryAttention`.

    All options that change the outputs are checked: numbers and sizes of heads, biases, sizes,
    `output_shape`, `attention_axes`, a sliding window (`mask=Window(n)` is the same), a gate, and the
    score and position of `layer`, which Keras' layers lack. `flash_attention` and dropout may differ.

    Args:
        layer: A built `MultiHeadSelfAttention` or `EncoderDecoderAttention` of the same sizes.
        source: The built Keras layer.

    Raises:
        ValueError: If a layer is of another kind or not built, or if the two compute different outputs. `layer` is
            then unchanged.

    Example:
    >>> import keras, numpy as np
    >>> from keras_attn import MultiHeadSelfAttention, convert
    >>> x = np.random.default_rng(0).normal(size=(2, 5, 16)).astype("float32")
    >>> theirs, ours = keras.layers.MultiHeadAttention(4, 4), MultiHeadSelfAttention(4)
    >>> difference = theirs(x, x) - ours(x)
    >>> convert.from_keras(ours, theirs)
    >>> bool(np.max(np.abs(theirs(x, x) - ours(x))) < 1e-5)
    True
    """
    check_kind(layer, ATTENTIONS)
    kinds = keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention
    if not isinstance(source, kinds) or not source.built:
        raise ValueError(
            "`source` must be a built keras.layers.MultiHeadAttention or keras.layers.GroupQueryAttention: "
            f"call it once before. Received: source={short_repr(source)}."
        )
    check_option("source", "variable_dtype", source.variable_dtype, layer.variable_dtype)
    check_keras_options(layer, source.get_config())
    found = {"/".join(weight.path.split("/")[-2:]): weight for weight in source.weights}
    names = [f"{part}/{kind}" for part in PARTS for kind in (("kernel", "bias") if layer.use_bias else ("kernel",))]
    if list(found) != names:
        raise ValueError(f"`source` must have exactly the weights {names}, not quantised. Received: {list(found)}.")
    arrays = {name: ops.convert_to_numpy(weight) for name, weight in found.items()}
    kernels = [flat_heads(arrays[f"{part}/kernel"]) for part in PARTS[:3]]
    biases = [arrays[f"{part}/bias"].reshape(-1) for part in PARTS[:3]] if layer.use_bias else []
    out = arrays["attention_output/kernel"]
    out = [out.reshape(-1, out.shape[-1]), *([arrays["attention_output/bias"]] if layer.use_bias else [])]
    assign_weights("source", attention_weights("source", layer, kernels, biases, out))


def from_torch(
    layer: Attention | Block | Stack, state: torch.nn.Module | Mapping[str, ArrayLike], prefix: str = ""
) -> None:
    """Copies the weights of PyTorch's attention, Transformer layers and stacks.

    Supports `nn.MultiheadAttention`, `nn.TransformerEncoderLayer`, `nn.TransformerDecoderLayer`,
    `nn.TransformerEncoder` and `nn.TransformerDecoder`, as modules or as their `state_dict()`. For a
    module, the number of heads, `norm_first`, the activation, the norms' epsilons and
    `add_zero_attn` are checked too; a state dict does not contain them.

    Args:
        layer: The built layer of keras_attn that computes the same, with the same sizes: `PostNorm`
            for `norm_first=False`, `PreNorm` for `norm_first=True`.
        state: The module, or a dictionary from PyTorch's names to arrays or tensors:
            `{k: v.numpy() for k, v in m.state_dict().items()}`.
        prefix: Removed from the start of the names; for a module, the name of the submodule to copy.

    Raises:
        ValueError: If the layer is of another kind, not built, has other sizes or computes different outputs, or if
            `state` lacks names or has unused ones. `layer` is then unchanged.
    """
    check_kind(layer, (*ATTENTIONS, EncoderBlock, DecoderBlock, Encoder, Decoder))
    if is_module(state):
        module = state.get_submodule(prefix.removesuffix("."))
        check_module(layer, module)
        state, prefix = module.state_dict(), ""
    arrays = {
        name.removeprefix(prefix): float_array(name, value) for name, value in state.items() if name.startswith(prefix)
    }
    try:
        pairs = torch_weights(layer, arrays)
    except KeyError as error:
        raise ValueError(f"`state` must hold {error} for a {layer.__class__.__name__}.") from error
    if arrays:
        raise ValueError(f"`state` must hold nothing but the layer's weights. Received in addition: {sorted(arrays)}.")
    assign_weights("state", pairs)


def torch_weights(layer: Attention | Block | Stack, state: dict[str, np.ndarray]) -> LayerWeights:
    """Removes the arrays of all parts of `layer` from `state`; returns pairs of Keras layer and arrays."""
    if isinstance(layer, ATTENTIONS):
        if "in_proj_weight" in state and state["in_proj_weight"].shape[0] % 3 == 0:
            kernels = np.split(state.pop("in_proj_weight"), 3)
        elif "q_proj_weight" in state:  # a memory of another size
            kernels = [state.pop(f"{name}_proj_weight") for name in "qkv"]
        else:
            kernels = [state.pop("in_proj_weight")]
        biases = np.split(state.pop("in_proj_bias"), 3) if "in_proj_bias" in state else []
        return attention_weights("state", layer, [each.T for each in kernels], biases, torch_linear(state, "out_proj"))
    if isinstance(layer, (Encoder, Decoder)):
        pairs = [pair for i, block in enumerate(layer.blocks) for pair in part_weights(block, state, f"layers.{i}.")]
        return pairs + ([] if layer.final_norm is None else [(layer.final_norm, torch_linear(state, "norm"))])
    check_parts(layer)
    pairs = part_weights(layer.attention, state, "self_attn.")
    if isinstance(layer, DecoderBlock):
        pairs += part_weights(layer.memory_attention, state, "multihead_attn.")
    pairs.append((layer.feed_forward.hidden_projection, torch_linear(state, "linear1")))
    pairs.append((layer.feed_forward.out_projection, torch_linear(state, "linear2")))
    return pairs + [(norm, torch_linear(state, f"norm{i}")) for i, norm in enumerate(layer.norms, start=1)]


def part_weights(layer: Attention | Block, state: dict[str, np.ndarray], prefix: str) -> LayerWeights:
    """Applies `torch_weights` to the names of `state` that start with `prefix`."""
    part = {name.removeprefix(prefix): state.pop(name) for name in list(state) if name.startswith(prefix)}
    pairs = torch_weights(layer, part)
    state.update({prefix + name: array for name, array in part.items()})
    return pairs


def attention_weights(
    argument: str, layer: Attention, kernels: list[np.ndarray], biases: list[np.ndarray], out: list[np.ndarray]
) -> LayerWeights:
    """Returns pairs of projections and arrays: kernels `[D, H * K]` and biases, fused as in our layers."""
    check_plain(layer)
    head_size, query_width, key_width = layer.head_sizes
    size = layer.out_projection.units
    if isinstance(layer, MultiHeadSelfAttention):
        groups, memory_size = [(layer.in_projection, slice(0, 3))], size
    else:
        groups = [(layer.query_projection, slice(0, 1)), (layer.memory_projection, slice(1, 3))]
        memory_size = layer.memory_projection.kernel.shape[0]
    wanted = [(size, query_width), (memory_size, key_width), (memory_size, key_width)]
    shapes = [kernel.shape for kernel in kernels]
    if shapes != wanted:
        raise ValueError(
            f"`{argument}` must have kernels of query, key and value of the shapes {wanted}, as `layer` with heads "
            f"of {head_size}. Received: {shapes}."
        )
    check_option(argument, "use_bias", bool(len(biases)), layer.use_bias)
    if biases and [len(bias) for bias in biases] != [query_width, key_width, key_width]:
        raise ValueError(
            f"`{argument}` must have biases of the sizes of its kernels. Received: {[b.shape for b in biases]}."
        )
    parts = [
        (projection, [kernels[part], biases[part]] if len(biases) else [kernels[part]]) for projection, part in groups
    ]
    return [
        *((projection, [np.concatenate(each, axis=-1) for each in arrays]) for projection, arrays in parts),
        (layer.out_projection, out),
    ]


def assign_weights(argument: str, pairs: LayerWeights) -> None:
    """Sets the weights of Keras layers: all of them, or none if one does not fit."""
    for layer, arrays in pairs:
        for weight in layer.weights:
            if not keras.backend.is_float_dtype(weight.dtype):
                raise ValueError(f"`layer` must not be quantised. Received: {weight.path} of {weight.dtype}.")
        wanted, found = [tuple(weight.shape) for weight in layer.weights], [np.shape(array) for array in arrays]
        if wanted != found:
            raise ValueError(
                f"`{argument}` must have weights of the shapes {wanted} for {layer.path}. Received: {found}."
            )
    before = [(layer, layer.get_weights()) for layer, _ in pairs]
    try:
        for layer, arrays in pairs:
            layer.set_weights(arrays)
    except BaseException:  # the layer is restored after Ctrl-C too
        for layer, arrays in before:
            layer.set_weights(arrays)
        raise


def float_array(name: str, value: ArrayLike) -> np.ndarray:
    """Returns an array or a PyTorch tensor as an array of floats; raises a `ValueError` for other dtypes."""
    if callable(getattr(value, "detach", None)):
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    array = np.asarray(value)
    if not keras.backend.is_float_dtype(array.dtype.name):
        raise ValueError(f"`state` must hold floats, not quantised weights. Received: {name} of {array.dtype}.")
    return array


def torch_linear(state: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    """Removes a linear map or a norm from `state`; returns kernel `[in, out]` or scale, and the bias if it has one."""
    kernel = state.pop(f"{name}.weight").T
    return [kernel, state.pop(f"{name}.bias")] if f"{name}.bias" in state else [kernel]


def flat_heads(kernel: np.ndarray) -> np.ndarray:
    """`[D, H, K]` -> `[D, H * K]`."""
    return kernel.reshape(kernel.shape[0], -1)
