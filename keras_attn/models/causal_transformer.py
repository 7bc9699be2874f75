"""The decoder-only Transformer, which continues prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_attn.attention.cache import Cache
from keras_attn.attention.dot_product import DotProduct
from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_axes, check_positive, check_slot
from keras_attn.base.slot import Slot, register
from keras_attn.base.special_ids import SpecialIds, special_ids_or_default
from keras_attn.base.state import check_state
from keras_attn.base.tensors import to_tensor
from keras_attn.base.types import State, Tensor
from keras_attn.masks import Causal, Pattern, check_hides_the_future
from keras_attn.models.embeddings import Embeddings, num_positions, split_position
from keras_attn.models.inputs import id_inputs
from keras_attn.models.language_head import LanguageHead, head_of_layers, language_head
from keras_attn.models.layers import LayerByName
from keras_attn.models.recipe_arguments import check_heads, check_left_out, num_blocks, self_attention
from keras_attn.models.sequence_model import SequenceModel
from keras_attn.positions import HeadPosition
from keras_attn.transformer import EncoderBlock
from keras_attn.transformer.residual import PreNorm, Residual
from keras_attn.transformer.stacks import Encoder

if TYPE_CHECKING:
    from typing_extensions import Self


class PromptState(NamedTuple):
    """The state of a model that continues prompts.

    Attributes:
        blocks: The states of its blocks.
        offset: Position of the first step of each row, int32 `[B]`: that of the prompt's last id.
    """

    blocks: State
    offset: Tensor


@register
class CausalTransformerModel(SequenceModel):
    """The model that `CausalTransformer` returns: a functional model with methods for stepwise decoding.

    Attributes:
        embeddings: The `Embeddings`.
        head: The `LanguageHead` that computes the logits.
    """

    sides = ("target",)
    source_vocabulary = "target"
    reads_prompts = True
    embeddings = Embeddings()
    head = LanguageHead()
    slots = ("special_ids", "embeddings", "head")

    def with_slots(self, **slots: Slot) -> Self:
        return super().with_slots(**{"head": head_of_layers(self), **slots})

    @property
    def max_length(self) -> int | None:
        return num_positions(self.get_layer("target_position"))

    @property
    def source_max_length(self) -> int | None:
        return self.max_length

    def call_packed(self, ids: dict[str, Tensor], packing: dict[str, Tensor]) -> Tensor:
        positions, segment_ids = packing["target_positions"], packing["target_segment_ids"]
        return decode(
            self.get_layer, self.embeddings, self.head, ids["target"], self.special_ids, positions, segment_ids
        )

    def init_state(
        self, source: Tensor, max_length: int, cache: Cache | None = None, source_lengths: Tensor | None = None
    ) -> PromptState:
        """Reads the prompts.

        Args:
            source: Ids of the prompts `[B, P]`, each followed by padding.
            max_length: Maximum number of tokens after the prompts.
            cache: How keys and values are stored: `ExactCache()` by default, or `Int8Cache()`.
            source_lengths: Number of ids of each prompt, integers `[B]`; by default the ids that are not padding,
                which are all if the vocabulary has no padding id.

        Returns:
            The state before the first step, which reads the prompt's last token (`first_tokens`)
            at index 0.

        Raises:
            ValueError: If `source` does not have rank 2, or holds ids outside the vocabulary.
        """
        source = self.read_source(source)
        lengths = prompt_lengths(source, self.special_ids, source_lengths)
        length, embedded = ops.shape(source)[1] + max_length, self.embeddings.embed(self.get_layer, "target", source)
        _, blocks = self.get_layer("blocks").prefill(embedded, lengths, length, cache)
        return PromptState(blocks, ops.maximum(lengths - 1, ops.zeros((), "int32")))

    def first_tokens(self, source: Tensor, start_id: int | None = None, source_lengths: Tensor | None = None) -> Tensor:
        """Returns the tokens that the first step reads, `[B]`: the last one of each prompt, the start id if empty."""
        lengths = prompt_lengths(source, self.special_ids, source_lengths)
        start_id = self.special_ids.start if start_id is None else start_id
        padded = ops.pad(ops.cast(source, "int32"), [[0, 0], [1, 0]], constant_values=start_id)
        return ops.take_along_axis(padded, lengths[:, None], axis=1)[:, 0]

    def check_ids(self, name: str, ids: Tensor, vocabulary: str) -> None:
        super().check_ids(name, ids, vocabulary)
        if name == "source" and (isinstance(ids, np.ndarray) or is_concrete(ids)):
            real = ops.convert_to_numpy(ids) != self.special_ids.padding
            real[:, :1] |= self.special_ids.start == self.special_ids.padding
            if np.any(real[:, 1:] & ~real[:, :-1]):
                raise ValueError("`source` must hold prompts with padding after them, not before or inside.")

    def extend(
        self, tokens: Tensor, state: State, index: int | Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, PromptState]:
        """Reads T new tokens per row after those that the state contains.

        Args:
            tokens: Ids `[B, T]`.
            state: From `init_state`, or the previous `extend` or `step`.
            index: Position of the first of them, an integer scalar or `[B]`; position 0 is that of the prompt's
                last token. It may be less than in an earlier call.
            lengths: Integers `[B]`, from 0 to T: the number of tokens of each row; None means T.

        Returns:
            Logits `[B, T, V]` of the token after each, and the new state.
        """
        tokens = self.read_ids("tokens", tokens, "BT", "target")
        check_state(state, PromptState)
        index = state.offset + to_tensor("index", index, "int32")
        x = self.embeddings.embed_chunk(self.get_layer, "target", tokens, index, lengths)
        outputs, blocks = self.get_layer("blocks").extend(x, state.blocks, index, lengths)
        return self.head.apply(self.get_layer, outputs), state._replace(blocks=blocks)


def CausalTransformer(  # noqa: N802 - a recipe is named after its model
    vocabulary_size: int,
    num_layers: int = 6,
    size: int = 512,
    num_heads: int = 8,
    hidden_size: int = 2048,
    dropout: float = 0.1,
    mask: Pattern = Causal(),  # noqa: B008 - slots never change
    residual: Residual = PreNorm(),  # noqa: B008
    position: keras.layers.Layer | HeadPosition | None = None,
    special_ids: SpecialIds | None = None,
    name: str = "causal_transformer",
    *,
    num_kv_heads: int | None = None,
    score: DotProduct | None = None,
    block: EncoderBlock | list[EncoderBlock] | None = None,
    tied_embeddings: bool = False,
    embeddings: Embeddings | None = None,
    head: LanguageHead | None = None,
) -> CausalTransformerModel:
    """The decoder-only Transformer (GPT): each token attends to itself and the tokens before it.

    Embeddings times sqrt(D), positions, dropout, N causal blocks, a linear map to logits.
    Padding is masked.

    Args:
        vocabulary_size: Number of ids, including padding.
        num_layers: Number N of blocks.
        size: Model size D.
        num_heads: Number H of heads of each attention.
        hidden_size: Inner size of the feed-forward layers.
        dropout: Rate for the embeddings and each sublayer.
        mask: Static pattern that hides the future: `Causal()`, or `Causal() & Window(n)`, whose
            caches hold n positions only.
        residual: How the blocks combine residuals and norms.
        position: A layer that adds positions to embeddings, `Sinusoidal()` by default; or a
            `HeadPosition` of the attentions, for instance `Rotary()`.
        special_ids: The `SpecialIds`; 0 padding, 1 start, 2 end, 3 unknown by default.
        name: Name of the model.
        num_kv_heads: Number of key and value heads of each attention, a divisor of H (grouped-query attention).
        score: How heads score keys, for instance `DotProduct(norm=RMSNorm())`.
        block: A block with a mask that hides the future, or a list of blocks, one for each layer, whatever
            `num_layers` is. It replaces the block described by `num_heads`, `hidden_size`, `mask`, `residual`,
            `num_kv_heads` and `score`, which must then be left out.
        tied_embeddings: Whether the embeddings are also the matrix of the logits (Press and Wolf 2017,
            arXiv:1608.05859): `head=LanguageHead(tied=True, use_bias=False)`.
        embeddings: How ids become vectors.
        head: How vectors become logits, `LanguageHead()` by default.

    Returns:
        A functional `keras.Model`: inputs `{"target": [B, T]}`, integers; output logits
        `[B, T, V]`, float32, with the padding mask of the ids, so that Keras' losses and metrics
        ignore padding. `generate(prompts)` continues prompts of different lengths; an empty one
        counts as a prompt with only the start id.

    The model also reads rows into which several texts were packed, if the inputs include
    `target_segment_ids` and `target_positions` `[B, T]`: each text has one segment id, starting at 1,
    segment 0 is padding, and positions start at 0 in each text. The logits are the same as for
    one text per row.

    Raises:
        ValueError: For sizes that are not positive or not divisible, incomplete packed inputs,
            unknown input names, and in eager calls for ids outside the vocabulary.

    Example:
    >>> import numpy as np
    >>> from keras_attn import models
    >>> model = models.CausalTransformer(50, num_layers=1, size=16, num_heads=2, hidden_size=32)
    >>> model({"target": np.array([[1, 7, 8]])}).shape.as_list()
    [1, 3, 50]
    >>> model.generate(np.array([[1, 7, 8], [1, 9, 0]]), max_length=4).tokens.shape.as_list()
    [2, 1, 4]

    References:
        Radford et al. 2018, Improving Language Understanding by Generative Pre-Training;
        Liu et al. 2018, arXiv:1801.10198.
    """
    check_positive("vocabulary_size", vocabulary_size)
    special_ids = special_ids_or_default(special_ids)
    added, turned = split_position(position)
    if block is None:
        check_heads(size, num_heads)
        attention = self_attention(num_heads, num_kv_heads, score, mask, turned)
        block = EncoderBlock(num_heads, hidden_size, dropout, mask, turned, residual, attention=attention)
    else:
        given = {"num_heads": num_heads, "hidden_size": hidden_size, "mask": mask, "residual": residual, "score": score}
        given |= {"num_kv_heads": num_kv_heads} | ({} if turned is None else {"position": position})
        check_left_out(CausalTransformer, ["block"], given)
    for each in block if isinstance(block, (list, tuple)) else [block]:
        check_hides_the_future(each.mask)
    embeddings = check_slot("embeddings", embeddings, Embeddings) or Embeddings()
    head = language_head(head, tied_embeddings)
    layers = {
        "blocks": Encoder(num_blocks(block, num_layers), block, name="blocks"),
        **embeddings.layers("target", vocabulary_size, size, dropout, added, head.tied),
        **head.layers(vocabulary_size),
    }
    inputs = id_inputs("target")
    logits = decode(layers.__getitem__, embeddings, head, inputs["target"], special_ids)
    model = CausalTransformerModel(inputs, logits, name=name)
    return model.with_slots(special_ids=special_ids, embeddings=embeddings, head=head)


def decode(
    layer: LayerByName,
    embeddings: Embeddings,
    head: LanguageHead,
    target: Tensor,
    special_ids: SpecialIds,
    positions: Tensor | None = None,
    segment_ids: Tensor | None = None,
) -> Tensor:
    """Returns the logits `[B, T, V]`; `layer` returns a layer by name."""
    embedded = embeddings.embed(layer, "target", target, positions)
    mask = special_ids.is_read(target, segment_ids)
    outputs = layer("blocks")(embedded, mask=mask, segment_ids=segment_ids, positions=positions)
    return head.apply(layer, outputs, mask)


def prompt_lengths(prompts: Tensor, special_ids: SpecialIds, lengths: Tensor | None = None) -> Tensor:
    """Returns how many ids of each prompt `[B, P]` are real, int32 `[B]`: `lengths`, or those before padding."""
    if lengths is not None:
        lengths = to_tensor("source_lengths", lengths, "int32")
        check_axes({"source": "BP", "source_lengths": "B"}, {"source": prompts, "source_lengths": lengths})
        return ops.clip(lengths, 0, ops.shape(prompts)[1])
    return ops.cast(ops.sum(ops.cast(special_ids.is_read(prompts), "int32"), axis=-1), "int32")
