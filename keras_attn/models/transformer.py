"""The Transformer: encoder and decoder over ids."""

from keras import ops

from keras_attn.base.slot import register
from keras_attn.base.slot_layers import with_scores
from keras_attn.base.special_ids import special_ids_or_default
from keras_attn.models.embedding import (
    check_heads,
    embed,
    embed_chunk,
    embedding_layers,
    logit_layers,
    num_positions,
    project,
    split_position,
)
from keras_attn.models.inputs import id_inputs
from keras_attn.models.sequence_model import Seq2SeqModel
from keras_attn.transformer import DecoderBlock, EncoderBlock
from keras_attn.transformer.residual import PostNorm
from keras_attn.transformer.stacks import Decoder, Encoder


@register
class TransformerModel(Seq2SeqModel):
    """What `Transformer` returns: the functional model and its two halves."""

    @property
    def max_length(self):
        return num_positions(self.get_layer("target_position"))

    @property
    def source_max_length(self):
        return num_positions(self.get_layer("source_position"))

    def encode(self, source):
        """`[B, S]` ids -> the memory `[B, S, D]` and its mask `[B, S]`."""
        return encode(self.get_layer, self.read_ids("source", source, "BS", "source"), self.special_ids)

    def decode(self, target, memory, memory_mask):
        """`[B, T]` ids and the memory -> logits `[B, T, V]`."""
        target = self.read_ids("target", target, "BT", "target")
        return decode(self.get_layer, target, memory, memory_mask, self.special_ids)[0]

    def call_packed(self, source, target, packing):
        segment_ids = packing["source_segment_ids"]
        positions = packing["source_positions"]
        memory, memory_mask = encode(self.get_layer, source, self.special_ids, positions, segment_ids)
        return decode(
            self.get_layer,
            target,
            memory,
            memory_mask,
            self.special_ids,
            packing["target_positions"],
            segment_ids=packing["target_segment_ids"],
            memory_segment_ids=segment_ids,
        )[0]

    def init_state(self, source, max_length, cache=None):
        """Returns the state before the first target token: empty caches, and the memory's keys and values.

        Args:
            source: Ids `[B, S]`.
            max_length: Number of target tokens there will be at most.
            cache: How keys and values are kept: `ExactCache()` by default, or `Int8Cache()`.

        Raises:
            ValueError: If `source` is not of rank 2, or holds ids outside the vocabulary.
        """
        memory, memory_mask = self.encode(source)
        return self.get_layer("decoder").init_state(memory, memory_mask, max_length=max_length, cache=cache)

    def extend(self, tokens, state, index, lengths=None, return_attention_scores=False):
        """Reads T new target tokens per row behind what the state holds.

        Args:
            tokens: Ids `[B, T]`, at first the start id; or `[B W, T]`, the W beams of each row side by side.
            state: From `init_state`, or the `extend` or `step` before.
            index: Position of the first of them, an integer scalar or `[B]`. It may go back.
            lengths: Integers `[B]`: how many of the T tokens each row has, none to all; None means all.
            return_attention_scores: Whether to return the attention over the source too, the
                mean over blocks and heads, `[B, T, S]`.

        Returns:
            Logits `[B, T, V]` of the tokens behind each (or them and the scores), and the new state.
        """
        tokens = self.read_ids("tokens", tokens, "BT", "target")
        x = embed_chunk(self.get_layer, "target", tokens, index, lengths)
        outputs, state = self.get_layer("decoder").extend(x, state, index, lengths, return_attention_scores)
        outputs, scores = with_scores(outputs)
        logits = project(self.get_layer, outputs)
        return ((logits, ops.mean(scores, axis=(1, 2))) if return_attention_scores else logits), state

    def logits_and_scores(self, source, target):
        """As `Seq2SeqModel` says; the scores are those of every decoder block and head, `[B, N, H, T, S]`."""
        memory, memory_mask = self.encode(source)
        target = self.read_ids("target", target, "BT", "target")
        return decode(self.get_layer, target, memory, memory_mask, self.special_ids, return_attention_scores=True)


