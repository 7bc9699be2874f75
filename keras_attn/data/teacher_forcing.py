"""Teacher forcing: the decoder reads the target, shifted right by one token."""

from __future__ import annotations

import tensorflow as tf

from keras_attn.base.special_ids import SpecialIds, special_ids_or_default
from keras_attn.base.types import ArrayLike


def teacher_forcing(
    source: ArrayLike, target: ArrayLike, special_ids: SpecialIds | None = None
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Returns inputs and labels for `fit`: the decoder reads the tokens before the one that it predicts.

    Use it in your own `tf.data` pipeline; `Batches` already does it.

    Args:
        source: Ids `[B, S]`, as a tokenizer's `tokenize` returns them: the end id last, then padding.
        target: Ids `[B, T]`, in the same form.
        special_ids: The `SpecialIds` of the tokenizers; 0 padding, 1 start, 2 end by default.

    Returns:
        `({"source": [B, S], "target": [B, T]}, labels [B, T])`: the labels are `target`, and the
        decoder's input is the start id followed by `target` without its last id.

    Raises:
        ValueError: If the arguments are not integers with two axes.

    Example:
    >>> from keras_attn import data, text
    >>> letters, words = text.Characters("abc"), text.Words(["one", "two"])
    >>> source, target = letters.tokenize(["ab", "c"]), words.tokenize(["one two", "two"])
    >>> inputs, labels = data.teacher_forcing(source, target)
    >>> inputs["target"].numpy().tolist(), labels.numpy().tolist()
    ([[1, 4, 5], [1, 5, 0]], [[4, 5, 2], [5, 2, 0]])

    References:
        Williams and Zipser 1989, A Learning Algorithm for Continually Running Fully Recurrent
        Neural Networks.
    """
    source, target = (padded_ids(name, ids) for name, ids in (("source", source), ("target", target)))
    special_ids = special_ids_or_default(special_ids)
    starts = tf.fill([tf.shape(target)[0], 1], tf.cast(special_ids.start, target.dtype))
    read = tf.concat([starts, target[:, :-1]], axis=1)
    read = tf.where(special_ids.is_real(target), read, tf.cast(special_ids.filler, target.dtype))
    return {"source": source, "target": read}, target


def padded_ids(name: str, ids: ArrayLike) -> tf.Tensor:
    """Returns ids `[B, L]` as a tensor, or raises a `ValueError`."""
    try:
        ids = tf.convert_to_tensor(ids)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be ids padded to one length. Received: {ids.__class__.__name__}.") from error
    if ids.shape.rank not in (None, 2) or not ids.dtype.is_integer:
        raise ValueError(
            f"`{name}` must be integer ids [B, {name[0].upper()}]. "
            f"Received: {name}.dtype={ids.dtype.name}, {name}.shape={ids.shape}."
        )
    return ids
