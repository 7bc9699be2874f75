"""What generation is asked for: arguments checked, and as tensors."""

import dataclasses
import numbers

import numpy as np
from keras import ops

from keras_attn.attention.cache import Cache
from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_positive, check_slot, integers, is_array, is_ragged, static_shape
from keras_attn.decoding.processors import Processor
from keras_attn.decoding.strategies import Greedy, Strategy


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """What does not change between the batches of one kind of generation; see `generate`."""

    strategy: Strategy
    max_length: int
    start_id: int
    end_id: int
    processors: tuple = ()
    cache: object = None
    padding_id: int | None = 0

    def __post_init__(self):
        for name in ("strategy", "max_length", "start_id", "end_id", "cache"):
            value = getattr(self, name)
            if is_array(value):
                raise ValueError(f"`{name}` must not be a tensor. Received: {name}.shape={static_shape(value)}.")
        if not isinstance(self.strategy, Strategy):
            raise ValueError(f"`strategy` must be a Strategy of keras_attn. Received: strategy={self.strategy!r}.")
        check_positive("max_length", self.max_length)
        check_slot("cache", self.cache, Cache)
        if not all(isinstance(processor, Processor) for processor in self.processors):
            received = [processor.__class__.__name__ for processor in self.processors]
            raise ValueError(f"`processors` must be Processors of keras_attn. Received objects of types {received}.")
        for name in ("start_id", "end_id"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or value < 0:
                raise ValueError(f"`{name}` must be an id, and must not be negative. Received: {name}={value!r}.")

    @property
    def forbidden_ids(self):
        """The ids that are never chosen: padding and the start id, unless one of them ends a text."""
        return {self.padding_id, self.start_id} - {self.end_id, None}

    @property
    def filler(self):
        """What stands behind the end of a text: padding, 0 where there is none."""
        return 0 if self.padding_id is None else self.padding_id

    @property
    def free(self):
        """What stands in a prefix where no token is forced: padding, -1 where there is none."""
        return -1 if self.padding_id is None else self.padding_id

    def prefix(self, prefix_ids, num_rows):
        """Returns the prefix of `num_rows` rows (None if not known) as int32 `[B or 1, P]`, or None."""
        if prefix_ids is None:
            return None
        check_rectangular("prefix_ids", prefix_ids)
        prefix = integers("prefix_ids", prefix_ids)
        prefix = prefix[None] if len(prefix.shape) == 1 else prefix
        fits = len(prefix.shape) == 2 and (prefix.shape[1] or 0) <= self.max_length
        if not fits or (prefix.shape[0] not in (1, None, num_rows) and num_rows is not None):
            raise ValueError(
                f"`prefix_ids` must be [B, P] or [P] with B={num_rows} and P at most max_length={self.max_length}. "
                f"Received: prefix_ids.shape={static_shape(prefix)}."
            )
        return prefix

    def check_vocabulary(self, num_tokens, prefix):
        """Raises a `ValueError` for ids that the model's logits `[B, V]` do not have."""
        for name in ("start_id", "end_id"):
            if getattr(self, name) >= num_tokens:
                raise ValueError(
                    f"`{name}` must be less than the {num_tokens} ids of the model. "
                    f"Received: {name}={getattr(self, name)}."
                )
        if prefix is not None and is_concrete(prefix) and prefix.shape[1]:
            ids = ops.convert_to_numpy(prefix)
            if ids.max(initial=0) >= num_tokens or ids.min(initial=0) < 0:
                raise ValueError(
                    f"`prefix_ids` must be less than the {num_tokens} ids of the model, and not negative. "
                    f"Received: ids from {ids.min(initial=0)} up to {ids.max(initial=0)}."
                )


def config_of(facts, strategy, max_length, start_id=None, end_id=None, processors=(), cache=None):
    """Returns `generate`'s arguments as a `GenerationConfig`; the `facts` of the model give the ids that are None."""
    return GenerationConfig(
        Greedy() if strategy is None else strategy,
        max_length,
        facts.special_ids.start if start_id is None else start_id,
        facts.special_ids.end if end_id is None else end_id,
        tuple(processors),
        cache,
        facts.special_ids.padding,
    )


def check_rectangular(name, value):
    """Raises a `ValueError` for a ragged tensor, or a list whose rows have different lengths."""
    ragged = is_ragged(value) or (isinstance(value, np.ndarray) and value.dtype == object)
    if isinstance(value, (list, tuple)) and all(isinstance(row, np.ndarray) or not is_array(row) for row in value):
        try:
            ragged = np.asarray(value).dtype == object
        except ValueError:  # NumPy's own words for rows of different lengths
            ragged = True
    if ragged:
        raise ValueError(
            f"`{name}` must have rows of one length: pad the shorter ones behind, for instance by "
            f"`keras.utils.pad_sequences({name}, padding='post')`, or by `.to_tensor()` if it is ragged. "
            f"Received: {name} of type {value.__class__.__name__} with rows of different lengths."
        )
