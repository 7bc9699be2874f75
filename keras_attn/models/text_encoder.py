"""The bidirectional Transformer encoder over texts (BERT), with the head of a task."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_attn.base.checks import check_axes, check_number, check_positive, check_rate, check_slot
from keras_attn.base.slot import register
from keras_attn.base.special_ids import SpecialIds, special_ids_or_default
from keras_attn.base.types import Activation, Tensor
from keras_attn.layers.norms import LayerNorm, Norm
from keras_attn.models.embeddings import Embeddings, num_positions, split_position
from keras_attn.models.heads import Head, HiddenStates
from keras_attn.models.id_model import IdModel
from keras_attn.models.inputs import INPUT_AXES, id_inputs
from keras_attn.models.layers import Layers
from keras_attn.models.recipe_arguments import check_heads, check_left_out
from keras_attn.positions import HeadPosition, Learned
from keras_attn.transformer import EncoderBlock
from keras_attn.transformer.residual import PostNorm, Residual
from keras_attn.transformer.stacks import Encoder


@register
class TextEncoderModel(IdModel):
    """The model that `TextEncoder` returns: a functional model from ids, and optional segments, to a head's outputs.

    Attributes:
        head: The `Head` that made the outputs.
    """

    head: Head = HiddenStates()
    slots = ("special_ids", "head")

    @property
    def optional_inputs(self) -> tuple[str, ...]:
        return tuple(name for name in self.input if name not in self.sides)

    @property
    def max_length(self) -> int | None:
        """Number of learned positions; None for no bound."""
        return num_positions(self.get_layer("source_position"))

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, V."""
        return self.get_layer("source_embedding").input_dim

    def complete(self, inputs: Tensor) -> dict[str, Tensor]:
        named = super().complete(inputs)
        source = named["source"]
        zeros = np.zeros_like if isinstance(source, np.ndarray) else ops.zeros_like
        return named | {name: zeros(source) for name in self.optional_inputs if name not in named}

    def compute_output_spec(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> keras.KerasTensor:
        return super().compute_output_spec(self.complete(inputs), training=training, mask=mask)

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        inputs = self.complete(inputs)  # JAX's training loop does not go through `__call__`
        check_axes(INPUT_AXES, inputs)
        for name in inputs:
            self.check_ids(name, inputs[name], name)
        return super().call(inputs, training=training, mask=mask)


def TextEncoder(  # noqa: N802 - a recipe is named after its model
    vocabulary_size: int,
    num_layers: int = 12,
    size: int = 768,
    num_heads: int = 12,
    hidden_size: int = 3072,
    dropout: float = 0.1,
    num_segments: int = 0,
    residual: Residual = PostNorm(LayerNorm(1e-12)),  # noqa: B008 - slots never change
    position: keras.layers.Layer | HeadPosition | None = None,
    head: Head | None = None,
    special_ids: SpecialIds | None = None,
    name: str = "text_encoder",
    *,
    activation: Activation = "gelu",
    embedding_norm: Norm | None = LayerNorm(1e-12),  # noqa: B008
    embedding_dropout: float | None = None,
    block: EncoderBlock | list[EncoderBlock] | None = None,
    count_padding: bool = True,
) -> TextEncoderModel:
    """The bidirectional Transformer encoder over texts (BERT), with the head of a task.

    `x_p = Dropout(Norm(E_id(p) + S_segment(p) + P_p))`, N blocks without a causal mask, and the head. Padding is
    masked. The embeddings are not scaled.

    Args:
        vocabulary_size: Number of ids, including padding.
        num_layers: Number N of blocks.
        size: Model size D.
        num_heads: Number H of heads of each attention.
        hidden_size: Inner size of the feed-forward layers.
        dropout: Rate for the embeddings and each sublayer.
        num_segments: Number of segments (token types), 0 for no segment embeddings. With 1, every position has
            the same segment, which is not an input.
        residual: How the blocks combine residuals and norms.
        position: A layer that adds positions to embeddings, `Learned(512)` by default; or a
            `HeadPosition` of the attentions, for instance `Rotary()`.
        head: What the model returns: `HiddenStates()` by default, `SentenceEmbedding(...)`,
            `Classification(num_labels, ...)`, `TokenClassification(num_labels, ...)` or `MaskedWords(...)` of
            `models.heads`.
        special_ids: The `SpecialIds`; 0 padding, 1 start, 2 end, 3 unknown by default.
        name: Name of the model.
        activation: Activation of the feed-forward layers.
        embedding_norm: Norm of the embeddings, or None.
        embedding_dropout: Dropout rate of the embeddings; `dropout` by default.
        block: A block, or a list of `num_layers` blocks. It replaces the block described by `num_heads`,
            `hidden_size`, `residual` and `activation`, which must then be left out.
        count_padding: Whether a position is the index in the row. If not, positions count real ids only, as
            those of RoBERTa, which differ if padding stands before or between them.

    Returns:
        A functional `keras.Model`: inputs `{"source": [B, S]}`, integers, and if `num_segments` is greater than
        1 also `"segments"` `[B, S]`, which may be left out (zeros); outputs in float32, those of the head.

    Raises:
        ValueError: For sizes that are not positive or not divisible, arguments that a block replaces,
            unknown input names, and in eager calls for ids outside their vocabulary.

    Example:
    >>> import numpy as np
    >>> from keras_attn import models
    >>> from keras_attn.models.heads import SentenceEmbedding
    >>> encoder = models.TextEncoder(50, 1, 16, 2, 32, num_segments=2, head=SentenceEmbedding())
    >>> encoder({"source": np.array([[1, 7, 8, 2], [1, 9, 2, 0]])}).shape.as_list()
    [2, 16]

    References:
        Devlin et al. 2019, BERT, arXiv:1810.04805; Liu et al. 2019, RoBERTa, arXiv:1907.11692.
    """
    check_positive("vocabulary_size", vocabulary_size)
    check_number("num_segments", num_segments, int, at_least=0)
    embeddings = Embeddings(1.0, check_slot("embedding_norm", embedding_norm, Norm))
    head = check_slot("head", head, Head) or HiddenStates()
    special_ids = special_ids_or_default(special_ids)
    added, turned = split_position(Learned(512) if position is None else position)
    if block is None:
        check_heads(size, num_heads)
        block = EncoderBlock(num_heads, hidden_size, dropout, None, turned, residual, activation=activation)
    else:
        given = {"num_heads": num_heads, "hidden_size": hidden_size, "residual": residual, "activation": activation}
        check_left_out(TextEncoder, ["block"], given | ({} if turned is None else {"position": position}))
    rate = dropout if embedding_dropout is None else embedding_dropout
    check_rate("embedding_dropout", rate)
    layers = {
        **embeddings.layers("source", vocabulary_size, size, rate, added, head.tied),
        "encoder": Encoder(num_layers, block, name="encoder"),
        **head.layers(size, vocabulary_size),
    }
    inputs = id_inputs("source")
    if num_segments:
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        layers["segments_embedding"] = keras.layers.Embedding(
            num_segments, size, embeddings_initializer=initializer, name="segments_embedding"
        )
    if num_segments > 1:
        inputs |= id_inputs("segments")
    outputs = encode(layers, inputs, embeddings, head, special_ids, count_padding)
    return TextEncoderModel(inputs, outputs, name=name).with_slots(special_ids=special_ids, head=head)


def encode(
    layers: Layers,
    inputs: dict[str, Tensor],
    embeddings: Embeddings,
    head: Head,
    special_ids: SpecialIds,
    count_padding: bool,
) -> Tensor:
    """Returns the outputs of the head for ids `[B, S]`, and segments `[B, S]` if they are among the inputs."""
    source = inputs["source"]
    mask = special_ids.is_real(source)
    positions = None
    if not count_padding:
        number = ops.cumsum(ops.cast(mask, "int32"), axis=1, dtype="int32")
        positions = ops.maximum(number - 1, 0)  # [B, S]
    x = embeddings.look_up(layers.__getitem__, "source", source)  # [B, S, D]
    if "segments_embedding" in layers:
        x = x + layers["segments_embedding"](inputs["segments"] if "segments" in inputs else ops.zeros_like(source))
    x = embeddings.place(layers.__getitem__, "source", x, positions)
    hidden = layers["encoder"](layers["source_dropout"](x), mask=mask, positions=positions)
    return head.apply(layers.__getitem__, hidden, mask)
