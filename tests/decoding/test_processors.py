"""Processors against plain Python; eager, in graphs and under XLA; alone and in a batch; their configs."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import decoding, models
from keras_attn.decoding.sources import prompts_of
from tests.decoding.test_beam import END, Chain, log_softmax

V, L = 11, 7
ENDS = (END, 5)
PROMPTS = [[3, 4, 6, 3, 4], [7], [8, 3, 4], [3, 3, 3, 3]]
TEXTS = [[6, 3, 4], [7, 7, 3], [3, 9, 3], [3, 3, 3]]
LIMITS = [7, 4, 3, 5]


def context(prompts=PROMPTS, limits=LIMITS):
    width = max(map(len, prompts))
    padded = ops.convert_to_tensor([[-1] * (width - len(prompt)) + prompt for prompt in prompts], "int32")
    limits = ops.convert_to_tensor(limits, "int32")
    return decoding.SearchContext(len(prompts), L, ENDS, limits, prompts=padded)


def applied(processor, logits, number):
    """What a processor makes of logits after the first `number` tokens of each text."""
    texts = np.zeros((len(TEXTS), L), "int32")
    texts[:, :number] = np.array(TEXTS)[:, :number]
    texts, index = ops.convert_to_tensor(texts), ops.convert_to_tensor(number, "int32")
    return ops.convert_to_numpy(processor.apply(ops.convert_to_tensor(logits), texts, index, context()))


def repeated(size):
    def bans(ids, text, limit):
        seen = [ids[i : i + size] for i in range(len(ids) - size + 1)]
        return [gram[-1] for gram in seen if gram[:-1] == ids[len(ids) - size + 1 :]]

    return bans


def sequences(ids, text, limit):
    ends = [n for n in range(len(ids) + 1)]
    return [each[-1] for each in BANNED if any(ids[n:] == each[:-1] for n in ends)]


def all_but(token, where):
    return lambda ids, text, limit: [v for v in range(V) if v != token] if where(ids, text, limit) else []


BANNED = [[9], [3, 4, 8], [4, 10], [7, 7, 3, 6], [3, 3], [3, 4, 6, 3, 4, 6, 3, 4, 1]]
BANS = {
    "tokens": (decoding.BannedTokens([3, 10]), lambda ids, text, limit: [3, 10]),
    "first": (decoding.BannedFirstTokens([3, END]), lambda ids, text, limit: [3, END] if not text else []),
    "second": (decoding.BannedFirstTokens([6], index=1), lambda ids, text, limit: [6] if len(text) == 1 else []),
    "1-grams": (decoding.NoRepeatNGrams(1), repeated(1)),
    "2-grams": (decoding.NoRepeatNGrams(2), repeated(2)),
    "3-grams": (decoding.NoRepeatNGrams(3), repeated(3)),
    "6-grams": (decoding.NoRepeatNGrams(6), repeated(6)),
    "sequences": (decoding.BannedSequences(BANNED), sequences),
    "minimum": (decoding.MinLength(2), lambda ids, text, limit: ENDS if len(text) < 2 else []),
    "minimum in all": (decoding.MinTotalLength(6), lambda ids, text, limit: ENDS if len(ids) < 6 else []),
    "forced first": (decoding.ForcedFirstToken(8), all_but(8, lambda ids, text, limit: not text)),
    "forced last": (decoding.ForcedLastToken(9), all_but(9, lambda ids, text, limit: len(text) + 1 >= limit)),
}


@pytest.mark.parametrize("number", [0, 1, 2, 3])
@pytest.mark.parametrize("name", BANS)
def test_bans_are_those_of_plain_python(name, number, rng):
    processor, bans = BANS[name]
    logits = rng.normal(size=(len(TEXTS), V)).astype("float32")
    found = applied(processor, logits, number)
    for row, (prompt, text, limit) in enumerate(zip(PROMPTS, TEXTS, LIMITS, strict=True)):
        banned = set(bans(prompt + text[:number], text[:number], limit))
        assert set(np.flatnonzero(np.isneginf(found[row]))) == banned
        if name.startswith("forced") and banned:
            assert found[row].max() == 0
        else:
            np.testing.assert_array_equal(found[row][found[row] > -np.inf], np.delete(logits[row], sorted(banned)))


def test_repetition_penalty_counts_the_prompt(rng):
    logits = rng.normal(size=(len(TEXTS), V)).astype("float32")
    found = applied(decoding.RepetitionPenalty(1.5), logits, 2)
    for row, (prompt, text) in enumerate(zip(PROMPTS, TEXTS, strict=True)):
        had = np.isin(np.arange(V), prompt + text[:2])
        wanted = np.where(had, np.where(logits[row] > 0, logits[row] / 1.5, logits[row] * 1.5), logits[row])
        np.testing.assert_allclose(found[row], wanted, rtol=1e-6)


def test_renormalize_is_a_log_softmax(rng):
    logits = rng.normal(size=(len(TEXTS), V)).astype("float32")
    logits[0, 3:], logits[1] = -np.inf, -np.inf
    found = applied(decoding.Renormalize(), logits, 0)
    np.testing.assert_allclose(found[[0, 2, 3]], log_softmax(logits[[0, 2, 3]]), rtol=1e-5)
    assert np.isneginf(found[1]).all()


def test_limits_of_texts_with_their_prompts():
    limits = decoding.MaxTotalLength(8).limits(context())
    assert ops.convert_to_numpy(limits).tolist() == [3, 4, 3, 4]
    assert ops.convert_to_numpy(decoding.MinLength(3).limits(context())).tolist() == LIMITS


def test_prompts_are_aligned_at_the_right():
    source = ops.convert_to_tensor([[3, 4, 0], [0, 0, 0], [5, 6, 7]], "int32")
    facts = decoding.ModelFacts(reads_prompts=True)
    found = ops.convert_to_numpy(prompts_of(source, 1, facts, None)).tolist()
    assert found == [[-1, -1, 3, 4], [-1, -1, -1, 1], [-1, 5, 6, 7]]
    found = ops.convert_to_numpy(prompts_of(source, 1, facts, ops.convert_to_tensor([3, 1, 0], "int32"))).tolist()
    assert found == [[-1, 3, 4, 0], [-1, -1, -1, 0], [-1, -1, -1, 1]]
    assert ops.convert_to_numpy(prompts_of(source, 1, decoding.ModelFacts(), None)).tolist() == [[1], [1], [1]]
    nothing = prompts_of(ops.zeros((2, 0), "int32"), 1, facts, None)
    assert ops.convert_to_numpy(nothing).tolist() == [[1], [1]]


EVERY = (
    decoding.RepetitionPenalty(1.3),
    decoding.NoRepeatNGrams(2),
    decoding.BannedSequences([[4], [5, 6], [7, 8, 9]]),
    decoding.MinTotalLength(4),
    decoding.MaxTotalLength(10),
    decoding.ForcedLastToken(END),
    decoding.BannedFirstTokens([3, END]),
    decoding.Renormalize(),
)
STRATEGIES = {
    "greedy": decoding.Greedy(processors=EVERY),
    "sample": decoding.Sample(1.5, 7, 0.9, seed=3, num_samples=2, processors=EVERY),
    "beam": decoding.Beam(3, decoding.PowerPenalty(1.2), 0, 2, stop=decoding.CurrentScoreStop(), processors=EVERY),
}
SOURCE = np.array([[5, 6, 7, 8, 0], [7, 0, 0, 0, 0], [8, 7, 8, 7, 5], [0, 0, 0, 0, 0]])


@pytest.fixture(scope="module")
def causal():
    keras.utils.set_random_seed(3)
    model = models.CausalTransformer(V, num_layers=1, size=8, num_heads=2, hidden_size=8, dropout=0.0)
    model.get_layer("projection").kernel.assign(2 * np.random.default_rng(1).normal(size=(8, V)))
    return model


@pytest.mark.parametrize("name", STRATEGIES)
def test_eager_graph_and_xla_agree_and_rows_do_not_depend_on_each_other(name, causal):
    strategy = STRATEGIES[name]
    wanted = [ops.convert_to_numpy(each) for each in decoding.generate(causal, SOURCE, strategy, max_length=9)]
    lengths = [4, 1, 5, 1]
    assert (wanted[1].max(1) + lengths <= 10).all() and (wanted[1].min(1) + lengths >= 4).all()
    for jit_compile in (False, True)[: 1 + (name == "beam")]:
        found = causal.generate(SOURCE, strategy, max_length=9, jit_compile=jit_compile)
        for one, two in zip(wanted, found, strict=True):
            np.testing.assert_allclose(one, ops.convert_to_numpy(two), rtol=1e-4, atol=1e-5)
    if name != "sample":
        for row, source in enumerate(SOURCE):
            alone = causal.generate(source[None, : lengths[row]], strategy, max_length=9)
            for one, two in zip(wanted, alone, strict=True):
                np.testing.assert_allclose(one[row], ops.convert_to_numpy(two)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="saves a graph of TensorFlow")
def test_saved_graphs_have_them(causal, tmp_path):
    import tensorflow as tf

    module, strategy = tf.Module(), STRATEGIES["beam"]
    module.model = causal

    @tf.function(input_signature=[tf.TensorSpec((None, None), "int32")], autograph=False)
    def run(source):
        return decoding.generate(causal, source, strategy, max_length=9)._asdict()

    module.run = run
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    found = loaded.run(SOURCE.astype("int32"))
    wanted = causal.generate(SOURCE, strategy, max_length=9)
    np.testing.assert_array_equal(found["tokens"], wanted.tokens)
    np.testing.assert_allclose(found["scores"], wanted.scores, rtol=1e-5)


def test_strategies_and_their_processors_round_trip():
    for strategy in STRATEGIES.values():
        config = keras.saving.serialize_keras_object(strategy)
        assert keras.saving.deserialize_keras_object(config) == strategy
    assert decoding.Greedy(processors=EVERY) != decoding.Greedy()
    assert decoding.Sample(processors=[EVERY[0]]).without_seed().processors == EVERY[:1]


def test_forced_tokens_cost_nothing_and_limits_are_those_of_the_rows(rng):
    """Of a beam search too: the scores are those of the tokens between."""
    logits = rng.normal(size=(2, 4, V, V))
    logits[..., END] = -9
    forced = [decoding.ForcedFirstToken(6), decoding.ForcedLastToken(END)]
    for strategy in (decoding.Greedy(forced), decoding.Beam(3, processors=forced)):
        found = decoding.generate(Chain(logits), np.zeros((2, 1)), strategy, max_length=4)
        tokens, scores = ops.convert_to_numpy(found.tokens)[:, 0], ops.convert_to_numpy(found.scores)[:, 0]
        assert (tokens[:, 0] == 6).all() and (tokens[:, 3] == END).all()
        table = log_softmax(logits)
        for row, text in enumerate(tokens):
            between = table[row, 1, text[0], text[1]] + table[row, 2, text[1], text[2]]
            np.testing.assert_allclose(scores[row], between, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: decoding.NoRepeatNGrams(0), "`size` must be an integer of at least 1. Received: size=0"),
        (lambda: decoding.BannedSequences([[3], []]), "`sequences` must be a list of lists of ids, none empty"),
        (lambda: decoding.BannedSequences(5), "`sequences` must be a list of lists of ids"),
        (lambda: decoding.BannedSequences([[3.5]]), "`sequences` must be a list of ids"),
        (lambda: decoding.BannedFirstTokens([3], -1), "`index` must be an integer of at least 0. Received: index=-1"),
        (lambda: decoding.ForcedFirstToken(-1), "`id` must be an integer of at least 0. Received: id=-1"),
        (lambda: decoding.ForcedLastToken([2]), r"`id` must be an integer of at least 0. Received: id=\[2\]"),
        (lambda: decoding.MinTotalLength(0), "`length` must be an integer of at least 1"),
        (lambda: decoding.MaxTotalLength(1), "`length` must be an integer of at least 2"),
        (lambda: decoding.Greedy(processors=decoding.MinLength(2)), "`processors` must be a list of Processors"),
        (lambda: decoding.Sample(processors=["a"]), r"`processors` must be Processors .* Received objects .*'str'"),
        (
            lambda: applied(decoding.BannedSequences([[3, V]]), np.zeros((4, V), "float32"), 1),
            r"`sequences` must be less than the 11 ids of the model. Received: sequences=\[3, 11\]",
        ),
        (
            lambda: applied(decoding.ForcedFirstToken(V), np.zeros((4, V), "float32"), 1),
            r"`id` must be less than the 11 ids of the model. Received: id=11",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_processor_must_define_a_method():
    class Nothing(decoding.Processor):
        pass

    with pytest.raises(NotImplementedError, match="`Nothing` must define `__call__` or `apply`"):
        applied(Nothing(), np.zeros((4, V), "float32"), 1)
