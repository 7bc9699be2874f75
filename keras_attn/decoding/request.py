"""What generation is asked for: arguments checked, and as tensors."""

import dataclasses

from keras import ops

from keras_attn.attention.cache import Cache
from keras_attn.backend import is_concrete
from keras_attn.base.checks import check_number, check_positive, check_slot
from keras_attn.base.tensors import is_array, static_shape, to_tensor
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
            check_number(name, getattr(self, name), int, must="be an id, and must not be negative", at_least=0)

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
        prefix = to_tensor("prefix_ids", prefix_ids, "int32")
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
