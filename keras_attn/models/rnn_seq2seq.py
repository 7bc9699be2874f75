"""The recurrent encoder-decoder with additive attention."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras

from keras_attn.base.checks import check_positive
from keras_attn.base.cloning import clone
from keras_attn.base.slot import register
from keras_attn.base.slot_layers import with_scores
from keras_attn.base.special_ids import SpecialIds, special_ids_or_default
from keras_attn.base.types import Config, Results, State, Tensor
from keras_attn.models.inputs import id_inputs
from keras_attn.models.language_head import LanguageHead
from keras_attn.models.layers import LayerByName
from keras_attn.models.sequence_model import Seq2SeqModel
from keras_attn.recurrent.additive_rnn_attention import AdditiveRNNAttention
from keras_attn.recurrent.alignment import Alignment
from keras_attn.recurrent.cells import recurrent_initializer
from keras_attn.recurrent.encoder import pass_masks_on
from keras_attn.recurrent.state import RNNState

if TYPE_CHECKING:
    from typing_extensions import Self


@register
class RNNSeq2SeqModel(Seq2SeqModel):
    """The model that `RNNSeq2Seq` returns: a functional model with methods for stepwise decoding."""

    @classmethod
    def from_config(cls, config: Config, custom_objects: Mapping[str, object] | None = None) -> Self:
        with warnings.catch_warnings():  # Keras 3.16 and later warn about the mask that is passed to the encoder
            warnings.filterwarnings("ignore", message=".*was passed an input with a mask attached")
            model = super().from_config(config, custom_objects=custom_objects)
        pass_masks_on(model.get_layer("encoder"))
        return model

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Ids `[B, S]` -> the memory `[B, S, 2 D]`, its mask `[B, S]`, and the initial state `[B, D]`."""
        return encode(self.get_layer, self.read_source(source), self.special_ids)

    def init_state(self, source: Tensor, max_length: int | None = None) -> RNNState:
        """Returns the state before the first target token: a dictionary of tensors.

        Args:
            source: Ids `[B, S]`.
            max_length: Not used by a recurrent decoder.

        Raises:
            ValueError: If `source` is not of rank 2, or holds ids outside the vocabulary.
        """
        memory, memory_mask, first_state = self.encode(source)
        return self.get_layer("decoder").init_state(memory, memory_mask, initial_state=first_state)

    def extend(
        self,
        tokens: Tensor,
        state: State,
        index: int | Tensor | None = None,
        lengths: Tensor | None = None,
        return_attention_scores: bool = False,
    ) -> tuple[Results, RNNState]:
        """Reads T new target tokens per row after those that the state contains.

        Args:
            tokens: Ids `[B, T]`, first the start id; or `[B W, T]`, with the W beams of a row next to each other.
            state: From `init_state`, or the previous `extend` or `step`.
            index: Not used by a recurrent decoder.
            lengths: Integers `[B]`, from 0 to T: the number of tokens of each row; None means T.
            return_attention_scores: Whether to return the attention over the source too, `[B, T, S]`.

        Returns:
            Logits `[B, T, V]` of the token after each (or a tuple of them and the scores), and the new state.
        """
        tokens = self.read_ids("tokens", tokens, "BT", "target")
        x = self.get_layer("target_embedding")(tokens)
        outputs, state = self.get_layer("decoder").extend(x, state, index, lengths, return_attention_scores)
        outputs, scores = with_scores(outputs)
        logits = LanguageHead().apply(self.get_layer, outputs)
        return ((logits, scores) if return_attention_scores else logits), state

    def step(
        self, tokens: Tensor, state: State, index: int | Tensor | None = None, return_attention_scores: bool = False
    ) -> tuple[Results, RNNState]:
        """Reads one target token per row: `extend` for T = 1, without its loop."""
        tokens = self.read_ids("tokens", tokens, "B", "target")
        x = self.get_layer("target_embedding")(tokens[:, None])[:, 0]
        outputs, state = self.get_layer("decoder").step(x, state, index, return_attention_scores)
        outputs, scores = with_scores(outputs)
        logits = LanguageHead().apply(self.get_layer, outputs[:, None])[:, 0]
        return ((logits, scores) if return_attention_scores else logits), state

    def logits_and_scores(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """As in `Seq2SeqModel`; the scores are `[B, T, S]`."""
        target = self.read_ids("target", target, "BT", "target")
        return decode(self.get_layer, target, *self.encode(source), self.special_ids, return_attention_scores=True)


def RNNSeq2Seq(  # noqa: N802 - a recipe is named after its model
    source_vocabulary_size: int,
    target_vocabulary_size: int,
    size: int = 256,
    attention_units: int | None = None,
    dropout: float = 0.0,
    special_ids: SpecialIds | None = None,
    name: str = "rnn_seq2seq",
    *,
    score: keras.layers.Layer | None = None,
    alignment: Alignment | None = None,
    attention_loss: keras.losses.Loss | None = None,
) -> RNNSeq2SeqModel:
    """The recurrent encoder-decoder of Bahdanau et al.

    A bidirectional GRU reads the source. A tanh layer maps its backward state at the first
    token to the initial state of a GRU decoder with additive attention, and a linear map
    computes the logits. Padding is masked on both sides.

    Args:
        source_vocabulary_size, target_vocabulary_size: Numbers of ids, including padding.
        size: Size D of the embeddings, of each encoder direction and of the decoder's state.
        attention_units: Size U of the additive score; `size` by default.
        dropout: Rate for the decoder's concatenated inputs.
        special_ids: The `SpecialIds` of both sides; 0 padding, 1 start, 2 end, 3 unknown by default.
        name: Name of the model.
        score: A score instead of `AdditiveScore(attention_units)`, for instance `MultiplicativeScore()`.
        alignment: What turns scores into weights, for instance `Monotonic()`; by default the softmax.
        attention_loss: A loss on the attention weights, for instance `training.CoverageLoss()`.

    Returns:
        A functional `keras.Model`: inputs `{"source": [B, S], "target": [B, T]}`, integers;
        output logits `[B, T, V]`, float32, with the padding mask of the target. It decodes stepwise with
        `init_state(source)` and `step(tokens, state, index)`.

    Raises:
        ValueError: For sizes that are not positive, and in eager calls for ids outside their
            vocabulary.

    Example:
    >>> import numpy as np
    >>> from keras_attn import models
    >>> model = models.RNNSeq2Seq(50, 60, size=16)
    >>> model({"source": np.array([[5, 6, 2]]), "target": np.array([[1, 7]])}).shape.as_list()
    [1, 2, 60]

    References:
        Bahdanau et al. 2015, Neural Machine Translation by Jointly Learning to Align and
        Translate, arXiv:1409.0473.
    """
    check_positive("source_vocabulary_size", source_vocabulary_size)
    check_positive("target_vocabulary_size", target_vocabulary_size)
    check_positive("size", size)
    special_ids = special_ids_or_default(special_ids)
    # Without cuDNN's kernels, XLA can compile the model on a GPU too.
    reader = keras.layers.GRU(
        size,
        recurrent_initializer=recurrent_initializer(None),
        return_sequences=True,
        return_state=True,
        use_cudnn=False,
    )
    layers = {
        "source_embedding": keras.layers.Embedding(source_vocabulary_size, size, name="source_embedding"),
        "target_embedding": keras.layers.Embedding(target_vocabulary_size, size, name="target_embedding"),
        "encoder": pass_masks_on(keras.layers.Bidirectional(reader, name="encoder")),
        "bridge": keras.layers.Dense(size, "tanh", name="bridge"),
        "decoder": AdditiveRNNAttention(
            size,
            attention_units,
            score=None if score is None else clone(score),
            dropout=dropout,
            alignment=None if alignment is None else clone(alignment),
            attention_loss=attention_loss,
            name="decoder",
        ),
        **LanguageHead().layers(target_vocabulary_size),
    }
    inputs = id_inputs("source", "target")
    encoded = encode(layers.__getitem__, inputs["source"], special_ids)
    logits, _ = decode(layers.__getitem__, inputs["target"], *encoded, special_ids)
    return RNNSeq2SeqModel(inputs, logits, name=name).with_slots(special_ids=special_ids)


def encode(layer: LayerByName, source: Tensor, special_ids: SpecialIds) -> tuple[Tensor, Tensor, Tensor]:
    """Applies the encoder; `layer` returns a layer by name."""
    mask = special_ids.is_real(source)
    memory, _, backward = layer("encoder")(layer("source_embedding")(source), mask=mask)
    return memory, mask, layer("bridge")(backward)


def decode(
    layer: LayerByName,
    target: Tensor,
    memory: Tensor,
    memory_mask: Tensor | None,
    first_state: Tensor,
    special_ids: SpecialIds,
    return_attention_scores: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Applies the decoder; returns the logits, and the attention scores or None."""
    mask = special_ids.is_read(target)
    outputs = layer("decoder")(
        layer("target_embedding")(target),
        memory,
        inputs_mask=mask,
        memory_mask=memory_mask,
        initial_state=first_state,
        return_attention_scores=return_attention_scores,
    )
    outputs, scores = with_scores(outputs)
    return LanguageHead().apply(layer, outputs, mask), scores
