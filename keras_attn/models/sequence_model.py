"""What the recipes' models share: ids in, checked where their values can be seen, and generation."""

import keras
import numpy as np
from keras import ops

from keras_attn import decoding
from keras_attn.checks import check_axes
from keras_attn.composite import is_array
from keras_attn.kernels.backend import compiled, is_concrete
from keras_attn.slots import register
from keras_attn.special_ids import END_ID, PADDING_ID, START_ID

PACKING = ("source_segment_ids", "source_positions", "target_segment_ids", "target_positions")
INPUT_AXES = {name: "BS" if name.startswith("source") else "BT" for name in ("source", "target", *PACKING)}


class SequenceModel(keras.Model):
    """A functional model over ids that decodes step by step; leaves `__init__` to Keras, so that it reloads.

    Attributes:
        source_vocabulary: Which embedding's vocabulary bounds the ids that `generate` takes.

    Ids outside a vocabulary raise a `ValueError` in eager mode; in a graph the embedding
    lookup decides (an error on a CPU, zeros on a GPU under TensorFlow).
    """

    source_vocabulary = "source"

    def fit(self, *args, class_weight=None, **kwargs):
        """Trains as `keras.Model.fit` does; `class_weight` is refused."""
        check_no_class_weight(class_weight)
        return super().fit(*args, **kwargs)

    def train_on_batch(self, *args, class_weight=None, **kwargs):
        """Trains as `keras.Model.train_on_batch` does; `class_weight` is refused."""
        check_no_class_weight(class_weight)
        return super().train_on_batch(*args, **kwargs)

    def generate(
        self,
        source,
        strategy=None,
        max_length=256,
        start_id=START_ID,
        end_id=END_ID,
        prefix_ids=None,
        processors=(),
        cache=None,
        return_attention_scores=False,
        jit_compile=False,
    ):
        """Generates texts for ids, compiled once for all batches of the same options.

        Args:
            source: Ids `[B, S]`, 0 behind the end of a row.
            strategy, max_length, start_id, end_id, prefix_ids, processors, cache: As for
                `keras_attn.decoding.generate`.
            return_attention_scores: Whether to return the attention of each generated token over
                the source too, `[B, N, ...]` and then as `attention_scores` has it.
            jit_compile: Whether XLA compiles it, once per shape (JAX always does).

        Returns:
            `Generated`: tokens `[B, N, L]`, lengths `[B, N]`, scores `[B, N]`; or that and the
            attention scores.

        Raises:
            ValueError: For arguments out of range or ids outside the vocabulary.
        """
        if return_attention_scores and getattr(self, "attention_scores", None) is None:
            raise ValueError("`return_attention_scores` is for models with a source beside the target.")
        source = self.read_ids("source", source, "BS", self.source_vocabulary)
        request = decoding.Request(
            strategy or decoding.Greedy(), max_length, start_id, end_id, tuple(processors), cache
        )
        prefix, seed = request.prefix(prefix_ids, source.shape[0]), request.strategy.draw_seed()
        request.check_vocabulary(self.get_layer("target_embedding").input_dim, prefix)
        if is_concrete(source):
            found = self._compiled_search(request, (source, prefix, seed), jit_compile)(source, prefix, seed)
        else:
            found = decoding.search(self, source, prefix, seed, request)
        if not return_attention_scores:
            return found
        return found, self._attention_of(source, found.tokens, start_id)

    def _compiled_search(self, request, examples, jit_compile):
        """Returns the compiled search, made anew after weights were replaced (`quantize`, `enable_lora`)."""
        kinds = tuple(None if each is None else (len(each.shape), str(each.dtype)) for each in examples)
        key = request, kinds, jit_compile, tuple(id(variable) for variable in self.variables)
        searches = self.__dict__.get("_searches", {})
        if key not in searches:
            searches = {known: value for known, value in searches.items() if known[3] == key[3]}

            def run(source, prefix, seed):
                return decoding.search(self, source, prefix, seed, request)

            searches[key] = compiled(self, run, examples, jit_compile)
            object.__setattr__(self, "_searches", searches)  # past Keras, which would track it
        return searches[key]

    def _attention_of(self, source, tokens, start_id):
        """Returns the attention of generated tokens `[B, N, L]` over the source, as in training."""
        rows, number, length = ops.shape(tokens)
        texts = ops.reshape(tokens, (rows * number, length))
        read = ops.concatenate([ops.full((rows * number, 1), start_id, "int32"), texts[:, :-1]], axis=1)
        scores = self.attention_scores(ops.repeat(source, number, axis=0), read)
        written = ops.reshape(ops.not_equal(texts, PADDING_ID), (-1, *(1,) * (len(scores.shape) - 3), length, 1))
        return ops.reshape(ops.where(written, scores, 0), (rows, number, *ops.shape(scores)[1:]))

    def read_ids(self, name, ids, axes, vocabulary):
        """Returns ids as a tensor, after checking their axes and values."""
        ids = ids if is_array(ids) else np.asarray(ids)
        check_axes({name: axes}, {name: ids})
        self.check_ids(name, ids, vocabulary)
        return ids if isinstance(ids, keras.KerasTensor) else ops.convert_to_tensor(ids, dtype="int32")

    def check_ids(self, name, ids, vocabulary):
        """Raises a `ValueError` if `ids` are no integers, or concrete ones outside of the vocabulary."""
        seen = isinstance(ids, np.ndarray) or is_concrete(ids)
        # Under tf.distribute, Keras traces a model once for the mean of the replicas' ids, in a graph.
        known = seen or isinstance(ids, keras.KerasTensor)
        if known and keras.backend.is_float_dtype(keras.backend.standardize_dtype(ids.dtype)):
            raise ValueError(f"`{name}` must hold integer ids. Received: {name}.dtype={ids.dtype}.")
        size = self.get_layer(f"{vocabulary}_embedding").input_dim
        if not seen or 0 in ids.shape:
            return
        lowest, highest = int(ops.min(ids)), int(ops.max(ids))
        if lowest < 0 or highest >= size:
            raise ValueError(
                f"`{name}` must hold ids from 0 to {size - 1}. Received: {name} with ids from {lowest} to {highest}."
            )


