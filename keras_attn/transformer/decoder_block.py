"""The Transformer's decoder block: masked self-attention, encoder-decoder attention and feed-forward."""

import keras
from keras import ops

from keras_attn import masks
from keras_attn.attention.chunk import Chunk, Stepwise
from keras_attn.attention.encoder_decoder_attention import EncoderDecoderAttention
from keras_attn.base.checks import check_together
from keras_attn.base.slot import register
from keras_attn.base.slot_layers import call_slot, check_call, check_given, check_returns
from keras_attn.base.tensors import as_array
from keras_attn.transformer.block import Block, extend_slot, is_plain, stepwise, with_scores
from keras_attn.transformer.residual import PostNorm

SIDES = (("inputs", ""), ("memory", "memory_"))


@register
class DecoderBlock(Stepwise, Block):
    """Masked self-attention, encoder-decoder attention and feed-forward.

    With `residual=PostNorm()`: `h = Norm(x + SelfAttention(x))`,
    `g = Norm(h + EncoderDecoderAttention(h, memory))`, `y = Norm(g + FeedForward(g))`.

    Args:
        num_heads, hidden_size, dropout, position, residual, feed_forward, attention: As for
            `EncoderBlock`.
        mask: Static pattern of the self-attention.
        memory_attention: A layer `[B, T, D], [B, S, M] -> [B, T, D]` in place of
            `EncoderDecoderAttention(num_heads)`.

    Call arguments:
        inputs: `[B, T, D]`.
        memory: `[B, S, M]`.
        inputs_mask, memory_mask: Padding `[B, T]` and `[B, S]`, filled in by Keras.
        attention_mask: Boolean, broadcasts to `[B, H, T, T]`, of the self-attention.
        memory_attention_mask: Boolean, broadcasts to `[B, H, T, S]`.
        segment_ids, memory_segment_ids: Integers `[B, T]` and `[B, S]`; 0 is padding.
        positions: Integers `[B, T]`.
        return_attention_scores: Whether to return the encoder-decoder scores too.

    Returns:
        `[B, T, D]`, or that and the encoder-decoder scores `[B, H, T, S]`.

    Masks as for `MultiHeadSelfAttention`; padded inputs and memory count as zeros.

    Raises:
        ValueError: For shapes or slots that do not fit, or a slot of another dtype policy.

    Example:
    >>> import numpy as np
    >>> from keras_attn import DecoderBlock
    >>> inputs, memory = np.ones((2, 3, 16), "float32"), np.ones((2, 5, 8), "float32")
    >>> DecoderBlock(num_heads=4, hidden_size=64)(inputs, memory).shape.as_list()
    [2, 3, 16]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.1.
    """

    axes = {
        "inputs": "BTD",
        "memory": "BSM",
        "inputs_mask": "BT",
        "memory_mask": "BS",
        "segment_ids": "BT",
        "memory_segment_ids": "BS",
        "positions": "BT",
    }
    score_masks = {"attention_mask": "BHTT", "memory_attention_mask": "BHTS"}
    num_sublayers = 3

    def __init__(
        self,
        num_heads,
        hidden_size,
        dropout=0.1,
        mask=masks.Causal(),  # noqa: B008 - slots never change
        position=None,
        residual=PostNorm(),  # noqa: B008
        feed_forward=None,
        attention=None,
        memory_attention=None,
        **kwargs,
    ):
        super().__init__(num_heads, hidden_size, dropout, mask, position, residual, feed_forward, attention, **kwargs)
        if memory_attention is None:
            memory_attention = EncoderDecoderAttention(num_heads, dtype=self.dtype_policy, name="memory_attention")
        self.memory_attention = self.check_child("memory_attention", memory_attention)
        check_call("memory_attention", memory_attention, "query", "memory")
        if isinstance(memory_attention, EncoderDecoderAttention) and memory_attention.num_heads != num_heads:
            raise ValueError(
                "`num_heads` must be the `num_heads` of the `memory_attention` it is given with. "
                f"Received: num_heads={num_heads}, memory_attention.num_heads={memory_attention.num_heads}."
            )

    def check_arguments(self, arguments):
        check_together("segment_ids", "memory_segment_ids", arguments)
        return super().check_arguments(arguments)

    def build(self, inputs_shape, memory_shape):
        self._build_around(inputs_shape)
        self.build_child(self.memory_attention, inputs_shape, memory_shape)
        check_returns("memory_attention", self.memory_attention, inputs_shape, memory_shape)

    def call(
        self,
        inputs,
        memory,
        inputs_mask=None,
        memory_mask=None,
        attention_mask=None,
        memory_attention_mask=None,
        segment_ids=None,
        memory_segment_ids=None,
        positions=None,
        return_attention_scores=False,
        training=None,
    ):
        inputs_mask = masks.real_positions(inputs_mask, segment_ids)
        memory_mask = masks.real_positions(memory_mask, memory_segment_ids)
        named = {"inputs_mask": inputs_mask, "memory_mask": memory_mask, "attention_mask": attention_mask}
        named |= {"memory_attention_mask": memory_attention_mask, "segment_ids": segment_ids}
        named |= {"memory_segment_ids": memory_segment_ids, "positions": positions}
        named["return_attention_scores"] = return_attention_scores
        inputs, memory = masks.hide(inputs, inputs_mask), masks.hide(memory, memory_mask)
        outputs, scores, _ = self.run(inputs, memory, training=training, **named)
        return (outputs, scores) if return_attention_scores else outputs

    def init_state(self, memory, memory_mask=None, initial_state=None, max_length=None, cache=None):
        """Returns the state before the first step: an empty cache, and the memory's keys and values.

        Args:
            memory, memory_mask: As for the call.
            initial_state: Not needed by this layer.
            max_length, cache: As for `MultiHeadSelfAttention.init_state`.

        Raises:
            ValueError: If the layer is not built, its mask shows the future, or there is no limit.
        """
        memory = as_array("memory", memory)
        batch_size = ops.shape(memory)[0]
        return {
            "attention": stepwise("attention", self.attention).init_state(batch_size, max_length, cache),
            "memory_attention": stepwise("memory_attention", self.memory_attention).init_state(memory, memory_mask),
        }

    def extend(self, inputs, state, index, lengths=None, return_attention_scores=False):
        """Reads T new positions of each row.

        Args:
            inputs: `[B, T, D]`, or `[B W, T, D]` with the W beams of each row side by side.
            state, index, lengths: As for `MultiHeadSelfAttention.extend`.
            return_attention_scores: Whether to return the encoder-decoder scores too, `[B, H, T, S]`.

        Returns:
            The outputs `[B, T, D]` (or them and the scores) and the new state.
        """
        inputs = as_array("inputs", inputs)
        chunk = Chunk.of("inputs", inputs, state, index, lengths, self.model_size)
        inputs = chunk.hide(ops.cast(inputs, self.compute_dtype))
        named = {"return_attention_scores": return_attention_scores}
        outputs, scores, state = self.run(inputs, None, state, chunk, **named)
        return ((outputs, scores) if return_attention_scores else outputs), state

    def run(self, x, memory=None, state=None, chunk=None, training=False, **named):
        """The body of `call` and `extend`: returns outputs, encoder-decoder scores or None, and the new state.

        Args:
            x: `[B, T, D]`; it trusts its inputs, as `MultiHeadSelfAttention.attend` does.
            memory: `[B, S, M]`, or None where the state holds the memory's keys and values.
            state, chunk: Of an extension; None in a call.
            training: Whether dropout runs.
            **named: The call's other arguments.
        """
        cached = {"attention": None, "memory_attention": None} if state is None else state
        own = {name: named.get(name) for name in ("attention_mask", "segment_ids", "positions")}
        own["mask"] = named.get("inputs_mask")
        y, _, attended = self.self_attention(self.before(0, x), cached["attention"], chunk, own, training)
        x = self.after(0, x, y, training)
        y, scores = self.read(self.before(1, x), memory, cached["memory_attention"], chunk, named, training)
        x = self.after(1, x, y, training)
        y = self.feed(self.before(2, x), training)
        return self.after(2, x, y, training), scores, {**cached, "attention": attended}

    def read(self, x, memory, state, chunk, named, training):
        """Returns the outputs of the encoder-decoder attention, and its scores or None."""
        layer, plain = self.memory_attention, is_plain(self.memory_attention, EncoderDecoderAttention)
        scores = {"return_attention_scores": named.get("return_attention_scores", False)}
        if chunk is not None:
            if plain:
                return layer.attend_shared(x, state, chunk, **scores)
            return extend_slot("memory_attention", layer, x, state, chunk, scores)[:2]
        packed = named.get("memory_segment_ids") is not None
        named = {
            "query_mask": named.get("inputs_mask"),
            "memory_mask": named.get("memory_mask"),
            "attention_mask": named.get("memory_attention_mask"),
            "query_segment_ids": named.get("segment_ids") if packed else None,
            "memory_segment_ids": named.get("memory_segment_ids"),
            **scores,
            "training": training,
        }
        if plain:
            return layer.attend(x, layer.memory_heads(memory), **named)
        optional = ("training", "query_mask")  # padded queries spoil nobody else
        return with_scores(call_slot("memory_attention", layer, [x, memory], named, optional))

    def compute_output_shape(self, inputs_shape, memory_shape):
        return tuple(inputs_shape)

    def compute_output_spec(self, inputs, memory, *args, return_attention_scores=False, **kwargs):
        outputs = keras.KerasTensor(inputs.shape, self.compute_dtype)
        if not return_attention_scores:
            return outputs
        return outputs, self.memory_attention.compute_output_spec(inputs, memory, return_attention_scores=True)[1]

    def check_slots(self, arguments):
        """Raises a `ValueError` for arguments of a call that the layers in the slots do not take."""
        get = arguments.get
        padding = {side: masks.first_given(get(f"{side}_mask"), get(f"{end}segment_ids")) for side, end in SIDES}
        named = {name: get(name) for name in ("attention_mask", "segment_ids", "positions")}
        check_given("attention", self.attention, {"mask": padding["inputs"], **named})
        named = {name: get(name) for name in ("memory_segment_ids", "return_attention_scores")}
        named |= {"memory_mask": padding["memory"], "attention_mask": get("memory_attention_mask")}
        check_given("memory_attention", self.memory_attention, named)
