"""Lengths of sources that padding does not tell: passed on to the model, or refused."""

import numpy as np
import pytest
from keras import ops

from keras_attn import decoding, models
from keras_attn.base.special_ids import SpecialIds

V = 7


class Adding:
    """Counts on from the sum of the first ids of its source; id 0 is a word, and there is no padding."""

    special_ids = SpecialIds(padding=None, start=1, end=6, unknown=None)
    reads_prompts = True

    def init_state(self, source, max_length, source_lengths=None):
        return {"sum": masked_sum(source, source_lengths)}

    def first_tokens(self, source, start_id, source_lengths=None):
        return masked_sum(source, source_lengths)

    def step(self, tokens, state, index):
        return 9.0 * ops.one_hot((tokens + 1) % V, V) + ops.one_hot(state["sum"] % V, V), state


class Declared(Adding):
    """The same with few positions."""

    max_length = source_max_length = 4


class Looking(Adding):
    """The same, without prompts; it looks at all places of its source alike."""

    reads_prompts = False

    def step(self, tokens, state, index, return_attention_scores=False):
        logits, state = super().step(tokens, state, index)
        return ((logits, ops.full((len(tokens), 3), 0.25)), state)


def masked_sum(source, lengths):
    real = ops.arange(source.shape[1]) < (source.shape[1] if lengths is None else lengths[:, None])
    return ops.sum(ops.where(real, ops.cast(source, "int32"), 0), axis=1)


def texts(model, source, lengths, strategy=None, **named):
    found = decoding.generate(model, np.array(source), strategy, source_lengths=lengths, **named)
    return ops.convert_to_numpy(found.tokens)[:, 0].tolist()


@pytest.mark.parametrize("strategy", [decoding.Greedy(), decoding.Beam(2)], ids=["greedy", "beam"])
def test_state_and_first_tokens_get_them(strategy):
    source = [[1, 2, 0], [0, 2, 3]]
    assert texts(Adding(), source, [1, 3], strategy, max_length=3) == [[2, 3, 4], [6, 0, 0]]
    assert texts(Adding(), source, np.array([2, 2]), strategy, max_length=3) == [[4, 5, 6], [3, 4, 5]]
    assert texts(Adding(), source, None, strategy, max_length=3) == [[4, 5, 6], [6, 0, 0]]


def test_lengths_count_against_the_positions_of_the_model():
    assert texts(Declared(), [[1, 2, 0]], [2], max_length=3) == [[4, 5, 6]]
    with pytest.raises(ValueError, match="`max_length` must be at most 2 .* the longest prompt has 3 ids"):
        texts(Declared(), [[1, 2, 0]], [3], max_length=3)


def test_a_coverage_penalty_counts_the_real_places_only():
    scores = {}
    for lengths in ([1], [3]):
        strategy = decoding.Beam(2, coverage_penalty=1.0)
        found = decoding.generate(Looking(), np.array([[1, 2, 0]]), strategy, 1, source_lengths=lengths)
        scores[lengths[0]] = ops.convert_to_numpy(found.scores)[0, 0]
    np.testing.assert_allclose(scores[1] - scores[3], -2 * np.log(0.25), rtol=1e-3)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1, 4], "`source_lengths` must be from 0 to the 3 ids of a row of `source`. Received: .* from 1 to 4"),
        ([-1, 3], "`source_lengths` must be from 0 to the 3 ids of a row of `source`. Received: .* from -1 to 3"),
        ([1], r"`source_lengths` must have shape \[B\] with B=2 as in `source`"),
        ([[1, 2]], r"`source_lengths` must have 1 axes, \[B\]"),
        ([1.5, 2.0], "`source_lengths`"),
    ],
)
def test_bad_lengths_are_named(lengths, message):
    with pytest.raises(ValueError, match=message):
        texts(Adding(), [[1, 2, 0], [0, 2, 3]], lengths, max_length=2)


def test_models_that_do_not_take_them_refuse():
    class Neither(Adding):
        def init_state(self, source, max_length):
            return ()

    class NoFirst(Adding):
        def first_tokens(self, source, start_id):
            return source[:, 0]

    for model, method in ((Neither(), "init_state"), (NoFirst(), "first_tokens")):
        with pytest.raises(ValueError, match=f"`source_lengths` needs .*`{method}` must take `source_lengths`"):
            texts(model, [[1, 2]], [2], max_length=2)


def test_recipes_refuse_or_pass_them_on():
    model = models.RNNSeq2Seq(V, V, size=4)
    with pytest.raises(ValueError, match="`init_state` must take `source_lengths`"):
        model.generate(np.array([[4, 5]]), max_length=2, source_lengths=[2])


def test_compiled_searches_pass_them_on():
    class Recipe(models.rnn_seq2seq.RNNSeq2SeqModel):
        """Its source ends where the lengths say."""

        def init_state(self, source, max_length, source_lengths=None):
            real = ops.arange(ops.shape(source)[1]) < source_lengths[:, None]
            return super().init_state(ops.where(real, source, 0), max_length)

    model = models.RNNSeq2Seq(V, V, size=4)
    wanted = ops.convert_to_numpy(model.generate(np.array([[4, 5, 0], [6, 0, 0]]), max_length=5).scores)
    recipe = Recipe.from_config(model.get_config())
    recipe.set_weights(model.get_weights())
    source = np.array([[4, 5, 3], [6, 3, 4]])
    for jit_compile in (False, True):
        found = recipe.generate(source, max_length=5, source_lengths=[2, 1], jit_compile=jit_compile)
        np.testing.assert_allclose(ops.convert_to_numpy(found.scores), wanted, rtol=1e-5)
    assert len(recipe._searches()) == 2
