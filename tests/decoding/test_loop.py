"""The loop: prefixes, processors, free sizes, ends, states, and what bad input gets."""

import collections

import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import decoding
from keras_attn.decoding.loop import search
from keras_attn.decoding.request import GenerationConfig
from tests.decoding.test_beam import END, Chain, exhaustive, log_softmax

STRATEGIES = {
    "greedy": decoding.Greedy(),
    "sample": decoding.Sample(seed=4),
    "beam": decoding.Beam(3, 0.6, num_return_sequences=2),
}
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


def generate(logits, *arguments, **named):
    found = decoding.generate(Chain(logits), np.zeros((len(logits), 1)), *arguments, **named)
    return decoding.Generated(*(ops.convert_to_numpy(part) for part in found))


@each_strategy
def test_an_end_at_the_first_step(strategy):
    logits = np.zeros((2, 5, 4, 4))
    logits[..., END] = 50
    found = generate(logits, strategy, max_length=5)
    np.testing.assert_array_equal(found.tokens[:, 0], [[END, 0, 0, 0, 0]] * 2)
    np.testing.assert_array_equal(found.lengths[:, 0], 1)
    np.testing.assert_allclose(found.scores[:, 0], 0, atol=1e-5)


@each_strategy
def test_a_length_of_one(strategy, rng):
    found = generate(rng.normal(size=(3, 1, 5, 5)), strategy, max_length=1)
    assert found.tokens.shape[-1] == 1
    np.testing.assert_array_equal(found.lengths, 1)


@each_strategy
def test_rows_do_not_see_each_other(strategy, rng):
    """Rows that end at different times: each text is the one of the row alone."""
    logits = 2 * rng.normal(size=(6, 7, 6, 6))
    logits[..., END] -= 1
    together = generate(logits, strategy, max_length=7)
    assert len(set(together.lengths[:, 0])) > 2
    if strategy == STRATEGIES["sample"]:
        return  # other rows, other draws
    for row in range(6):
        alone = generate(logits[row : row + 1], strategy, max_length=7)
        np.testing.assert_array_equal(together.tokens[row], alone.tokens[0])
        np.testing.assert_allclose(together.scores[row], alone.scores[0], rtol=1e-5)


@each_strategy
def test_a_batch_without_rows(strategy):
    found = generate(np.zeros((0, 3, 5, 5)), strategy, max_length=3)
    assert found.tokens.shape == (0, 2 if strategy == STRATEGIES["beam"] else 1, 3)


@each_strategy
def test_texts_begin_with_the_prefix_and_score_it(strategy, rng):
    logits = rng.normal(size=(3, 6, 6, 6))
    prefix = np.array([[5, 4, 3], [3, 0, 0], [0, 0, 0]])
    found = generate(logits, strategy, max_length=6, prefix_ids=prefix)
    for row, ids in enumerate(([5, 4, 3], [3], [])):
        for text in found.tokens[row]:
            assert text[: len(ids)].tolist() == ids
    free = generate(logits, strategy, max_length=6)
    np.testing.assert_array_equal(found.tokens[2], free.tokens[2])
    text = found.tokens[0, 0, : found.lengths[0, 0]]
    total = sum(log_softmax(logits)[0, t, last, now] for t, (last, now) in enumerate(zip([1, *text], text)))
    penalty = ((5 + len(text)) / 6) ** getattr(strategy, "length_penalty", 0)
    np.testing.assert_allclose(found.scores[0, 0], total / penalty, rtol=1e-4)
    one_for_all = generate(logits, strategy, max_length=6, prefix_ids=[4, 5])
    np.testing.assert_array_equal(one_for_all.tokens[:, 0, :2], [[4, 5]] * 3)


