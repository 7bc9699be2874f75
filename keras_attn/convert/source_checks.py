"""Does the layer of Keras or PyTorch that weights come from do what the layer that gets them does?"""

import math

import numpy as np
from keras import ops

from keras_attn import masks
from keras_attn.attention.dot_product import DotProduct
from keras_attn.attention.encoder_decoder_attention import EncoderDecoderAttention
from keras_attn.attention.self_attention import MultiHeadSelfAttention
from keras_attn.base.tensors import short_repr
from keras_attn.transformer.feed_forward import FeedForward
from keras_attn.transformer.residual import PostNorm, PreNorm
from keras_attn.transformer.stacks import Decoder, Encoder

ATTENTIONS = MultiHeadSelfAttention, EncoderDecoderAttention


def check_keras_options(layer, config):
    """Raises a `ValueError` unless a Keras attention of this config does what `layer` does."""
    head_size, query_width, key_width = layer._built_sizes()
    groups = "num_key_value_heads" in config
    heads = ("num_query_heads", "num_key_value_heads", "head_dim") if groups else ("num_heads", "num_heads", "key_dim")
    for name, wanted in zip(heads, (query_width // head_size, key_width // head_size, head_size), strict=True):
        check_same("source", name, config[name], wanted)
    check_same("source", "value_dim", config.get("value_dim", head_size), head_size)
    check_same("source", "use_bias", config["use_bias"], layer.use_bias)
    if config.get("output_shape") is not None:
        check_same("source", "output_shape", tuple(config["output_shape"]), (layer.out_projection.units,))
    if config.get("attention_axes") is not None:
        check_same("source", "attention_axes", tuple(config["attention_axes"]), (1,))
    check_same("source", "use_gate", config.get("use_gate", False), False)
    window = config.get("sliding_window")
    pattern = getattr(layer, "mask", None)
    if window is not None:
        same = masks.Window(window)
        if pattern not in (same, masks.Causal() & same, same & masks.Causal()):
            raise ValueError(
                f"`layer` must have mask=Window({window}), with `Causal()` or without, as `source` has "
                f"sliding_window={window}. Received: layer.mask={pattern!r}."
            )


def check_module(layer, module):
    """Raises a `ValueError` unless a PyTorch module does what `layer` does, as far as its attributes tell."""
    if isinstance(layer, ATTENTIONS):
        check_same("state", "num_heads", getattr(module, "num_heads", None), layer.num_heads)
        check_same("state", "add_zero_attn", getattr(module, "add_zero_attn", False), False)
    elif isinstance(layer, (Encoder, Decoder)):
        theirs = list(getattr(module, "layers", ()))
        check_same("state", "num_layers", len(theirs), layer.num_layers)
        for block, their_block in zip(layer.blocks, theirs, strict=True):
            check_module(block, their_block)
        check_norm("norm", layer.final_norm, getattr(module, "norm", None))
    else:
        check_parts(layer)
        kinds = {"self_attn": layer.attention, "multihead_attn": getattr(layer, "memory_attention", None)}
        for name, attention in kinds.items():
            if attention is not None and getattr(module, name, None) is not None:
                check_module(attention, getattr(module, name))
        wiring = PreNorm if getattr(module, "norm_first", False) else PostNorm
        if not isinstance(layer.residual, wiring):
            raise ValueError(
                f"`layer` must have residual={wiring.__name__}(), as `state` has "
                f"norm_first={wiring is PreNorm}. Received: layer.residual={layer.residual!r}."
            )
        for index, norm in enumerate(layer.norms, start=1):
            check_norm(f"norm{index}", norm, getattr(module, f"norm{index}", None))
        check_activation(layer.feed_forward.activation, module)


def check_norm(name, ours, theirs):
    """Raises a `ValueError` unless two norms have one epsilon; whether both are there, the weights tell."""
    if ours is None or theirs is None or getattr(theirs, "eps", None) is None:
        return
    if not math.isclose(theirs.eps, ours.epsilon):
        check_same("state", f"{name}.eps", theirs.eps, ours.epsilon)


def check_activation(ours, module):
    """Raises a `ValueError` unless the activations of both feed-forward layers agree on some numbers."""
    numbers = np.linspace(-4, 4, 17, dtype="float32")
    theirs = module.activation(next(module.parameters()).detach().cpu().float().new_tensor(numbers.tolist()))
    wanted = ops.convert_to_numpy(ours(ops.convert_to_tensor(numbers)))
    if not np.allclose(theirs.detach().numpy(), wanted, atol=1e-5):
        name = getattr(module.activation, "__name__", module.activation.__class__.__name__)
        raise ValueError(f"`state` must have the activation {ours.__name__} of `layer`. Received: {name}.")


def check_plain(attention):
    """Raises a `ValueError` for an attention with a score or positions that neither Keras nor PyTorch has."""
    if attention.score != DotProduct() or getattr(attention, "position", None) is not None:
        raise ValueError(
            "`layer` must have the plain score and no position, as the attention it is converted from. "
            f"Received: score={attention.score!r}, position={getattr(attention, 'position', None)!r}."
        )


def check_parts(block):
    """Raises a `ValueError` for a block with parts that PyTorch's Transformer layers do not have."""
    parts = {
        "attention": MultiHeadSelfAttention,
        "memory_attention": EncoderDecoderAttention,
        "feed_forward": FeedForward,
    }
    for name, kind in parts.items():
        part = getattr(block, name, None)
        if part is not None and not isinstance(part, kind):
            raise ValueError(f"`layer` must have a {kind.__name__} as `{name}`. Received: {name}={short_repr(part)}.")


def check_same(argument, name, found, wanted):
    """Raises a `ValueError` unless the source has what the layer has."""
    if found != wanted:
        raise ValueError(f"`{argument}` must have {name}={wanted!r}, as `layer`. Received: {name}={short_repr(found)}.")


def check_kind(layer, kinds):
    """Raises a `ValueError` unless `layer` is a built layer of one of `kinds`."""
    if not isinstance(layer, kinds) or not layer.built:
        raise ValueError(
            f"`layer` must be a built {' or '.join(kind.__name__ for kind in kinds)}: call it once before. "
            f"Received: layer={short_repr(layer)}."
        )
