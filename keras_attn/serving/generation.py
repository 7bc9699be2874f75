"""The endpoints of a model with steps: the best text, the N best texts, a text's probability, the encoder's outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

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


class Rows(NamedTuple):
    """Rows of ids that a model can read.

    Attributes:
        ids: int32 `[B, S]`, at least one id wide.
        lengths: Number of real ids of each row, int32 `[B]`.
    """

    ids: Tensor
    lengths: Tensor


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
        self.explicit = self.special_ids.padding is None  # without padding, ids need their lengths beside them
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
        source = self.side("source", self.source_text)
        options = (tf.TensorSpec((None,), "int32", "max_length"), tf.TensorSpec((None,), "float32", "temperature"))
        of_ids = (*self.side("source", None), *options)
        endpoints = [
            Endpoint("serving_default", self.best, source),
            Endpoint("generate", self.generate, of_ids),
            Endpoint("score", self.score, (*source, *self.side("target", self.target_text))),
        ]
        if self.facts.reads_prompts and self.source_text is not None:
            endpoints.append(Endpoint("prompt", self.best, source))
        if isinstance(self.model, Seq2SeqModel):
            endpoints.append(Endpoint("encode", self.encode, source))
        if self.compiled_twin:
            endpoints.append(Endpoint("generate_xla", self.generate_xla, of_ids))
        return endpoints

    def side(self, name: str, tokenizer: Tokenizer | None) -> tuple[tf.TensorSpec, ...]:
        """Returns the inputs of one side: strings, or ids, with their lengths if there is no padding id."""
        if tokenizer is not None:
            return (text(name),)
        return (ids(name), tf.TensorSpec((None,), "int32", f"{name}_length"))[: 1 + self.explicit]

    def requests_like(self, rows: list[Arrays]) -> list[tuple[str, Arrays]]:
        """Returns the first examples together as one request of every signature, except those for XLA."""
        sent = rows[:NUM_SENT_TOGETHER]
        first = {name: padded_batch([row[name] for row in sent], self.special_ids.filler) for name in rows[0]}
        return [(each.name, first) for each in self.all() if not each.name.endswith("_xla")]

    def best(self, *source: Tensor) -> Tensors:
        """Returns the best text of each row and its score."""
        read = self.read(*source)
        rows = tf.shape(read.ids)[0]
        temperature = self.config.strategy.temperature
        limits = tf.fill((rows,), self.config.max_length)
        found = Generated(*self.search(*self.known_rows(read), limits, tf.fill((rows,), float(temperature))))
        best = found.tokens[:, 0]
        return {
            "target": best if self.target_text is None else self.texts_of(self.target_text, best, found.lengths[:, 0]),
            "score": found.scores[:, 0],
        }

    def generate(self, *source: Tensor) -> Tensors:
        """Returns the N best texts for ids; each row has its own maximum length and temperature, the last inputs."""
        *rows, limits, temperature = source
        return self.all_of(self.search(*self.known_rows(self.clean(*rows)), limits, temperature))

    def generate_xla(self, *source: Tensor) -> Tensors:
        """Returns the same as `generate`, compiled by XLA for every new shape."""
        *rows, limits, temperature = source
        return self.all_of(self.search_xla(*self.known_rows(self.clean(*rows)), limits, temperature))

    def score(self, *sides: Tensor) -> Tensors:
        """Returns the log probability of each target, and the attention scores of recipes with a source."""
        number = len(self.side("source", self.source_text))
        source, target = self.read(*sides[:number]), self.read_target(*sides[number:])
        outputs = {"source_length": source.lengths, "target_length": target.lengths}
        if not isinstance(self.model, Seq2SeqModel):
            return outputs | {"log_probability": self.score_by_steps(source, target)}
        starts = tf.ones_like(target.ids[:, :1]) * self.config.start_id
        inputs = tf.concat([starts, target.ids[:, :-1]], axis=1)
        logits, attention = self.model.logits_and_scores(source.ids, inputs)
        log_probs = tf.nn.log_softmax(logits)
        of_target = tf.gather(log_probs, target.ids, batch_dims=2)  # [B, T]
        real = tf.sequence_mask(target.lengths, tf.shape(target.ids)[1])
        return outputs | {
            "log_probability": tf.reduce_sum(tf.where(real, of_target, 0.0), axis=-1),
            "attention_scores": tf.where(expanded(real, attention), without_half(attention), 0.0),
        }

    def score_by_steps(self, source: Rows, target: Rows) -> Tensor:
        """Returns the log probabilities `[B]` of targets, up to `max_length`, by a forced search."""
        forced = dataclasses.replace(self.config, strategy=Greedy(), processors=())
        ids, lengths = self.known_rows(source)
        prefix = target.ids[:, : forced.max_length]
        found = search(self.model, ids, prefix, None, forced, limits=target.lengths, source_lengths=lengths)
        return tf.where(target.lengths > 0, found.scores[:, 0], 0.0)

    def encode(self, source: Tensor) -> Tensors:
        """Returns the encoder's outputs for each source, and which of its positions are real."""
        if not isinstance(self.model, Seq2SeqModel):
            raise ValueError(f"`encode` needs a recipe with a source. Received: {self.model.__class__.__name__}.")
        memory, mask = self.model.encode(self.read(source).ids)[:2]
        return {"memory": without_half(memory), "mask": tf.cast(mask, "int32")}

    def run_search(
        self, source: Tensor, lengths: Tensor | None, limits: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the fields of `Generated` as a plain tuple, which a graph function can return."""
        seed = self.config.strategy.draw_seed()
        found = search(self.model, source, None, seed, self.config, limits, temperature, lengths)
        return found.tokens, found.lengths, found.scores

    def known_rows(self, rows: Rows) -> tuple[Tensor, Tensor | None]:
        """Returns ids, and their lengths if the model cannot find them itself."""
        return rows.ids, rows.lengths if self.explicit else None

    def read(self, *source: Tensor) -> Rows:
        """Returns the rows that the model reads, of strings `[B]`, or of ids `[B, S]` (and their lengths `[B]`)."""
        if self.source_text is None:
            return self.clean(*source)
        return self.rows_of(self.sources(self.source_text, *source), self.source_limit)

    def sources(self, tokenizer: Tokenizer, texts: Tensor) -> tf.RaggedTensor:
        """Returns the ids that the model reads for strings `[B]`."""
        return tokenizer.ragged_prompt(texts) if self.facts.reads_prompts else tokenizer.ragged(texts)

    def clean(self, source: Tensor, lengths: Tensor | None = None) -> Rows:
        """Returns source ids `[B, S]` that the model can read; a prompt may contain end ids."""
        source = self.without_filler(source, lengths, ends=not self.facts.reads_prompts)
        return self.limited(
            known(source, self.facts.source_vocabulary_size, self.special_ids), lengths, self.source_limit
        )

    def read_target(self, target: Tensor, lengths: Tensor | None = None) -> Rows:
        """Returns the rows of targets, of strings `[B]`, or of ids `[B, T]` (and their lengths `[B]`)."""
        if self.target_text is not None:
            return self.rows_of(self.targets(self.target_text, target), self.target_limit)
        target = known(self.without_filler(target, lengths), self.facts.vocabulary_size, self.special_ids)
        return self.limited(target, lengths, self.target_limit)

    def targets(self, tokenizer: Tokenizer, texts: Tensor) -> tf.RaggedTensor:
        """Returns the ids of the targets of strings `[B]`, with what ends them; continuations have no start."""
        if not self.facts.reads_prompts:
            return tokenizer.ragged(texts)
        pieces = tokenizer.pieces(texts)
        return tf.concat([pieces, tf.fill([pieces.nrows(), 1], self.special_ids.end)], axis=1)

    def rows_of(self, ids: tf.RaggedTensor, limit: int | None) -> Rows:
        """Returns ragged ids as rows, cut at a limit."""
        ids = ids[:, :limit]
        return Rows(
            at_least_one(ids.to_tensor(self.special_ids.filler), self.special_ids.filler),
            tf.cast(ids.row_lengths(), "int32"),
        )

    def without_filler(self, tokens: Tensor, lengths: Tensor | None, ends: bool = True) -> Tensor:
        """Returns ids with the model's filler behind the end of each row."""
        if lengths is None:
            return without_filler(tokens, self.special_ids, ends)
        return tf.where(tf.sequence_mask(lengths, tf.shape(tokens)[1]), tokens, self.special_ids.filler)

    def limited(self, tokens: Tensor, lengths: Tensor | None, limit: int | None) -> Rows:
        """Returns ids as rows, cut at a limit."""
        tokens = at_least_one(tokens[:, :limit], self.special_ids.filler)
        if lengths is None:
            lengths = tf.reduce_sum(tf.cast(self.special_ids.is_real(tokens), "int32"), axis=-1)
        return Rows(tokens, tf.clip_by_value(lengths, 0, tf.shape(tokens)[1]))

    def texts_of(self, tokenizer: Tokenizer, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Returns the strings `[...]` of tokens `[..., L]`, each read up to its length `[...]`."""
        if self.explicit:  # the filler is a token
            tokens = tf.where(tf.sequence_mask(lengths, tf.shape(tokens)[-1]), tokens, self.special_ids.absent)
        return tokenizer.detokenize(tokens)

    def all_of(self, found: tuple[Tensor, Tensor, Tensor]) -> Tensors:
        """Returns all fields of `Generated`, and the texts if there is a tokenizer."""
        outputs = Generated(*found)._asdict()
        if self.target_text is not None:
            outputs["texts"] = self.texts_of(self.target_text, outputs["tokens"], outputs["lengths"])
        return outputs


def shortest(tokenizer: Tokenizer | None, bound: int | None) -> int | None:
    """Returns how many ids of a row are read: the bound of the tokenizer or of the model's positions."""
    most = MOST_IDS if tokenizer is None else tokenizer.max_length
    return min((limit for limit in (most, bound) if limit is not None), default=None)


def padded_batch(values: Sequence[np.ndarray], filler: int) -> np.ndarray:
    """Returns strings, numbers, or rows of ids of any length, as one batch; shorter rows are padded with `filler`."""
    if not values[0].shape:
        return np.array([value.item() for value in values], values[0].dtype)
    batch = np.full((len(values), max(map(len, values))), filler, values[0].dtype)
    for row, value in zip(batch, values, strict=True):
        row[: len(value)] = value
    return batch


def expanded(real: Tensor, scores: Tensor) -> Tensor:
    """Returns which target positions `[B, T]` are real, broadcastable to scores `[B, ..., T, S]`."""
    rows, length = tf.unstack(tf.shape(real))
    return tf.reshape(real, (rows, *(1,) * (scores.shape.rank - 3), length, 1))