def Transformer(  # noqa: N802 - a recipe is named as what it makes
    source_vocabulary_size,
    target_vocabulary_size,
    num_layers=6,
    size=512,
    num_heads=8,
    hidden_size=2048,
    dropout=0.1,
    residual=PostNorm(),  # noqa: B008 - slots never change
    position=None,
    special_ids=None,
    name="transformer",
):
    """The encoder-decoder Transformer of Vaswani et al.

    Embeddings times sqrt(D), positions, dropout, N encoder blocks, N decoder blocks, a linear
    map to logits. Padding is masked on both sides.

    Args:
        source_vocabulary_size, target_vocabulary_size: Numbers of ids, padding among them.
        num_layers: Number N of encoder and of decoder blocks.
        size: Model size D.
        num_heads: Heads H of each attention.
        hidden_size: Inner size of the feed-forward layers.
        dropout: Of the embeddings and of each sublayer.
        residual: The wiring of the blocks.
        position: A layer that adds positions to embeddings, `Sinusoidal()` by default; or what
            fills an attention's slot, for instance `Rotary()`, in the place of it.
        special_ids: The `SpecialIds` of both sides; 0 padding, 1 start, 2 end, 3 unknown by default.
        name: Of the model.

    Returns:
        A functional `keras.Model`: inputs `{"source": [B, S], "target": [B, T]}`, integers;
        output logits `[B, T, V]`, float32. It has `encode(source)` and
        `decode(target, memory, memory_mask)` beside.

    The same model reads rows into which several pairs were packed (`keras_attn.data.Packed`) where
    the inputs also hold `source_segment_ids` and `source_positions` `[B, S]`,
    `target_segment_ids` and `target_positions` `[B, T]`: a pair has one segment id, from 1 on, on
    both sides, segment 0 is padding, and positions count from 0 within a pair. The logits are
    those of each pair in a row of its own.

    Raises:
        ValueError: For sizes that are not positive or do not divide, for packed inputs that are
            not complete, and in eager calls for ids outside the vocabularies.

    Example:
    >>> import numpy as np
    >>> from keras_attn import models
    >>> model = models.Transformer(50, 60, num_layers=1, size=16, num_heads=2, hidden_size=32)
    >>> model({"source": np.array([[5, 6, 2]]), "target": np.array([[1, 7]])}).shape.as_list()
    [1, 2, 60]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762.
    """
    check_heads(size, num_heads)
    special_ids = special_ids_or_default(special_ids)
    added, turned = split_position(position)
    block = {"num_heads": num_heads, "hidden_size": hidden_size, "dropout": dropout, "residual": residual}
    block["position"] = turned
    layers = {
        "encoder": Encoder(num_layers, EncoderBlock(**block), name="encoder"),
        "decoder": Decoder(num_layers, DecoderBlock(**block), name="decoder"),
        **embedding_layers("source", source_vocabulary_size, size, dropout, added),
        **embedding_layers("target", target_vocabulary_size, size, dropout, added),
        **logit_layers(target_vocabulary_size),
    }
    inputs = id_inputs("source", "target")
    memory, memory_mask = encode(layers.__getitem__, inputs["source"], special_ids)
    logits, _ = decode(layers.__getitem__, inputs["target"], memory, memory_mask, special_ids)
    model = TransformerModel(inputs, logits, name=name)
    model.special_ids = special_ids
    return model


def encode(layer, source, special_ids, positions=None, segment_ids=None):
    """Builds the encoder's half; `layer` returns a layer by name."""
    mask = special_ids.is_real(source)
    embedded = embed(layer, "source", source, positions)
    return layer("encoder")(embedded, mask=mask, segment_ids=segment_ids, positions=positions), mask


def decode(layer, target, memory, memory_mask, special_ids, positions=None, segment_ids=None, **named):
    """Builds the decoder's half: the logits, and the attention scores or None; `named` goes to the decoder."""
    outputs = layer("decoder")(
        embed(layer, "target", target, positions),
        memory,
        inputs_mask=special_ids.is_read(target, segment_ids),
        memory_mask=memory_mask,
        segment_ids=segment_ids,
        positions=positions,
        **named,
    )
    outputs, scores = with_scores(outputs)
    return project(layer, outputs), scores