@each_strategy
def test_processors_change_what_comes(strategy, rng):
    logits = rng.normal(size=(8, 6, 6, 6))
    banned = generate(logits, strategy, max_length=6, processors=[decoding.BannedTokens([0, 1, 4])])
    assert not np.isin(banned.tokens[banned.tokens > 0], [1, 4]).any()
    assert np.all((banned.tokens > 0).sum(-1) == banned.lengths)
    long = generate(logits, strategy, max_length=6, processors=[decoding.MinLength(3)])
    assert long.lengths.min() >= 4
    assert generate(logits, strategy, max_length=6).lengths.min() < 4
    logits[..., [0, END]] -= 5
    logits[..., 4] += 2
    plain = generate(logits, strategy, max_length=6)
    repeated = generate(logits, strategy, max_length=6, processors=[decoding.RepetitionPenalty(1e6)])

    def most_alike(found):
        texts = [text[:length] for row, n in zip(found.tokens, found.lengths) for text, length in zip(row, n)]
        return max(max(collections.Counter(text.tolist()).values()) for text in texts)

    assert most_alike(repeated) < most_alike(plain)


@each_strategy
def test_processors_do_not_undo_a_prefix(strategy, rng):
    logits = rng.normal(size=(2, 4, 6, 6))
    processors = [decoding.BannedTokens([0, 1, 3]), decoding.MinLength(3)]
    found = generate(logits, strategy, max_length=4, prefix_ids=[5, 3, END], processors=processors)
    np.testing.assert_array_equal(found.tokens[:, 0], [[5, 3, END, 0]] * 2)
    table = log_softmax(logits)
    wanted = table[:, 0, 1, 5] + table[:, 1, 5, 3] + table[:, 2, 3, END]
    penalty = (8 / 6) ** getattr(strategy, "length_penalty", 0)
    np.testing.assert_allclose(found.scores[:, 0], wanted / penalty, rtol=1e-4)


class Stepping:
    """A user's own step around a layer, whose cache and first state are the user's own."""

    def __init__(self, layer, capacity):
        self.layer, self.head = layer, np.random.default_rng(0).normal(size=(8, 9)).astype("float32") * 3
        self.embedding = np.random.default_rng(1).normal(size=(9, 8)).astype("float32")
        layer.build((None, None, 8))
        self.state = layer.init_state(1, max_length=capacity)

    def init_state(self, source, max_length):
        return self.state

    def step(self, tokens, state, index):
        x = ops.take(ops.convert_to_tensor(self.embedding), tokens, axis=0)
        outputs, state = self.layer.step(x, state, index)
        return ops.matmul(outputs - x, ops.convert_to_tensor(self.head)), state


@pytest.mark.parametrize("mask", [ka.Causal(), ka.Causal() & ka.Window(4)], ids=["causal", "window"])
def test_a_state_of_the_users_is_not_written_and_may_be_of_any_size(mask):
    model = Stepping(ka.MultiHeadSelfAttention(2, mask=mask), 30)
    before = [ops.convert_to_numpy(tensor).copy() for tensor in model.state.kept.values()]
    texts = [
        ops.convert_to_numpy(decoding.generate(model, np.zeros((1, 1)), StopAt(20), max_length=length).tokens)
        for length in (30, 30, 64, 80, 93, 300)
    ]
    for text in texts:
        np.testing.assert_array_equal(text[0, 0, :20], texts[0][0, 0, :20])
    assert len(set(texts[0][0, 0, :20])) > 2
    for tensor, old in zip(model.state.kept.values(), before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(tensor), old)


class StopAt(decoding.Greedy):
    """Greedy, but every text ends after so many tokens."""

    def __init__(self, length):
        self.length = length

    def pick(self, log_probs, index, context):
        likeliest = ops.cast(ops.argmax(log_probs[:, 3:], axis=-1), "int32") + 3
        return ops.where(index >= self.length - 1, context.end_id, likeliest)


