"""The base class of the blocks: their slots, and the residual connections around their sublayers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from keras_attn import masks
from keras_attn.attention.chunk import Chunk
from keras_attn.attention.doors import Doors
from keras_attn.attention.encoder_decoder_attention import EncoderDecoderAttention
from keras_attn.attention.self_attention import MultiHeadSelfAttention
from keras_attn.base.checks import check_positive, check_rate, check_slot
from keras_attn.base.cloning import check_same
from keras_attn.base.slot_layers import (
    accepted,
    call_slot,
    check_call,
    check_returns,
    is_plain,
    run_slot,
)
from keras_attn.base.types import Activation, Config, LayerArguments, Shape, State, Tensor
from keras_attn.layers.dropout import Dropout
from keras_attn.positions import HeadPosition
from keras_attn.transformer.feed_forward import FeedForward, PositionWise
from keras_attn.transformer.residual import PostNorm, Residual

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

OPTIONAL = "training", "query_mask"  # a layer may lack them: padded queries do not affect other positions
PLAIN = {"attention": MultiHeadSelfAttention, "memory_attention": EncoderDecoderAttention}


class Block(Doors):
    """Base class of both blocks: the slots, and one norm (or two) and one dropout per sublayer."""

    num_sublayers = 0

    def __init__(
        self,
        num_heads: int,
        hidden_size: int,
        dropout: float = 0.1,
        mask: masks.Pattern | None = None,
        position: HeadPosition | None = None,
        residual: Residual | None = None,
        feed_forward: keras.layers.Layer | None = None,
        attention: keras.layers.Layer | None = None,
        activation: Activation | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(**kwargs)
        check_positive("num_heads", num_heads)
        check_positive("hidden_size", hidden_size)
        check_rate("dropout", dropout)
        policy = self.dtype_policy
        self.num_heads = num_heads
        self.hidden_size = hidden_size
        self.dropout = dropout
        masks.check_pattern("mask", mask)
        check_slot("position", position, HeadPosition)
        self.residual = check_slot("residual", residual, Residual) or PostNorm()
        if callable(self.residual):  # the form of `residual` up to 0.1.0, which would be ignored
            raise ValueError(f"`residual` must define `before` and `after`. Received: {self.residual!r}, a function.")
        if attention is None:
            attention = MultiHeadSelfAttention(num_heads, mask=mask, position=position, dtype=policy, name="attention")
        self.attention = self.check_child("attention", attention)
        check_call("attention", attention, "inputs")
        if accepted(attention)("mask"):
            attention.supports_masking = True  # otherwise Keras warns for every mask that it is not passed on
        given = {"mask": mask, "position": position}
        ours = isinstance(attention, MultiHeadSelfAttention)  # other layers may have no heads
        check_same("attention", attention, {**given, "num_heads": num_heads} if ours else given)
        if feed_forward is None:
            feed_forward = FeedForward(hidden_size, activation or "relu", dtype=policy, name="feed_forward")
        self.feed_forward = self.check_child("feed_forward", feed_forward)
        check_call("feed_forward", feed_forward, "inputs")
        if getattr(feed_forward, "hidden_size", None) is not None:  # other layers may lack it
            check_same("feed_forward", feed_forward, {"hidden_size": hidden_size})
        if activation is not None:
            check_same("feed_forward", feed_forward, {"activation": keras.activations.get(activation)})
        norms = self.residual.norms(self.num_sublayers)
        self.norms = [norm.make(f"norm_{i}", policy) for i, norm in enumerate(norms)]
        if self.residual.two_norms:
            self.after_norms = [norm.make(f"after_norm_{i}", policy) for i, norm in enumerate(norms)]
        self.dropouts = [Dropout(dropout, dtype=policy, name=f"dropout_{i}") for i in range(self.num_sublayers)]

    @property
    def mask(self) -> masks.Pattern | None:
        """The static mask pattern of the attention."""
        return getattr(self.attention, "mask", None)

    @property
    def position(self) -> HeadPosition | None:
        """The `position` of the attention."""
        return getattr(self.attention, "position", None)

    @property
    def activation(self) -> Activation | None:
        """The activation of the feed-forward layer, or None if it has none."""
        return getattr(self.feed_forward, "activation", None)

    @property
    def is_position_wise(self) -> bool:
        """Whether only the attention layers read other positions, and they are of this library."""
        return (
            is_plain(self.attention, MultiHeadSelfAttention)
            and self.attention.__class__.run is MultiHeadSelfAttention.run  # another may not take a stream
            and isinstance(self.feed_forward, PositionWise)
            and self.feed_forward.__class__.call is PositionWise.call
            and self.residual.is_position_wise
        )

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Creates the block. `hidden_size` is that of its feed-forward layer: older versions ignored the block's."""
        feed_forward = config.get("feed_forward")
        own = feed_forward["config"].get("hidden_size") if isinstance(feed_forward, dict) else None
        return super().from_config(config if own is None else {**config, "hidden_size": own})

    def check_arguments(self, arguments: Mapping[str, object]) -> dict[str, int]:
        self.check_slots(arguments)
        return super().check_arguments(arguments)

    def check_slots(self, arguments: Mapping[str, object]) -> None:
        """Raises a `ValueError` for call arguments that the layers in the slots do not accept."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `check_slots(arguments)`.")

    def before(self, i: int, x: Tensor) -> Tensor:
        """Returns the input of sublayer i for the stream `x`."""
        return self.residual.before(x, self.norms[i])

    def after(self, i: int, x: Tensor, y: Tensor, training: bool | None) -> Tensor:
        """Returns the stream after sublayer i, which returned `y`."""
        norms = self.after_norms if self.residual.two_norms else self.norms
        return self.residual.after(x, self.dropouts[i](y, training=training), norms[i])

    def part(
        self,
        slot: str,
        tensors: list[Tensor],
        state: State,
        chunk: Chunk | None,
        return_attention_scores: bool = False,
        **named: Any,
    ) -> tuple[Tensor, Tensor | None, State]:
        """Runs the attention in a slot. Returns its outputs, its scores or None, and its new state.

        Args:
            slot: Name of the slot.
            tensors: The stream `[B, T, D]`, and the memory `[B, S, M]` if the attention reads one from the call.
            state, chunk: As for `Doors.run`.
            return_attention_scores, **named: The other arguments of the attention's call.
        """
        named["return_attention_scores"] = return_attention_scores
        return run_slot(slot, getattr(self, slot), PLAIN[slot], tensors, state, chunk, named, OPTIONAL)

    def feed(self, x: Tensor, training: bool | None = None) -> Tensor:
        """Applies the feed-forward layer to a stream `[B, T, D]`."""
        return call_slot("feed_forward", self.feed_forward, [x], {"training": training})

    def _build_around(self, inputs_shape: Shape) -> None:
        self.model_size = inputs_shape[-1]
        self.build_child(self.attention, inputs_shape)
        self.build_child(self.feed_forward, inputs_shape)
        check_returns("attention", self.attention, inputs_shape)
        check_returns("feed_forward", self.feed_forward, inputs_shape)
        for norm in [*self.norms, *(self.after_norms if self.residual.two_norms else ())]:
            self.build_child(norm, inputs_shape)
