"""Heads with the tables of their weights, as the families need them."""

from __future__ import annotations

from typing import TypeAlias

from keras_attn.base.types import Activation
from keras_attn.layers.norms import Norm
from keras_attn.models.heads import Classification, Head, MaskedWords, TokenClassification, Transform
from keras_attn.models.language_head import LanguageHead
from keras_attn.models.pooling import First, PoolingKind
from keras_attn.pretrained import tables
from keras_attn.pretrained.settings import Settings
from keras_attn.pretrained.tables import Linear, Table, Vector

HeadAndTable: TypeAlias = tuple[Head | LanguageHead, Table]
Hidden: TypeAlias = tuple[Transform, Table]
"""The hidden layer of a head, and the table of its weights."""


def hidden(
    name: str,
    size: int,
    activation: Activation = "tanh",
    norm: tuple[str, Norm] | None = None,
    bias: bool = True,
    norm_bias: bool = True,
) -> Hidden:
    """Returns a hidden layer of `size` units with the names of its linear map and of its norm, if it has one."""
    table: Table = {"transform": Linear(name, size, size, bias)}
    if norm is not None:
        table["transform_norm"] = tables.Norm(norm[0], size, norm_bias)
    return Transform(activation=activation, norm=None if norm is None else norm[1], use_bias=bias), table


def text_labels(
    name: str,
    size: int,
    num_labels: int,
    hidden: Hidden,
    dropout: float,
    pooling: PoolingKind = First(),  # noqa: B008
) -> HeadAndTable:
    """Returns the head of one label for a text; `name` is that of the linear map to the logits."""
    transform, table = hidden
    return Classification(num_labels, pooling, transform, dropout), {**table, "labels": Linear(name, size, num_labels)}


def token_labels(name: str, size: int, num_labels: int, hidden: Hidden | None, dropout: float) -> HeadAndTable:
    """Returns the head of one label for each token; arguments as for `text_labels`."""
    transform, table = (None, {}) if hidden is None else hidden
    return TokenClassification(num_labels, transform, dropout), {**table, "labels": Linear(name, size, num_labels)}


def words(name: str, s: Settings, hidden: Hidden, bias: bool = True) -> HeadAndTable:
    """Returns the head of the words at masked positions; `name` is that of the linear map to the logits."""
    transform, table = hidden
    size, number, tied = s["hidden_size"], s["vocab_size"], s["tie_word_embeddings"]
    if not tied:
        table = {**table, "projection": Linear(name, size, number, bias)}
    elif bias:
        table = {**table, "bias": Vector(f"{name}.bias", number)}
    return MaskedWords(transform, tied, bias), table