def test_repetition_penalty_is_its_formula():
    logits = np.array([[2.0, -2.0, 1.0, 3.0]], "float32")
    tokens = np.array([[0, 1, 3, 3, 0]])  # the first three count: 0 among them as a token
    changed = decoding.RepetitionPenalty(2.0)(ops.convert_to_tensor(logits), ops.convert_to_tensor(tokens), 3, END)
    np.testing.assert_allclose(ops.convert_to_numpy(changed), [[1.0, -4.0, 1.0, 1.5]])


class Double(decoding.Processor):
    """A user's own processor: sharper logits."""

    def __call__(self, logits, tokens, index, end_id):
        return 2 * logits


def test_user_written_processors_plug_in_in_turn(rng):
    """Those of a strategy come first; under a beam search, log probabilities are not normalised by themselves."""
    logits = rng.normal(size=(1, 3, 5, 5))
    strategy = decoding.Beam(25, processors=[Double()])
    plain = generate(logits, decoding.Beam(25, processors=[Double(), Double()]), max_length=3)
    np.testing.assert_allclose(plain.scores[0, 0], 4 * exhaustive(logits[0], 3, 0.0)[0][0], rtol=1e-4)
    found = generate(logits, strategy, max_length=3, processors=[Double(), decoding.Renormalize()])
    score, text = exhaustive(4 * logits[0], 3, 0.0)[0]
    np.testing.assert_allclose(found.scores[0, 0], score, rtol=1e-4)
    assert found.tokens[0, 0, : len(text)].tolist() == list(text)


Memory = collections.namedtuple("Memory", ["sums", "extra"])


class Adding:
    """A model with a state of its own shape: the sum of the tokens read so far decides the next one."""

    def init_state(self, source, max_length):
        return Memory(ops.cast(source[:, 0], "int32"), [{"shared": ops.ones((2, 2)), "none": None}])

    def step(self, tokens, state, index):
        sums = state.sums + tokens
        return ops.one_hot(sums % 7, 7) * 3.0, state._replace(sums=sums)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_states_of_any_structure_follow_their_beams(width):
    found = decoding.generate(Adding(), np.array([[3], [5]]), decoding.Beam(width), max_length=5, end_id=6)
    for row, text in enumerate(ops.convert_to_numpy(found.tokens)[:, 0]):
        sums, score = (3, 5)[row], 0.0
        for last, now in zip([1, *text], text):
            sums += last
            score += log_softmax(3.0 * np.eye(7)[sums % 7])[now]
            if now == 6:
                break
        np.testing.assert_allclose(ops.convert_to_numpy(found.scores)[row, 0], score, rtol=1e-4)


