"""The head of a language model: from hidden states to the logits of ids."""

from __future__ import annotations

import keras

from keras_attn.base.checks import check_number
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Tensor
from keras_attn.models.layers import Bias, LayerByName, Layers, Logits, TiedEmbedding


@register
class LanguageHead(Slot):
    """The logits of the next id: `z = W h + b`, bounded by `softcap * tanh(z / softcap)` if there is a soft cap.

    Args:
        tied: Whether W is the matrix of the embeddings (Press and Wolf 2017, arXiv:1608.05859).
        use_bias: Whether there is a bias b.
        softcap: Bound of the logits (Gemma Team 2024, arXiv:2408.00118), or None.

    Raises:
        ValueError: If `tied` or `use_bias` is not a boolean, or `softcap` is not positive.

    Example:
    >>> from keras_attn import models
    >>> head = models.LanguageHead(tied=True, use_bias=False, softcap=30.0)
    >>> model = models.CausalTransformer(50, 1, 16, 2, 32, head=head)
    """

    def __init__(self, tied: bool = False, use_bias: bool = True, softcap: float | None = None) -> None:
        for name, value in (("tied", tied), ("use_bias", use_bias)):
            if not isinstance(value, bool):
                raise ValueError(f"`{name}` must be True or False. Received: {name}={short_repr(value)}.")
        check_number("softcap", softcap, optional=True, must="be a positive number or None", above=0)
        self.tied = tied
        self.use_bias = use_bias
        self.softcap = softcap

    def layers(self, vocabulary_size: int) -> Layers:
        """Returns new layers by name: `projection`, or `bias` if W is that of the embeddings, and `logits`."""
        made: Layers = {}
        if not self.tied:
            made["projection"] = keras.layers.Dense(vocabulary_size, use_bias=self.use_bias, name="projection")
        elif self.use_bias:
            made["bias"] = Bias(name="bias")
        return {**made, "logits": Logits(self.softcap, name="logits")}

    def apply(self, layer: LayerByName, x: Tensor, mask: Tensor | None = None, side: str = "target") -> Tensor:
        """Returns the logits `[B, T, V]` of hidden states `[B, T, D]`; they carry the mask `[B, T]`.

        Args:
            layer, x, mask: Layers by name, hidden states and padding mask.
            side: The side whose embeddings are tied.
        """
        if not self.tied:
            logits = layer("projection")(x)
        else:
            embedding = layer(f"{side}_embedding")
            if not isinstance(embedding, TiedEmbedding):
                raise ValueError("`head` with `tied=True` must be given to the recipe, which makes tied embeddings.")
            logits = embedding(x, reverse=True)
            logits = layer("bias")(logits) if self.use_bias else logits
        return layer("logits")(logits) if mask is None else layer("logits")(logits, mask=mask)


def language_head(head: LanguageHead | None, tied_embeddings: bool) -> LanguageHead:
    """Returns a recipe's head; `tied_embeddings` stands for `LanguageHead(tied=True, use_bias=False)`."""
    if head is None:
        return LanguageHead(tied=True, use_bias=False) if tied_embeddings else LanguageHead()
    if not isinstance(head, LanguageHead):
        raise ValueError(f"`head` must be a `LanguageHead`. Received: head={short_repr(head)}.")
    if tied_embeddings:
        raise ValueError(
            "`tied_embeddings` must be left out if `head` is given, whose `tied` is the same. "
            f"Received: tied_embeddings=True, head={head}."
        )
    return head


def head_of_layers(model: keras.Model) -> LanguageHead:
    """Returns the head of a model whose config has none, because an older version wrote it."""
    return language_head(None, isinstance(model.get_layer("target_embedding"), TiedEmbedding))
