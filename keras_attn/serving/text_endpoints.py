"""The endpoints of pretrained text encoders: strings in; embeddings, labels, tags or words out."""

from __future__ import annotations

import tensorflow as tf

from keras_attn.base.types import Tensor
from keras_attn.models.inputs import at_least_one
from keras_attn.pretrained import Pretrained
from keras_attn.serving.endpoints import Endpoint, Endpoints, Tensors, text, without_half
from keras_attn.serving.tensor_specs import Arrays
from keras_attn.text import PretrainedTokenizer

NUM_CANDIDATES = 5  # words for each masked one


class TextEndpoints(Endpoints):
    """The endpoint of an encoder without a head: `text` to `hidden_states` `[B, S, D]` and `mask` `[B, S]`.

    Args:
        loaded: From `keras_attn.pretrained.load`, with a tokenizer.

    Raises:
        ValueError: If there is no tokenizer.
    """

    def __init__(self, loaded: Pretrained) -> None:
        if not isinstance(loaded.source_text, PretrainedTokenizer):
            raise ValueError("`model` must have a tokenizer to be served as a text service. Received: none.")
        self.model, self.tokenizer = loaded.model, loaded.source_text
        self.special_ids = loaded.special_ids

    @property
    def tracked(self) -> list[object]:
        """The model and its tokenizer."""
        return [self.model, self.tokenizer]

    def all(self) -> list[Endpoint]:
        """Returns the endpoint."""
        return [Endpoint("serving_default", self.answer, (text("text"),))]

    def answer(self, texts: Tensor) -> Tensors:
        """Returns the hidden states, and which positions are real."""
        ids = self.read(texts)
        return {"hidden_states": self.run_model(ids), "mask": tf.cast(self.special_ids.is_real(ids), "int32")}

    def read(self, texts: Tensor) -> Tensor:
        """Returns the ids `[B, S]` of strings `[B]`, with S of at least 1."""
        return at_least_one(self.tokenizer.tokenize(texts), self.special_ids.filler)

    def run_model(self, ids: Tensor, segments: Tensor | None = None) -> Tensor:
        """Returns the model's output in a dtype that JSON can represent; segments are read if there is such an input.

        Args:
            ids, segments: `[B, S]`.
        """
        inputs = {"source": ids, "segments": tf.zeros_like(ids) if segments is None else segments}
        read = {name: tensor for name, tensor in inputs.items() if name in self.model.input}
        return without_half(self.model(read, training=False))


class EmbeddingEndpoints(TextEndpoints):
    """The endpoint of a sentence encoder: `text` to `embedding` `[B, D]`."""

    def answer(self, texts: Tensor) -> Tensors:
        """Returns the embeddings."""
        return {"embedding": self.run_model(self.read(texts))}


class ClassificationEndpoints(TextEndpoints):
    """The endpoints of a classifier of texts, and of pairs of texts (`pair`).

    Outputs: `label` `[B]`, the best label; `scores` `[B, L]`; `labels` `[B, L]`, the names of the scores.
    """

    def __init__(self, loaded: Pretrained) -> None:
        super().__init__(loaded)
        self.labels = list(loaded.labels)
        self.activation = {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid, "linear": tf.identity}[loaded.activation]

    def all(self) -> list[Endpoint]:
        """Returns the endpoints."""
        return [*super().all(), Endpoint("pair", self.answer_pair, (text("text"), text("text_pair")))]

    def requests_like(self, rows: list[Arrays]) -> list[tuple[str, Arrays]]:
        """Returns warm-up requests of `pair`."""
        return [("pair", {"text": row["text"][None], "text_pair": row["text"][None]}) for row in rows[:1]]

    def answer(self, texts: Tensor) -> Tensors:
        """Returns the label and the scores of each text."""
        return self.labelled(self.run_model(self.read(texts)))

    def answer_pair(self, texts: Tensor, pairs: Tensor) -> Tensors:
        """Returns the label and the scores of each pair."""
        ids, segments = self.tokenizer.tokenize_pairs(texts, pairs)
        return self.labelled(self.run_model(ids, segments))

    def labelled(self, logits: Tensor) -> Tensors:
        """Returns the outputs for logits `[B, L]`."""
        labels = tf.constant(self.labels)
        return {
            "label": tf.gather(labels, tf.argmax(logits, axis=-1)),
            "scores": self.activation(logits),
            "labels": tf.repeat(labels[None], tf.shape(logits)[0], axis=0),
        }