def test_stages_end_at_the_greatest_length():
    assert [decoding.loop.stages(length) for length in (1, 64, 65, 256, 2000)] == [
        [1],
        [64],
        [64, 65],
        [64, 256],
        [64, 256, 1024, 2000],
    ]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"max_length": 0}, "`max_length` must be an integer of at least 1"),
        ({"strategy": "beam"}, "`strategy` must be a Strategy of keras_attn. Received: strategy='beam'"),
        ({"end_id": 5}, "`end_id` must be less than the 5 ids of the model. Received: end_id=5"),
        ({"end_id": -1}, "`end_id` must be an id, and must not be negative. Received: end_id=-1"),
        ({"start_id": 7}, "`start_id` must be less than the 5 ids of the model"),
        ({"prefix_ids": [1] * 4}, r"`prefix_ids` must be \[B, P\] or \[P\] with B=2 and P at most max_length=3"),
        ({"prefix_ids": [[4], [4], [4]]}, r"with B=2 .* Received: prefix_ids.shape=\(3, 1\)"),
        ({"prefix_ids": [[[1]]]}, "`prefix_ids` must be"),
        (
            {"prefix_ids": [9]},
            "`prefix_ids` must be less than the 5 ids of the model, and not",
        ),
        ({"prefix_ids": [-3]}, "`prefix_ids` must be less than the 5 ids of the model, and not negative"),
        ({"prefix_ids": [1.5]}, "`prefix_ids` must be integers"),
        ({"cache": "int8"}, "`cache` must be a Cache of keras_attn or None"),
        ({"start_id": 1.5}, "`start_id` must be an id"),
        ({"processors": [max]}, "`processors` must be Processors of keras_attn"),
        ({"processors": [decoding.BannedTokens([8])]}, "`ids` must be less than the 5 ids of the model"),
    ],
)
def test_bad_arguments_are_named(named, message):
    with pytest.raises(ValueError, match=message):
        generate(np.zeros((2, 3, 5, 5)), **{"max_length": 3, **named})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: decoding.BannedTokens("a"), "`ids` must be a list of ids"),
        (lambda: decoding.BannedTokens([-1]), "`ids` must be a list of ids"),
        (lambda: decoding.MinLength(0), "`length` must be an integer of at least 1"),
        (lambda: decoding.RepetitionPenalty(0), "`penalty` must be a number above 0"),
    ],
)
def test_bad_processors_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "strategy",
    [
        decoding.Greedy(),
        decoding.Sample(seed=3),
        decoding.Beam(3, 0.6, num_return_sequences=2),
        decoding.Beam(3, -0.7, num_return_sequences=3),
        decoding.Beam(2, 0.9, patience=1.0),
        decoding.Beam(1),
    ],
)
def test_rows_have_greatest_lengths_of_their_own(strategy, rng):
    """A row with a limit has what generation with that greatest length gives it."""
    model, limits = Chain(rng.normal(size=(4, 9, 7, 7))), [1, 3, 9, 5]
    source = np.zeros((4, 1), "int32")
    config = GenerationConfig(strategy, 9, 1, (2,))
    limited = search(model, source, None, strategy.draw_seed(), config, limits=np.array(limits))
    for row, limit in enumerate(limits):
        alone = decoding.generate(model, source, strategy, max_length=limit)
        for name, mine, other in zip(alone._fields, limited, alone):
            mine, other = ops.convert_to_numpy(mine)[row], ops.convert_to_numpy(other)[row]
            np.testing.assert_array_equal(mine[:, :limit] if name == "tokens" else mine, other)
        assert not np.any(ops.convert_to_numpy(limited.tokens)[row, :, limit:])


def test_limits_out_of_range_are_clipped(rng):
    model, config = Chain(rng.normal(size=(3, 4, 7, 7))), GenerationConfig(decoding.Greedy(), 4, 1, (6,))
    found = search(model, np.zeros((3, 1), "int32"), None, None, config, limits=np.array([-2, 0, 99]))
    lengths = ops.convert_to_numpy(found.lengths)[:, 0]
    assert lengths[:2].tolist() == [1, 1] and lengths[2] > 1


def test_rows_have_temperatures_of_their_own(rng):
    """A temperature takes the place of the strategy's; 0 takes the most probable token; greedy search has none."""
    model, source = Chain(rng.normal(size=(3, 9, 7, 7))), np.zeros((3, 1), "int32")

    def found(strategy, temperature=None):
        seed, config = strategy.draw_seed(), GenerationConfig(strategy, 9, 1, (2,))
        temperature = None if temperature is None else ops.convert_to_tensor(temperature, "float32")
        return [ops.convert_to_numpy(x) for x in search(model, source, None, seed, config, None, temperature)]

    greedy, sampled, hot = (found(s) for s in (decoding.Greedy(), decoding.Sample(seed=5), decoding.Sample(4, seed=5)))
    mixed = found(decoding.Sample(0.1, seed=5), [0.0, 1.0, 4.0])
    for row, wanted in enumerate([greedy, sampled, hot]):
        for mine, other in zip(mixed, wanted):
            np.testing.assert_array_equal(mine[row], other[row])
    assert not all(np.array_equal(hot[0][row], greedy[0][row]) for row in range(3))
    for mine, other in zip(found(decoding.Greedy(), [0.0, 1.0, 4.0]), greedy):
        np.testing.assert_array_equal(mine, other)
