"""Checks that a layer of Keras or PyTorch computes the same as the layer that its weights are copied to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_attn import masks
from keras_attn.attention.dot_product import DotProduct
from keras_attn.attention.encoder_decoder_attention import EncoderDecoderAttention
from keras_attn.attention.self_attention import MultiHeadSelfAttention
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Config, Tensor
from keras_attn.transformer.decoder_block import DecoderBlock
from keras_attn.transformer.encoder_block import EncoderBlock
from keras_attn.transformer.feed_forward import FeedForward
from keras_attn.transformer.residual import PostNorm, PreNorm
from keras_attn.transformer.stacks import Decoder, Encoder

if TYPE_CHECKING:
    import torch
    from typing_extensions import TypeIs

ATTENTIONS = MultiHeadSelfAttention, EncoderDecoderAttention
Attention: TypeAlias = MultiHeadSelfAttention | EncoderDecoderAttention
Block: TypeAlias = EncoderBlock | DecoderBlock
Stack: TypeAlias = Encoder | Decoder


def check_keras_options(layer: Attention, config: Config) -> None:
    """Raises a `ValueError` unless a Keras attention with this config computes the same as `layer`."""
    head_size, query_width, key_width = layer.head_sizes
    groups = "num_key_value_heads" in config
    heads = ("num_query_heads", "num_key_value_heads", "head_dim") if groups else ("num_heads", "num_heads", "key_dim")
    for name, wanted in zip(heads, (query_width // head_size, key_width // head_size, head_size), strict=True):
        check_option("source", name, config[name], wanted)
    check_option("source", "value_dim", config.get("value_dim", head_size), head_size)
    check_option("source", "use_bias", config["use_bias"], layer.use_bias)
    if config.get("output_shape") is not None:
        check_option("source", "output_shape", tuple(config["output_shape"]), (layer.out_projection.units,))
    if config.get("attention_axes") is not None:
        check_option("source", "attention_axes", tuple(config["attention_axes"]), (1,))
    check_option("source", "use_gate", config.get("use_gate", False), False)
    window = config.get("sliding_window")
    pattern = getattr(layer, "mask", None)
    if window is not None:
        same = masks.Window(window)
        if pattern not in (same, masks.Causal() & same, same & masks.Causal()):
            raise ValueError(
                f"`layer` must have mask=Window({window}), with `Causal()` or without, as `source` has "
                f"sliding_window={window}. Received: layer.mask={pattern!r}."
            )


def check_module(layer: Attention | Block | Stack, module: torch.nn.Module) -> None:
    """Raises a `ValueError` unless the attributes of a PyTorch module agree with those of `layer`."""
    if isinstance(layer, ATTENTIONS):
        check_option("state", "num_heads", getattr(module, "num_heads", None), layer.num_heads)
        check_option("state", "add_zero_attn", getattr(module, "add_zero_attn", False), False)
    elif isinstance(layer, (Encoder, Decoder)):
        theirs = list(getattr(module, "layers", ()))
        check_option("state", "num_layers", len(theirs), layer.num_layers)
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


def check_norm(name: str, ours: keras.layers.Layer | None, theirs: torch.nn.Module | None) -> None:
    """Raises a `ValueError` if two norms differ in epsilon; a missing norm raises one when weights are copied."""
    epsilon, own = getattr(theirs, "eps", None), getattr(ours, "epsilon", None)
    if own is not None and epsilon is not None and not math.isclose(epsilon, own):
        check_option("state", f"{name}.eps", epsilon, own)


def check_activation(ours: Callable[[Tensor], Tensor], module: torch.nn.Module) -> None:
    """Raises a `ValueError` unless the activations of both feed-forward layers agree on sample inputs."""
    activation = getattr(module, "activation", None)
    if activation is None:  # not a Transformer layer, so its weights do not match
        return
    numbers = np.linspace(-4, 4, 17, dtype="float32")
    theirs = activation(next(module.parameters()).detach().cpu().float().new_tensor(numbers.tolist()))
    wanted = ops.convert_to_numpy(ours(ops.convert_to_tensor(numbers)))
    if not np.allclose(theirs.detach().numpy(), wanted, atol=1e-5):
        name = getattr(activation, "__name__", activation.__class__.__name__)
        raise ValueError(f"`state` must have the activation {ours.__name__} of `layer`. Received: {name}.")


def check_plain(attention: Attention) -> None:
    """Raises a `ValueError` for an attention with a score or positions that Keras and PyTorch lack."""
    if attention.score != DotProduct() or getattr(attention, "position", None) is not None:
        raise ValueError(
            "`layer` must have the plain score and no position, like the attention whose weights are copied. "
            f"Received: score={attention.score!r}, position={getattr(attention, 'position', None)!r}."
        )


def check_parts(block: Block) -> None:
    """Raises a `ValueError` for a block with parts that PyTorch's Transformer layers lack."""
    parts = {
        "attention": MultiHeadSelfAttention,
        "memory_attention": EncoderDecoderAttention,
        "feed_forward": FeedForward,
    }
    for name, kind in parts.items():
        part = getattr(block, name, None)
        if part is not None and not isinstance(part, kind):
            raise ValueError(f"`layer` must have a {kind.__name__} as `{name}`. Received: {name}={short_repr(part)}.")


def check_option(argument: str, name: str, found: object, wanted: object) -> None:
    """Raises a `ValueError` unless an option of the source equals that of the layer."""
    if found != wanted:
        raise ValueError(
            f"`{argument}` must have {name}={wanted!r}, like `layer`. Received: {name}={short_repr(found)}."
        )


def is_module(source: object) -> TypeIs[torch.nn.Module]:
    """Returns whether a source of weights is a PyTorch module, not a dictionary."""
    return callable(getattr(source, "state_dict", None))


def check_kind(layer: keras.layers.Layer, kinds: tuple[type[keras.layers.Layer], ...]) -> None:
    """Raises a `ValueError` unless `layer` is a built layer of one of `kinds`."""
    if not isinstance(layer, kinds) or not layer.built:
        raise ValueError(
            f"`layer` must be a built {' or '.join(kind.__name__ for kind in kinds)}: call it once before. "
            f"Received: layer={short_repr(layer)}."
        )
