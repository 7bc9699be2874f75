"""Word dropout: replaces some of the words that a decoder reads with the unknown word, during training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn.base.checks import check_rate
from keras_attn.base.slot import register
from keras_attn.base.special_ids import SpecialIds, special_ids_or_default
from keras_attn.base.types import Config, LayerArguments, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack


@register
class WordDropout(keras.layers.Layer):
    """Replaces random ids with the id of the unknown word, during training only.

    A recurrent decoder then depends more on the memory than on the previous words, and is more robust to
    its own errors. Padding, start and end ids are not replaced.

    Args:
        rate: The probability in [0, 1) that a word is replaced.
        seed: An integer, or None for a random seed.
        special_ids: The `SpecialIds` of the ids; 0 padding, 1 start, 2 end, 3 unknown by default.

    Call arguments:
        inputs: Ids of any shape.
        training: Whether to replace words.

    Returns:
        Ids of the same shape and dtype; their Keras mask is passed on.

    Raises:
        ValueError: If `rate` is out of range, or there is no unknown id.

    Example:
    >>> import keras
    >>> from keras_attn import models
    >>> from keras_attn.training import WordDropout
    >>> model = models.RNNSeq2Seq(50, 60, size=16)
    >>> inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("source", "target")}
    >>> logits = model({**inputs, "target": WordDropout(0.1)(inputs["target"])})
    >>> trained = keras.Model(inputs, logits)  # fit this, keep `model`

    References:
        Bowman et al. 2016, Generating Sentences from a Continuous Space, arXiv:1511.06349,
        section 3.1.
    """

    def __init__(
        self,
        rate: float,
        seed: int | None = None,
        special_ids: SpecialIds | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(**kwargs)
        check_rate("rate", rate)
        self.rate = rate
        self.seed = seed
        self.special_ids = special_ids_or_default(special_ids)
        if self.special_ids.unknown is None:
            raise ValueError(f"`special_ids` must have an unknown id. Received: special_ids={self.special_ids}.")
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if not training or not self.rate:
            return inputs
        drawn = keras.random.uniform(ops.shape(inputs), dtype="float32", seed=self.seed_generator) < self.rate
        ids = self.special_ids
        word = ops.logical_and(ops.not_equal(inputs, ids.start), ops.not_equal(inputs, ids.end))
        word = ops.logical_and(word, ids.is_real(inputs))
        return ops.where(ops.logical_and(drawn, word), ops.cast(ids.unknown, inputs.dtype), inputs)

    def compute_output_spec(self, inputs: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def get_config(self) -> Config:
        special_ids = keras.saving.serialize_keras_object(self.special_ids)
        return {**super().get_config(), "rate": self.rate, "seed": self.seed, "special_ids": special_ids}