class TokenClassificationEndpoints(TextEndpoints):
    """The endpoint of a tagger: `text` to a tag of each token.

    Outputs `[B, S]`: `tokens`; `tags`; `scores`, the probability of each tag; `starts` and `ends`, in characters of
    the text. Special tokens and padding have empty tags and a score of 0.
    """

    def __init__(self, loaded: Pretrained) -> None:
        super().__init__(loaded)
        self.labels = list(loaded.labels)

    def answer(self, texts: Tensor) -> Tensors:
        """Returns tokens, tags, probabilities and offsets."""
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(texts)
        probabilities = tf.nn.softmax(self.run_model(ids))  # [B, S, L]
        special = tf.constant([each for each in (self.special_ids.start, self.special_ids.end) if each is not None])
        real = self.special_ids.is_real(ids) & tf.reduce_all(tf.not_equal(ids[..., None], special), axis=-1)
        tags = tf.gather(tf.constant(self.labels), tf.argmax(probabilities, axis=-1))
        tokens = tf.gather(tf.constant(self.tokenizer.tokens), ids)
        return {
            "tokens": tf.where(self.special_ids.is_real(ids), tokens, ""),
            "tags": tf.where(real, tags, ""),
            "scores": tf.where(real, tf.reduce_max(probabilities, axis=-1), 0.0),
            "starts": starts,
            "ends": ends,
        }


class MaskedWordsEndpoints(TextEndpoints):
    """The endpoint of a masked language model: `text` with mask tokens to words for them.

    Outputs: `filled` `[B]`, the text with the most probable words; `candidates` and `scores` `[B, N, 5]`, the best
    words for each of N masks and their probabilities, padded with empty strings and zeros.

    Raises:
        ValueError: If the tokenizer has no mask token.
    """

    def __init__(self, loaded: Pretrained) -> None:
        super().__init__(loaded)
        if self.tokenizer.mask_id is None:
            raise ValueError(
                "`model` must have a mask token for the task 'masked_words'. Received: a tokenizer without."
            )

    def answer(self, texts: Tensor) -> Tensors:
        """Returns the filled text, and the best words for each mask."""
        ids = self.read(texts)
        logits, masked = self.run_model(ids), tf.equal(ids, self.tokenizer.mask_id)
        per_row = tf.reduce_sum(tf.cast(masked, "int32"), axis=1)
        probabilities = tf.nn.softmax(tf.boolean_mask(logits, masked))  # [all masks, V]
        scores, best = tf.math.top_k(probabilities, min(NUM_CANDIDATES, logits.shape[-1]))
        words = tf.strings.strip(self.tokenizer.detokenize(best[..., None]))  # [all masks, 5]
        chosen = tf.tensor_scatter_nd_update(ids, tf.where(masked), tf.cast(best[:, 0], ids.dtype))
        return {
            "filled": self.tokenizer.detokenize(chosen),
            "candidates": tf.RaggedTensor.from_row_lengths(words, per_row).to_tensor(),
            "scores": tf.RaggedTensor.from_row_lengths(scores, per_row).to_tensor(),
        }


TASKS: dict[str, type[TextEndpoints]] = {
    "hidden_states": TextEndpoints,
    "embedding": EmbeddingEndpoints,
    "classification": ClassificationEndpoints,
    "token_classification": TokenClassificationEndpoints,
    "masked_words": MaskedWordsEndpoints,
}
