"""Weights in from the layers of Keras and PyTorch, so that trained models move over as they are."""

import numpy as np

from keras_attn.blocks import DecoderBlock, EncoderBlock
from keras_attn.checks import short_repr
from keras_attn.memory_attention import EncoderDecoderAttention
from keras_attn.self_attention import MultiHeadSelfAttention
from keras_attn.stacks import Decoder, Encoder


def from_keras(layer, source):
    """Copies the weights of a `keras.layers.MultiHeadAttention`.

    Args:
        layer: A built `MultiHeadSelfAttention` or `EncoderDecoderAttention` of the same sizes.
        source: The built Keras layer.

    Raises:
        ValueError: If the layer is of another kind, not built, or of other sizes.

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
    check_kind(layer, (MultiHeadSelfAttention, EncoderDecoderAttention))
    weights = source.get_weights()
    kernels, biases = (weights[::2], weights[1::2]) if len(weights) == 8 else (weights, [])
    *inner, out = [
        array.reshape(-1, array.shape[-1]) if i == 3 else flat_heads(array) for i, array in enumerate(kernels)
    ]
    set_attention(layer, inner, [bias.reshape(-1) for bias in biases[:3]], [out, *biases[3:]])


def from_torch(layer, state, prefix=""):
    """Copies the weights of PyTorch's attention, Transformer layers and stacks.

    Understands the `state_dict()` of `nn.MultiheadAttention`, `nn.TransformerEncoderLayer`,
    `nn.TransformerDecoderLayer`, `nn.TransformerEncoder` and `nn.TransformerDecoder`.

    Args:
        layer: The built layer of ours that does the same, of the same sizes: post-norm for
            `norm_first=False`, `PreNorm` for `norm_first=True`.
        state: Dictionary from PyTorch's names to arrays: `{k: v.numpy() for k, v in m.state_dict().items()}`.
        prefix: Taken off the front of the names.

    Raises:
        ValueError: If the layer is of another kind, not built, of other sizes, or if names of
            `state` are missing or left over.
    """
    check_kind(layer, (MultiHeadSelfAttention, EncoderDecoderAttention, EncoderBlock, DecoderBlock, Encoder, Decoder))
    state = {name.removeprefix(prefix): np.asarray(array) for name, array in state.items() if name.startswith(prefix)}
    try:
        copy_torch(layer, state)
    except KeyError as error:
        raise ValueError(f"`state` must hold {error} for a {layer.__class__.__name__}.") from error
    if state:
        raise ValueError(f"`state` must hold nothing but the layer's weights. Received besides: {sorted(state)}.")


def copy_torch(layer, state):
    """Copies and takes out of `state` what belongs to `layer`."""
    if isinstance(layer, (MultiHeadSelfAttention, EncoderDecoderAttention)):
        kernels = np.split(state.pop("in_proj_weight"), 3)
        biases = np.split(state.pop("in_proj_bias"), 3) if "in_proj_bias" in state else []
        set_attention(layer, [kernel.T for kernel in kernels], biases, torch_linear(state, "out_proj"))
    elif isinstance(layer, (Encoder, Decoder)):
        for index, block in enumerate(layer.blocks):
            copy_part(block, state, f"layers.{index}.")
        if layer.final_norm is not None:
            set_norm(layer.final_norm, state, "norm")
    else:
        copy_part(layer.attention, state, "self_attn.")
        if isinstance(layer, DecoderBlock):
            copy_part(layer.memory_attention, state, "multihead_attn.")
        layer.feed_forward.hidden_projection.set_weights(torch_linear(state, "linear1"))
        layer.feed_forward.out_projection.set_weights(torch_linear(state, "linear2"))
        for index, norm in enumerate(layer.norms, start=1):
            set_norm(norm, state, f"norm{index}")


def copy_part(layer, state, prefix):
    """Copies the part of `state` under `prefix` and takes it out."""
    part = {name.removeprefix(prefix): state.pop(name) for name in list(state) if name.startswith(prefix)}
    copy_torch(layer, part)
    state.update({prefix + name: array for name, array in part.items()})


def set_attention(layer, kernels, biases, out):
    """Sets query, key and value kernels `[D, H * K]` and biases, fused as our layers hold them."""
    if isinstance(layer, MultiHeadSelfAttention):
        groups = [(layer.in_projection, slice(0, 3))]
    else:
        groups = [(layer.query_projection, slice(0, 1)), (layer.memory_projection, slice(1, 3))]
    for projection, part in groups:
        joined = [np.concatenate(arrays[part], axis=-1) for arrays in (kernels, biases) if len(arrays)]
        projection.set_weights(joined)
    layer.out_projection.set_weights(out)


def set_norm(norm, state, name):
    """Sets scale and offset of a layer norm."""
    arrays = [state.pop(f"{name}.weight")]
    norm.set_weights([*arrays, state.pop(f"{name}.bias")] if f"{name}.bias" in state else arrays)


def torch_linear(state, name):
    """Takes a linear map out of `state`: kernel `[in, out]` and, where there is one, bias."""
    kernel = state.pop(f"{name}.weight").T
    return [kernel, state.pop(f"{name}.bias")] if f"{name}.bias" in state else [kernel]


def flat_heads(kernel):
    """`[D, H, K]` -> `[D, H * K]`."""
    return kernel.reshape(kernel.shape[0], -1)


def check_kind(layer, kinds):
    """Raises a `ValueError` unless `layer` is a built layer of one of `kinds`."""
    if not isinstance(layer, kinds) or not layer.built:
        raise ValueError(
            f"`layer` must be a built {' or '.join(kind.__name__ for kind in kinds)}: call it once before. "
            f"Received: layer={short_repr(layer)}."
        )
