"""The special ids of models and tokenizers: padding, start, end and unknown."""

from __future__ import annotations

import dataclasses

import keras
from keras import ops

from keras_attn.base.checks import check_slot, is_number
from keras_attn.base.slot import Slot, register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import Config, Tensor


@register
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SpecialIds(Slot):
    """The special ids of a vocabulary.

    Start and padding may be the same id (T5, Marian), and so may start and end (BART, GPT-2). The other ids differ.

    Args:
        padding: Id that fills rows after their end. None for a vocabulary without it; then no id is masked.
        start: The first id that a decoder reads.
        end: Id that ends a text.
        unknown: Id that replaces tokens that are not in the vocabulary; None for a vocabulary without it.
        other_ends: Further ids that end a text, different from `end`; padding and start may be among them.

    Raises:
        ValueError: If an id is not an integer of at least 0, or ids that must differ are equal.

    Example:
    >>> import keras_attn as ka
    >>> of_marian = ka.SpecialIds(padding=58100, start=58100, end=0, unknown=1)
    >>> of_gpt2 = ka.SpecialIds(padding=None, start=50256, end=50256, unknown=None)
    """

    padding: int | None = 0
    start: int = 1
    end: int = 2
    unknown: int | None = 3
    other_ends: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._check_other_ends()
        for name in ("padding", "start", "end", "unknown"):
            value = getattr(self, name)
            optional = name in ("padding", "unknown")
            if not is_number(value, int, at_least=0) and not (optional and value is None):
                wanted = "an integer of at least 0" + " or None" * optional
                raise ValueError(f"`{name}` must be {wanted}. Received: {name}={short_repr(value)}.")
        distinct = [value for value in (self.padding, self.end, self.unknown) if value is not None]
        if len(set(distinct)) < len(distinct) or self.start == self.unknown:
            raise ValueError(
                "`start` may equal `padding` or `end`; the other special ids must differ, or be None if the "
                f"vocabulary has none. Received: {self}."
            )

    def __repr__(self) -> str:
        text = super().__repr__()
        return text if self.other_ends else text.replace(", other_ends=()", "")

    def _check_other_ends(self) -> None:
        """Raises a `ValueError` unless `other_ends` holds different ids; a list becomes a tuple."""
        ids = self.other_ends
        valid = isinstance(ids, (list, tuple)) and all(is_number(each, int, at_least=0) for each in ids)
        if not valid or len({*ids, self.end}) < len(ids) + 1:
            raise ValueError(
                "`other_ends` must be a list of ids that differ from each other and from `end`. "
                f"Received: end={short_repr(self.end)}, other_ends={short_repr(ids)}."
            )
        object.__setattr__(self, "other_ends", tuple(ids))

    @property
    def end_ids(self) -> tuple[int, ...]:
        """All ids that end a text: `end` and `other_ends`."""
        return self.end, *self.other_ends

    @property
    def ids(self) -> tuple[int, ...]:
        """All special ids of the vocabulary; some may be equal."""
        optional = (each for each in (self.padding, self.unknown) if each is not None)
        return self.start, *self.end_ids, *optional

    @property
    def filler(self) -> int:
        """The id that fills a row after its end: padding, or 0 if padding is None."""
        return 0 if self.padding is None else self.padding

    @property
    def absent(self) -> int:
        """A number that is no token's id: padding, or -1 if padding is None."""
        return -1 if self.padding is None else self.padding

    def is_real(self, ids: Tensor) -> Tensor:
        """Returns `[B, T]` booleans, True where an id is not padding. Without a padding id, all are True."""
        return ids != self.absent  # not `keras.ops`: TensorFlow pipelines call it on every backend

    def is_read(self, ids: Tensor, segment_ids: Tensor | None = None) -> Tensor:
        """Returns `[B, T]` booleans, True where a decoder reads an id.

        The same as `is_real`, unless the start id is the padding id. Then the first id of a row is read too;
        in a packed row, all ids of its texts are read.

        Args:
            ids: `[B, T]`, the start id first.
            segment_ids: Number of each id's text in a packed row, `[B, T]`, or None.
        """
        real = self.is_real(ids)
        if self.start != self.padding:
            return real
        if segment_ids is not None:
            return ops.logical_or(real, ops.not_equal(segment_ids, 0))
        number = ops.cumsum(ops.ones_like(ids, dtype="int32"), axis=1, dtype="int32")  # also for a symbolic length
        return ops.logical_or(real, ops.equal(number, 1))


def special_ids_or_default(special_ids: SpecialIds | Config | None) -> SpecialIds:
    """Returns `special_ids`, deserialised if it is a config; for None, the ids of this library's tokenizers.

    Raises:
        ValueError: If `special_ids` is none of these.
    """
    if isinstance(special_ids, dict):
        special_ids = keras.saving.deserialize_keras_object(special_ids)
    return check_slot("special_ids", special_ids, SpecialIds) or SpecialIds()


def check_same_special_ids(**owners: SpecialIds) -> None:
    """Raises a `ValueError` unless all owners have the same special ids.

    Args:
        **owners: `SpecialIds` by the name of the argument that contains them.
    """
    if len({repr(special_ids) for special_ids in owners.values()}) > 1:
        names = " and ".join(f"`{name}`" for name in owners)
        received = ", ".join(f"{name}.special_ids={special_ids}" for name, special_ids in owners.items())
        raise ValueError(f"{names} must have the same special ids. Received: {received}.")
