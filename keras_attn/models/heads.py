"""Heads of text encoders as slot objects: they make named Keras layers and apply them to the hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_attn.attention.pooling import AttentionPooling
from keras_attn.base.checks import check_positive, check_rate, check_slot
from keras_attn.base.cloning import clone
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Activation, Tensor
from keras_attn.layers.norms import LayerNorm, Norm
from keras_attn.models.language_head import LanguageHead
from keras_attn.models.layers import LayerByName, Layers, Logits
from keras_attn.models.pooling import First, Mean, Pooling, PoolingKind, UnitLength, check_kind


class Head(Slot):
    """Base class of heads.

    Attributes:
        tied: Whether the head reads the embeddings of the ids as the matrix of its logits.
    """

    tied = False

    def layers(self, size: int, vocabulary_size: int) -> Layers:
        """Returns new layers by name, for hidden states `[B, S, D]` of `size` D."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `layers(size, vocabulary_size)`.")

    def apply(self, layer: LayerByName, hidden: Tensor, mask: Tensor) -> Tensor:
        """Returns the model's outputs for hidden states `[B, S, D]` and their padding mask `[B, S]`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `apply(layer, hidden, mask)`.")


@register
class HiddenStates(Head):
    """No head: the outputs are the hidden states `[B, S, D]`, float32, with the padding mask of the ids."""

    def layers(self, size: int, vocabulary_size: int) -> Layers:
        return {"hidden_states": Logits(name="hidden_states")}

    def apply(self, layer: LayerByName, hidden: Tensor, mask: Tensor) -> Tensor:
        return layer("hidden_states")(hidden, mask=mask)


@register
class Transform(Slot):
    """A linear map, an activation, a norm, dropout: `Norm(activation(W h + b))`.

    Args:
        units: Size of the outputs; that of the inputs by default.
        activation: Anything that `keras.activations.get` accepts; None for none.
        norm: A norm, or None.
        dropout: Dropout rate of the outputs in training.
        use_bias: Whether the linear map has a bias.
    """

    def __init__(
        self,
        units: int | None = None,
        activation: Activation | None = "tanh",
        norm: Norm | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
    ) -> None:
        check_positive("units", units, optional=True)
        check_rate("dropout", dropout)
        self.units = units
        self.activation = activation
        self.norm = check_slot("norm", norm, Norm)
        self.dropout = dropout
        self.use_bias = use_bias

    def layers(self, name: str, size: int) -> Layers:
        """Returns the layers by name, for inputs of `size` units."""
        units = self.units or size
        made: Layers = {name: keras.layers.Dense(units, activation=self.activation, use_bias=self.use_bias, name=name)}
        if self.norm is not None:
            made[f"{name}_norm"] = self.norm.make(f"{name}_norm", keras.config.dtype_policy())
        if self.dropout:
            made[f"{name}_dropout"] = keras.layers.Dropout(self.dropout, name=f"{name}_dropout")
        return made

    def apply(self, layer: LayerByName, name: str, x: Tensor) -> Tensor:
        """Returns the outputs for `x` `[B, ..., M]`; arguments as for `layers`."""
        x = layer(name)(x)
        x = x if self.norm is None else layer(f"{name}_norm")(x)
        return layer(f"{name}_dropout")(x) if self.dropout else x


@register
class SentenceEmbedding(Head):
    """One vector for a text: pooling, linear maps, L2 normalisation; float32 `[B, E]`.

    Args:
        pooling: A plain pooling or a list of them, whose outputs are joined (`models.pooling`); or an
            `AttentionPooling` with one hop, which is cloned.
        maps: `Transform` objects for the pooled vector.
        normalize: Whether to divide the vector by its length.
    """

    def __init__(
        self,
        pooling: PoolingKind | Sequence[PoolingKind] | AttentionPooling = Mean(),  # noqa: B008 - slots never change
        maps: Sequence[Transform] = (),
        normalize: bool = True,
    ) -> None:
        self.pooling = check_pooling(pooling)
        self.maps = list(maps)
        self.normalize = normalize
        for each in self.maps:
            if not isinstance(each, Transform):
                raise ValueError(f"`maps` must hold `Transform` objects. Received: {short_repr(each)}.")

    def layers(self, size: int, vocabulary_size: int) -> Layers:
        made = {"pooling": pooling_layer(self.pooling)}
        size *= len(self.pooling) if isinstance(self.pooling, list) else 1
        for i, each in enumerate(self.maps):
            made |= each.layers(f"map_{i}", size)
            size = each.units or size
        if self.normalize:
            made["unit_length"] = UnitLength(name="unit_length")
        return {**made, "embedding": Logits(name="embedding")}

    def apply(self, layer: LayerByName, hidden: Tensor, mask: Tensor) -> Tensor:
        x = layer("pooling")(hidden, mask=mask)  # [B, E]
        for i, each in enumerate(self.maps):
            x = each.apply(layer, f"map_{i}", x)
        return layer("embedding")(layer("unit_length")(x) if self.normalize else x)


@register
class Classification(Head):
    """One label for a text: pooling, a hidden layer, dropout, logits `[B, labels]` in float32.

    Args:
        num_labels: Number of labels.
        pooling: A plain pooling or a list of them, or an `AttentionPooling` with one hop, which is cloned.
        transform: A `Transform` of the pooled vector, or None.
        dropout: Dropout rate before the logits.
    """

    def __init__(
        self,
        num_labels: int,
        pooling: PoolingKind | Sequence[PoolingKind] | AttentionPooling = First(),  # noqa: B008
        transform: Transform | None = None,
        dropout: float = 0.0,
    ) -> None:
        check_positive("num_labels", num_labels)
        check_rate("dropout", dropout)
        self.num_labels = num_labels
        self.pooling = check_pooling(pooling)
        self.transform = check_slot("transform", transform, Transform)
        self.dropout = dropout

    def layers(self, size: int, vocabulary_size: int) -> Layers:
        pooled = size * (len(self.pooling) if isinstance(self.pooling, list) else 1)
        return {"pooling": pooling_layer(self.pooling), **label_layers(self, pooled)}

    def apply(self, layer: LayerByName, hidden: Tensor, mask: Tensor) -> Tensor:
        return layer("logits")(label_logits(self, layer, layer("pooling")(hidden, mask=mask)))


@register
class TokenClassification(Head):
    """One label for each token: a hidden layer, dropout, logits `[B, S, labels]` in float32, with the padding mask.

    Args:
        num_labels: Number of labels.
        transform: A `Transform` of the hidden states, or None.
        dropout: Dropout rate before the logits.
    """

    def __init__(self, num_labels: int, transform: Transform | None = None, dropout: float = 0.0) -> None:
        check_positive("num_labels", num_labels)
        check_rate("dropout", dropout)
        self.num_labels = num_labels
        self.transform = check_slot("transform", transform, Transform)
        self.dropout = dropout

    def layers(self, size: int, vocabulary_size: int) -> Layers:
        return label_layers(self, size)

    def apply(self, layer: LayerByName, hidden: Tensor, mask: Tensor) -> Tensor:
        return layer("logits")(label_logits(self, layer, hidden), mask=mask)


@register
class MaskedWords(Head):
    """The logits `[B, S, V]` of the word at each position, float32, with the padding mask (Devlin et al. 2019).

    Args:
        transform: A `Transform` of the hidden states, or None.
        tied: Whether the matrix of the logits is that of the embeddings (arXiv:1608.05859).
        use_bias: Whether the logits have a bias.
    """

    def __init__(
        self,
        transform: Transform | None = Transform(activation="gelu", norm=LayerNorm(1e-12)),  # noqa: B008
        tied: bool = True,
        use_bias: bool = True,
    ) -> None:
        self.transform = check_slot("transform", transform, Transform)
        self.tied = tied
        self.use_bias = use_bias

    def layers(self, size: int, vocabulary_size: int) -> Layers:
        made = {} if self.transform is None else self.transform.layers("transform", size)
        return {**made, **self._words().layers(vocabulary_size)}

    def apply(self, layer: LayerByName, hidden: Tensor, mask: Tensor) -> Tensor:
        x = hidden if self.transform is None else self.transform.apply(layer, "transform", hidden)
        return self._words().apply(layer, x, mask, "source")

    def _words(self) -> LanguageHead:
        return LanguageHead(self.tied, self.use_bias)


def check_pooling(
    pooling: PoolingKind | Sequence[PoolingKind] | AttentionPooling,
) -> PoolingKind | list[PoolingKind] | AttentionPooling:
    """Returns a head's pooling, after checking it."""
    if not isinstance(pooling, AttentionPooling):
        return check_kind(pooling)
    if pooling.num_hops != 1:
        raise ValueError(f"`pooling` must have one hop. Received: num_hops={pooling.num_hops}.")
    return pooling


def pooling_layer(pooling: PoolingKind | list[PoolingKind] | AttentionPooling) -> keras.layers.Layer:
    """Returns the layer `pooling` of a head."""
    if isinstance(pooling, AttentionPooling):
        return clone(pooling, "pooling")
    return Pooling(pooling, name="pooling")


def label_layers(head: Classification | TokenClassification, size: int) -> Layers:
    """Returns the layers from vectors of `size` units to the logits of labels."""
    made = {} if head.transform is None else head.transform.layers("transform", size)
    if head.dropout:
        made["label_dropout"] = keras.layers.Dropout(head.dropout, name="label_dropout")
    labels = keras.layers.Dense(head.num_labels, name="labels")
    return {**made, "labels": labels, "logits": Logits(name="logits")}


def label_logits(head: Classification | TokenClassification, layer: LayerByName, x: Tensor) -> Tensor:
    """Returns the logits of labels for vectors `[B, ..., M]`, in the compute dtype."""
    x = x if head.transform is None else head.transform.apply(layer, "transform", x)
    return layer("labels")(layer("label_dropout")(x) if head.dropout else x)
