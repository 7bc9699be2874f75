"""What the blocks share: their slots, and the wiring of sublayers into the residual stream."""

import keras

from keras_attn import masks
from keras_attn.attention.doors import Doors
from keras_attn.attention.encoder_decoder_attention import EncoderDecoderAttention
from keras_attn.attention.self_attention import MultiHeadSelfAttention
from keras_attn.base.checks import check_positive, check_rate, check_slot
from keras_attn.base.cloning import comparable
from keras_attn.base.slot import alike
from keras_attn.base.slot_layers import (
    accepted,
    call_slot,
    check_call,
    check_returns,
    extend_slot,
    is_plain,
    with_scores,
)
from keras_attn.base.tensors import short_repr
from keras_attn.positions import HeadPosition
from keras_attn.transformer.feed_forward import FeedForward
from keras_attn.transformer.residual import PostNorm, Residual

OPTIONAL = "training", "query_mask"  # which a layer need not know: padded queries spoil nobody else
PLAIN = {"attention": MultiHeadSelfAttention, "memory_attention": EncoderDecoderAttention}


class Block(Doors):
    """What both blocks share: the slots, and one norm and one dropout per sublayer."""

    num_sublayers = 0

    def __init__(self, num_heads, hidden_size, dropout, mask, position, residual, feed_forward, attention, **kwargs):
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
        if callable(self.residual):  # as wirings were up to 0.1.0: it would be ignored
            raise ValueError(f"`residual` must define `before` and `after`. Received: {self.residual!r}, a function.")
        if attention is None:
            attention = MultiHeadSelfAttention(num_heads, mask=mask, position=position, dtype=policy, name="attention")
        self.attention = self.check_child("attention", attention)
        check_call("attention", attention, "inputs")
        if accepted(attention)("mask"):
            attention.supports_masking = True  # else Keras warns, at every mask, that it is not passed on
        self._check_attention(num_heads=num_heads, mask=mask, position=position)
        if feed_forward is None:
            feed_forward = FeedForward(hidden_size, dtype=policy, name="feed_forward")
        self.feed_forward = self.check_child("feed_forward", feed_forward)
        check_call("feed_forward", feed_forward, "inputs")
        self._check_hidden_size()
        self.norms = [self.residual.norm.make(f"norm_{i}", policy) for i in range(self.num_sublayers)]
        self.dropouts = [
            keras.layers.Dropout(dropout, dtype=policy, name=f"dropout_{i}") for i in range(self.num_sublayers)
        ]

    @property
    def mask(self):
        """The attention's static pattern."""
        return getattr(self.attention, "mask", None)

    @property
    def position(self):
        """The attention's positions."""
        return getattr(self.attention, "position", None)

    def _check_attention(self, **given):
        """Heads, mask or position beside an attention that has others would be silently ignored."""
        if not isinstance(self.attention, MultiHeadSelfAttention):
            given.pop("num_heads")  # which such a layer need not have
        for name, value in given.items():
            own = getattr(self.attention, name, None)
            if value is not None and not alike(comparable(value), comparable(own)):
                raise ValueError(
                    f"`{name}` must be the `{name}` of the `attention` it is given with. "
                    f"Received: {name}={short_repr(value)}, attention.{name}={short_repr(own)}."
                )

    def _check_hidden_size(self):
        """A size beside a feed-forward layer of another one would be silently ignored."""
        own = getattr(self.feed_forward, "hidden_size", self.hidden_size)  # other layers need not have it
        if own != self.hidden_size:
            raise ValueError(
                f"`hidden_size` must be the `hidden_size` of the `feed_forward` it is given with. "
                f"Received: hidden_size={self.hidden_size}, feed_forward.hidden_size={short_repr(own)}."
            )

    @classmethod
    def from_config(cls, config):
        """Makes the block; a file of an older version may hold a `hidden_size` that was ignored."""
        feed_forward = config.get("feed_forward")
        own = feed_forward["config"].get("hidden_size") if isinstance(feed_forward, dict) else None
        return super().from_config(config if own is None else {**config, "hidden_size": own})

    def check_arguments(self, arguments):
        self.check_slots(arguments)
        return super().check_arguments(arguments)

    def check_slots(self, arguments):
        """Raises a `ValueError` for arguments of a call that the layers in the slots do not take."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `check_slots(arguments)`.")

    def before(self, i, x):
        """Returns what sublayer i reads of the stream `x`."""
        return self.residual.before(x, self.norms[i])

    def after(self, i, x, y, training):
        """Returns the stream after sublayer i, which returned `y`."""
        return self.residual.after(x, self.dropouts[i](y, training=training), self.norms[i])

    def part(self, slot, x, state, chunk, training, memory=None, **named):
        """Runs the attention in a slot: returns its outputs, its scores or None, and its new state.

        Args:
            slot: Name of the slot.
            x: `[B, T, D]`.
            state, chunk, training: As for `Doors.run`.
            memory: `[B, S, M]`, or None where there is none or the state holds it.
            **named: The other arguments of the attention's call.
        """
        layer = getattr(self, slot)
        tensors = {} if memory is None else {"memory": memory}
        if is_plain(layer, PLAIN[slot]):
            return layer.run(x, state, chunk, training=training, **tensors, **named)
        if chunk is not None:
            return extend_slot(slot, layer, x, state, chunk, named["return_attention_scores"])
        named |= {"training": training}
        return *with_scores(call_slot(slot, layer, [x, *tensors.values()], named, OPTIONAL)), None

    def feed(self, x, training=None):
        """The feed-forward sublayer of a stream `[B, T, D]`."""
        return call_slot("feed_forward", self.feed_forward, [x], {"training": training})

    def _build_around(self, inputs_shape):
        self.model_size = inputs_shape[-1]
        self.build_child(self.attention, inputs_shape)
        self.build_child(self.feed_forward, inputs_shape)
        check_returns("attention", self.attention, inputs_shape)
        check_returns("feed_forward", self.feed_forward, inputs_shape)
        for norm in self.norms:
            self.build_child(norm, inputs_shape)
