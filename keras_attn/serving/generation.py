"""The endpoints of a model with steps: the best text, the N best texts, a text's probability, the encoder's outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_attn.base.types import Tensor
from keras_attn.decoding import Generated, Greedy
from keras_attn.decoding.loop import search
from keras_attn.decoding.protocol import DecodingModel, facts_of
from keras_attn.decoding.request import GenerationConfig
from keras_attn.models.inputs import at_least_one
from keras_attn.models.sequence_model import Seq2SeqModel
from keras_attn.serving.endpoints import (
    Endpoint,
    Endpoints,
    Tensors,
    ids,
    known,
    text,
    without_filler,
    without_half,
)
from keras_attn.serving.tensor_specs import Arrays
from keras_attn.text.tokenizer import Tokenizer

NUM_SENT_TOGETHER = 2  # examples in one warm-up request; a server may allow few rows
MOST_IDS = 512  # of a row without a tokenizer: as many as tokenizers return by default


class GenerationEndpoints(Endpoints):
    """The endpoints of a model with steps: `serving_default`, `generate`, `score`, and a recipe's `encode`.

    Args:
        model: With `init_state` and `step`, see `keras_attn.decoding.generate`.
        config: The `GenerationConfig` of the exported search.
        source_text, target_text: The tokenizers of both sides, each None for ids.
        compiled_twin: Whether to add `generate_xla`.
    """

    def __init__(
        self,
        model: DecodingModel,
        config: GenerationConfig,
        source_text: Tokenizer | None = None,
        target_text: Tokenizer | None = None,
        compiled_twin: bool = False,
    ) -> None:
        self.model, self.config = model, config
        self.source_text, self.target_text = source_text, target_text
        self.compiled_twin = compiled_twin
        self.facts = facts_of(model)
        self.special_ids = self.facts.special_ids
        self.facts.check_max_length(config.max_length)
        self.source_limit = shortest(source_text, self.facts.longest_source(config.max_length))
        self.target_limit = shortest(target_text, self.facts.max_length)
        # Traced once, and called by several signatures.
        self.search = tf.function(self.run_search, autograph=False)
        self.search_xla = tf.function(self.run_search, autograph=False, jit_compile=True)

    @property
    def tracked(self) -> list[object]:
        """The model and its tokenizers."""
        texts = (self.source_text, None if self.target_text is self.source_text else self.target_text)
        return [part for part in (self.model, *texts) if part is not None]

    @property
    def draws(self) -> bool:
        """Whether answers are sampled, so that the same request may have different answers."""
        return self.config.strategy.draws

    def all(self) -> list[Endpoint]:
        """Returns the endpoints."""
        source = ids("source") if self.source_text is None else text("source")
        target = ids("target") if self.target_text is None else text("target")
        rows = (tf.TensorSpec((None,), "int32", "max_length"), tf.TensorSpec((None,), "float32", "temperature"))
        endpoints = [
            Endpoint("serving_default", self.best, (source,)),
            Endpoint("generate", self.generate, (ids("source"), *rows)),
            Endpoint("score", self.score, (source, target)),
        ]
        if isinstance(self.model, Seq2SeqModel):
            endpoints.append(Endpoint("encode", self.encode, (source,)))
        if self.compiled_twin:
            endpoints.append(Endpoint("generate_xla", self.generate_xla, (ids("source"), *rows)))
        return endpoints

    def requests_like(self, rows: list[Arrays]) -> list[tuple[str, Arrays]]:
        """Returns the first examples together as one request of every signature, except those for XLA."""
        first = padded_batch([row["source"] for row in rows[:NUM_SENT_TOGETHER]], self.special_ids.filler)
        return [(each.name, {"source": first}) for each in self.all() if not each.name.endswith("_xla")]

    def best(self, source: Tensor) -> Tensors:
        """Returns the best text of each row and its score."""
        source = self.read(source)
        rows = tf.shape(source)[0]
        temperature = self.config.strategy.temperature
        limits = tf.fill((rows,), self.config.max_length)
        found = Generated(*self.search(source, limits, tf.fill((rows,), float(temperature))))
        best = found.tokens[:, 0]
        return {
            "target": best if self.target_text is None else self.target_text.detokenize(best),
            "score": found.scores[:, 0],
        }

    def generate(self, source: Tensor, max_length: Tensor, temperature: Tensor) -> Tensors:
        """Returns the N best texts for ids; each row has its own maximum length and temperature."""
        return self.all_of(self.search(self.clean(source), max_length, temperature))

    def generate_xla(self, source: Tensor, max_length: Tensor, temperature: Tensor) -> Tensors:
        """Returns the same as `generate`, compiled by XLA for every new shape."""
        return self.all_of(self.search_xla(self.clean(source), max_length, temperature))

    def score(self, source: Tensor, target: Tensor) -> Tensors:
        """Returns the log probability of each target, and the attention scores of recipes with a source."""
        source, target = self.read(source), self.read_target(target)
        real = self.special_ids.is_real(target)
        lengths = tf.reduce_sum(tf.cast(real, "int32"), axis=-1)
        outputs = {
            "source_length": tf.reduce_sum(tf.cast(self.special_ids.is_real(source), "int32"), axis=-1),
            "target_length": lengths,
        }
        if not isinstance(self.model, Seq2SeqModel):
            return outputs | {"log_probability": self.score_by_steps(source, target, lengths)}
        starts = tf.ones_like(target[:, :1]) * self.config.start_id
        logits, attention = self.model.logits_and_scores(source, tf.concat([starts, target[:, :-1]], axis=1))
        log_probs = tf.nn.log_softmax(logits)
        of_target = tf.gather(log_probs, target, batch_dims=2)  # [B, T]
        return outputs | {
            "log_probability": tf.reduce_sum(tf.where(real, of_target, 0.0), axis=-1),
            "attention_scores": tf.where(expanded(real, attention), without_half(attention), 0.0),
        }

    def score_by_steps(self, source: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
        """Returns the log probabilities `[B]` of targets `[B, T]`, up to `max_length`, by a forced search."""
        forced = dataclasses.replace(self.config, strategy=Greedy(), processors=())
        found = search(self.model, source, target[:, : forced.max_length], None, forced, limits=lengths)
        return tf.where(lengths > 0, found.scores[:, 0], 0.0)

    def encode(self, source: Tensor) -> Tensors:
        """Returns the encoder's outputs for each source, and which of its positions are real."""
        if not isinstance(self.model, Seq2SeqModel):
            raise ValueError(f"`encode` needs a recipe with a source. Received: {self.model.__class__.__name__}.")
        memory, mask = self.model.encode(self.read(source))[:2]
        return {"memory": without_half(memory), "mask": tf.cast(mask, "int32")}

    def run_search(self, source: Tensor, limits: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the fields of `Generated` as a plain tuple, which a graph function can return."""
        seed = self.config.strategy.draw_seed()
        tokens, lengths, scores = search(self.model, source, None, seed, self.config, limits, temperature)
        return tokens, lengths, scores

    def read(self, source: Tensor) -> Tensor:
        """Returns ids `[B, S]` that the model can read, of strings `[B]` or ids `[B, S]`."""
        if self.source_text is None:
            return self.clean(source)
        ids = self.source_text.prompt(source) if self.facts.reads_prompts else self.source_text.tokenize(source)
        return at_least_one(ids[:, : self.source_limit], self.special_ids.filler)

    def clean(self, source: Tensor) -> Tensor:
        """Returns source ids `[B, S]` that the model can read; a prompt may contain end ids."""
        source = without_filler(source, self.special_ids, ends=not self.facts.reads_prompts)
        source = known(source, self.facts.source_vocabulary_size, self.special_ids)
        return at_least_one(source[:, : self.source_limit], self.special_ids.filler)

    def read_target(self, target: Tensor) -> Tensor:
        """Returns ids `[B, T]` that the model can read, of strings `[B]` or ids `[B, T]`."""
        if self.target_text is not None:
            target = self.target_text.tokenize(target)
        target = known(without_filler(target, self.special_ids), self.facts.vocabulary_size, self.special_ids)
        return at_least_one(target[:, : self.target_limit], self.special_ids.filler)

    def all_of(self, found: tuple[Tensor, Tensor, Tensor]) -> Tensors:
        """Returns all fields of `Generated`, and the texts if there is a tokenizer."""
        outputs = Generated(*found)._asdict()
        if self.target_text is not None:
            outputs["texts"] = self.target_text.detokenize(outputs["tokens"])
        return outputs


def shortest(tokenizer: Tokenizer | None, bound: int | None) -> int | None:
    """Returns how many ids of a row are read: the bound of the tokenizer or of the model's positions."""
    most = MOST_IDS if tokenizer is None else tokenizer.max_length
    return min((limit for limit in (most, bound) if limit is not None), default=None)


def padded_batch(values: Sequence[np.ndarray], filler: int) -> np.ndarray:
    """Returns strings, or rows of ids of any length, as one batch; shorter rows are padded with `filler`."""
    if not values[0].shape:
        return np.array([value.item() for value in values], object)
    batch = np.full((len(values), max(map(len, values))), filler, values[0].dtype)
    for row, value in zip(batch, values, strict=True):
        row[: len(value)] = value
    return batch


def expanded(real: Tensor, scores: Tensor) -> Tensor:
    """Returns which target positions `[B, T]` are real, broadcastable to scores `[B, ..., T, S]`."""
    rows, length = tf.unstack(tf.shape(real))
    return tf.reshape(real, (rows, *(1,) * (scores.shape.rank - 3), length, 1))
