"""Learning rate schedules with a warm-up. The first update has the number n = 1, which is step 0 in Keras."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.base.checks import check_number, check_positive
from keras_attn.base.slot import register
from keras_attn.base.types import ArrayLike, Config, Tensor


@register
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to a peak, then decays with the inverse square root of the number of updates.

    `rate(n) = peak * min(n / w, sqrt(w / n))`, where w is `warmup_steps`. It does not depend on the
    total number of updates, so training can continue for any number of updates. The schedule of
    Vaswani et al. has the peak `(size * w) ** -0.5`.

    Args:
        peak: The highest rate, reached at update w.
        warmup_steps: w, at least 1.

    Call arguments:
        step: Number of updates done, an integer scalar.

    Returns:
        The rate, a float32 scalar.

    Raises:
        ValueError: For arguments out of range.

    Example:
    >>> from keras_attn.training import InverseSquareRoot
    >>> schedule = InverseSquareRoot(0.002, warmup_steps=400)
    >>> [round(float(schedule(step)), 6) for step in (199, 399, 1599)]
    [0.001, 0.002, 0.001]

    References:
        Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 5.3.
    """

    def __init__(self, peak: float, warmup_steps: int) -> None:
        super().__init__()
        check_number("peak", peak, above=0)
        check_positive("warmup_steps", warmup_steps)
        self.peak = peak
        self.warmup_steps = warmup_steps

    def __call__(self, step: ArrayLike) -> Tensor:
        n = number_of(step)
        return self.peak * ops.minimum(n / self.warmup_steps, ops.sqrt(self.warmup_steps / n))

    def get_config(self) -> Config:
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}


@register
class LinearWarmup(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to the first rate of another schedule, then follows that schedule.

    `rate(n) = n / w * after(0)` for n up to w, then `after(n - w)`, where w is `warmup_steps`.

    Args:
        after: A constant rate, or any `LearningRateSchedule`.
        warmup_steps: w, at least 1.

    Call arguments and Returns as for `InverseSquareRoot`.

    Raises:
        ValueError: For arguments out of range.

    Example:
    >>> import keras
    >>> from keras_attn.training import LinearWarmup
    >>> schedule = LinearWarmup(keras.optimizers.schedules.CosineDecay(0.002, 1000), warmup_steps=100)
    >>> [round(float(schedule(step)), 6) for step in (49, 99, 599, 1099)]
    [0.001, 0.002, 0.001, 0.0]
    """

    def __init__(self, after: float | keras.optimizers.schedules.LearningRateSchedule, warmup_steps: int) -> None:
        super().__init__()
        if not isinstance(after, keras.optimizers.schedules.LearningRateSchedule):
            check_number("after", after, above=0)
        check_positive("warmup_steps", warmup_steps)
        self.after = after
        self.warmup_steps = warmup_steps

    def __call__(self, step: ArrayLike) -> Tensor:
        n = number_of(step)
        after = self.after
        if isinstance(after, keras.optimizers.schedules.LearningRateSchedule):
            after = ops.cast(after(ops.maximum(n - self.warmup_steps, 0)), "float32")
        return after * ops.minimum(n / self.warmup_steps, 1)

    def get_config(self) -> Config:
        return {"after": keras.saving.serialize_keras_object(self.after), "warmup_steps": self.warmup_steps}

    @classmethod
    def from_config(cls, config: Config) -> LinearWarmup:
        return cls(**keras.saving.deserialize_keras_object(config))


@register
class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to a peak, then falls linearly to zero.

    `rate(n) = peak * min(n / w, (N + 1 - n) / (N + 1 - w))`, where w is `warmup_steps` and N is
    `total_steps`: the rate is positive in all N updates, and zero after them.

    Args:
        peak: The highest rate, reached at update w.
        warmup_steps: w, at least 1.
        total_steps: N, at least w.

    Call arguments and Returns as for `InverseSquareRoot`.

    Raises:
        ValueError: For arguments out of range.

    Example:
    >>> from keras_attn.training import LinearDecay
    >>> schedule = LinearDecay(0.004, warmup_steps=2, total_steps=5)
    >>> [round(float(schedule(step)), 6) for step in range(6)]
    [0.002, 0.004, 0.003, 0.002, 0.001, 0.0]
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int) -> None:
        super().__init__()
        check_number("peak", peak, above=0)
        check_positive("warmup_steps", warmup_steps)
        check_positive("total_steps", total_steps)
        if total_steps < warmup_steps:
            raise ValueError(
                f"`total_steps` must be at least `warmup_steps`={warmup_steps}. Received: total_steps={total_steps}."
            )
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps

    def __call__(self, step: ArrayLike) -> Tensor:
        n = number_of(step)
        left = (self.total_steps + 1 - n) / (self.total_steps + 1 - self.warmup_steps)
        return self.peak * ops.maximum(ops.minimum(n / self.warmup_steps, left), 0)

    def get_config(self) -> Config:
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "total_steps": self.total_steps}


def number_of(step: ArrayLike) -> Tensor:
    """Returns the number n of the update after `step` updates, in float32."""
    return ops.cast(step, "float32") + 1