@register
class Seq2SeqModel(SequenceModel):
    """A functional model from `{"source": [B, S], "target": [B, T]}` to logits `[B, T, V]`, made by the recipes."""

    def call(self, inputs, training=None, mask=None):
        ids, packing = split_packing(inputs)
        check_axes(INPUT_AXES, {**ids, **packing})
        for name in ("source", "target"):
            self.check_ids(name, ids[name], name)
        if not packing:
            return super().call(ids, training=training, mask=mask)
        return self.call_packed(ids["source"], ids["target"], packing)

    def compute_output_spec(self, inputs, training=None, mask=None):
        return super().compute_output_spec(split_packing(inputs)[0], training=training, mask=mask)

    def call_packed(self, source, target, packing):
        """The call for rows that hold several pairs each.

        Args:
            source: Ids `[B, S]`.
            target: Ids `[B, T]`.
            packing: Segment ids and positions of both sides by name, see `INPUT_AXES`.

        Returns:
            Logits `[B, T, V]`.
        """
        raise ValueError(
            f"`{self.__class__.__name__}` reads one pair per row: its encoder would carry its state from one pair "
            f"to the next. Received packed inputs: {sorted(packing)}."
        )

    def attention_scores(self, source, target):
        """Returns the attention of each target position over the source, for ids.

        Args:
            source: Ids `[B, S]`.
            target: Ids `[B, T]`, the start id first.

        Returns:
            Scores `[B, ..., T, S]`, see the recipe's `logits_and_scores`.
        """
        return self.logits_and_scores(source, target)[1]

    def logits_and_scores(self, source, target):
        """Returns the logits `[B, T, V]` and the attention scores in one pass; arguments as `attention_scores`."""
        raise NotImplementedError(f"`{self.__class__.__name__}` must define `logits_and_scores(source, target)`.")


def split_packing(inputs):
    """Splits a model's inputs into the ids and what only packed rows have, dictionaries both.

    Raises:
        ValueError: If only some of what packed rows need is there.
    """
    named = inputs if isinstance(inputs, dict) else dict(zip(("source", "target"), inputs))
    packing = {name: named[name] for name in PACKING if name in named}
    if packing and len(packing) < len(PACKING):
        raise ValueError(f"Packed inputs must have all of {PACKING}. Received: {sorted(named)}.")
    return {name: value for name, value in named.items() if name not in PACKING}, packing


def check_no_class_weight(class_weight):
    """Raises a `ValueError` for class weights: Keras would take a row of ids for one-hot numbers of one class."""
    if class_weight is not None:
        raise ValueError(
            "`class_weight` is not for sequences of ids: pass `sample_weight` [B, T], a weight of each token. "
            f"Received: class_weight of {len(class_weight)} classes."
        )


def padding_mask(ids):
    """Returns `[B, T]` booleans, True where an id is not padding."""
    return ops.not_equal(ids, PADDING_ID)


def id_inputs(*names):
    """Returns a dictionary of symbolic inputs `[B, None]` of ids."""
    return {name: keras.Input((None,), dtype="int32", name=name) for name in names}
