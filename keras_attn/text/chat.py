"""What stands before and behind one turn of a user in the prompt of a chat model."""

from __future__ import annotations

import tensorflow as tf

from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import short_repr

SPACES = r"[\s\v\x1c-\x1f\x{85}\p{Z}]"  # what Python's `str.strip` removes


@register
class Chat(Slot):
    """One turn of a user in a prompt: `prefix + text + suffix`, whose continuation is the answer.

    Args:
        prefix, suffix: What stands before and behind the text, special tokens among it.
        strips: Whether spaces around the text are removed.

    Raises:
        ValueError: If `prefix` or `suffix` is not a string, or `strips` is not a boolean.

    Example:
    >>> from keras_attn.text import Chat
    >>> chat = Chat("<user>", "<assistant>", strips=True)
    >>> chat.prompts([" Hello? "]).numpy().tolist()
    [b'<user>Hello?<assistant>']
    """

    def __init__(self, prefix: str, suffix: str, strips: bool = False) -> None:
        for name, value, kind in (("prefix", prefix, str), ("suffix", suffix, str), ("strips", strips, bool)):
            if not isinstance(value, kind):
                raise ValueError(f"`{name}` must be of type {kind.__name__}. Received: {name}={short_repr(value)}.")
        self.prefix = prefix
        self.suffix = suffix
        self.strips = strips

    def prompts(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns the prompts `[B]` of texts `[B]`."""
        if self.strips:
            texts = tf.strings.regex_replace(texts, f"^{SPACES}+|{SPACES}+$", "")
        return tf.strings.join([self.prefix, texts, self.suffix])


def shortened(rows: tf.RaggedTensor, limit: int | None, behind: int) -> tf.RaggedTensor:
    """Returns rows of at most `limit` ids, of which the last `behind` are those of the row: others are left out."""
    if limit is None:
        return rows
    behind = min(behind, limit)
    numbers = rows.value_rowids()
    lengths = tf.gather(rows.row_lengths(), numbers)  # of each id's row
    place = tf.range(tf.size(numbers, tf.int64)) - tf.gather(rows.row_starts(), numbers)
    kept = (lengths <= limit) | (place < limit - behind) | (place >= lengths - behind)
    return tf.ragged.boolean_mask(rows, rows.with_flat_values(kept))
