"""One end id, several, or none; and several samples of one row."""

import numpy as np
import pytest
from keras import ops

from keras_attn import decoding, models
from keras_attn.base.special_ids import SpecialIds
from tests.decoding.test_beam import Chain, log_softmax

STRATEGIES = {"greedy": decoding.Greedy(), "sample": decoding.Sample(seed=3), "beam": decoding.Beam(3)}


def arrays(found):
    return [ops.convert_to_numpy(tensor) for tensor in found]


def chain(*tokens, num_tokens=7):
    """A model of one row that is all but sure of one token at each position."""
    logits = np.zeros((1, len(tokens), num_tokens, num_tokens))
    for position, token in enumerate(tokens):
        logits[0, position, :, token] = 30
    return Chain(logits)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(
    ("end_id", "wanted", "length"),
    [
        ("auto", [5, 3, 2, 0, 0], 3),
        (2, [5, 3, 2, 0, 0], 3),
        ([2], [5, 3, 2, 0, 0], 3),
        ([2, 3], [5, 3, 0, 0, 0], 2),
        ((6, 5), [5, 0, 0, 0, 0], 1),
        ([6], [5, 3, 2, 6, 0], 4),
        (None, [5, 3, 2, 6, 4], 5),
        ([], [5, 3, 2, 6, 4], 5),
    ],
    ids=str,
)
def test_a_text_ends_with_any_of_them(name, end_id, wanted, length):
    model = chain(5, 3, 2, 6, 4)
    found = decoding.generate(model, np.zeros((1, 1)), STRATEGIES[name], max_length=5, end_id=end_id)
    tokens, lengths, _ = arrays(found)
    assert tokens[0, 0].tolist() == wanted
    assert lengths[0, 0] == length


def test_a_beam_whose_best_continuations_all_end_keeps_unfinished_ones(rng):
    """With two end ids, two of three continuations may end; the search is still that over all texts."""
    logits = rng.normal(size=(1, 3, 6, 6))
    logits[..., [4, 5]] += 3.0
    found = decoding.generate(Chain(logits), np.zeros((1, 1)), decoding.Beam(40), max_length=3, end_id=[4, 5])
    log_probs = log_softmax(logits[0].astype("float64"))
    texts = []
    for length in (1, 2, 3):
        for text in np.ndindex(*(6,) * length):
            ends = [token in (4, 5) for token in text]
            if not {0, 1} & set(text) and not any(ends[:-1]) and (ends[-1] or length == 3):
                pairs = zip((1, *text), text, strict=False)
                texts.append((sum(log_probs[i, a, b] for i, (a, b) in enumerate(pairs)), text))
    score, text = max(texts)
    assert ops.convert_to_numpy(found.tokens)[0, 0, : len(text)].tolist() == list(text)
    np.testing.assert_allclose(ops.convert_to_numpy(found.scores)[0, 0], score, rtol=1e-5)


def test_min_length_forbids_every_end():
    model = chain(2, 3, 5)
    named = {"max_length": 3, "processors": [decoding.MinLength(2)]}
    tokens = arrays(decoding.generate(model, np.zeros((1, 1)), end_id=[2, 3], **named))[0]
    assert not {2, 3} & set(tokens[0, 0, :2].tolist())


@pytest.mark.parametrize(
    ("end_id", "message"),
    [
        ("eos", "`end_id` must be an id, a list of ids, None or \"auto\". Received: end_id='eos'"),
        ([2, 7], "`end_id` must be less than the 7 ids of the model. Received: end_id=7"),
        ([2, -1], "`end_id` must be an id, and must not be negative. Received: end_id=-1"),
        (2.5, "`end_id` must be an id, and must not be negative. Received: end_id=2.5"),
    ],
    ids=str,
)
def test_bad_end_ids_are_named(end_id, message):
    with pytest.raises(ValueError, match=message):
        decoding.generate(chain(5, 2), np.zeros((1, 1)), max_length=2, end_id=end_id)


def test_recipes_take_them_too():
    model = models.RNNSeq2Seq(11, 13, size=4)
    source = np.array([[5, 6, 2], [7, 2, 0]])
    free = arrays(model.generate(source, max_length=6, end_id=None))
    assert (free[1] == 6).all() and (free[0] != 0).all()
    first = free[0][0, 0, 0]
    ended = arrays(model.generate(source, max_length=6, end_id=[2, int(first)]))
    assert ended[0][0, 0].tolist() == [first, 0, 0, 0, 0, 0]


def test_samples_of_a_row_are_draws_of_their_own_best_first():
    probabilities = np.array([0.5, 0.3, 0.2])
    logits = np.full((2, 1, 6, 6), -30.0)
    logits[..., 3:] = np.log(probabilities)
    strategy = decoding.Sample(seed=4, num_samples=1000)
    found = decoding.generate(Chain(logits), np.zeros((2, 1)), strategy, max_length=1)
    tokens, lengths, scores = arrays(found)
    assert tokens.shape == (2, 1000, 1) and (lengths == 1).all()
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_allclose(np.exp(scores), probabilities[tokens[..., 0] - 3], rtol=1e-4)
    for row in tokens[..., 0]:
        counts = np.bincount(row, minlength=6)[3:]
        assert np.sum((counts - 1000 * probabilities) ** 2 / (1000 * probabilities)) < 13.8  # 2 degrees, 99.9%
    assert not np.array_equal(np.sort(tokens[0], axis=0), np.sort(tokens[1], axis=0))


def test_samples_end_each_by_itself_and_are_compiled_once():
    model = models.CausalTransformer(9, num_layers=1, size=8, num_heads=2, hidden_size=8, dropout=0.0)
    prompts = np.array([[1, 5, 6], [1, 7, 0]])
    strategy = decoding.Sample(seed=2, num_samples=5)
    tokens, lengths, scores = arrays(model.generate(prompts, strategy, max_length=7))
    assert tokens.shape == (2, 5, 7) and len(set(lengths.ravel().tolist())) > 1
    again = arrays(model.generate(prompts, decoding.Sample(seed=2, num_samples=5), max_length=7))
    np.testing.assert_array_equal(tokens, again[0])
    for row in range(2):
        for text, length, score in zip(tokens[row], lengths[row], scores[row]):
            prompt = [i for i in prompts[row] if i]
            ids = np.array([[*prompt, *text[:length]]])
            logits = ops.convert_to_numpy(model({"target": ids}))[0, len(prompt) - 1 : -1]
            logs = log_softmax(logits.astype("float64"))
            np.testing.assert_allclose(score, logs[np.arange(length), text[:length]].sum(), atol=1e-4)
            assert (text[length:] == 0).all()


def test_num_samples_must_be_positive():
    with pytest.raises(ValueError, match="`num_samples` must be an integer of at least 1. Received: num_samples=0"):
        decoding.Sample(num_samples=0)


@pytest.mark.parametrize("name", STRATEGIES)
def test_other_ends_of_the_special_ids_end_texts(name):
    """Padding or start may be among them; then they are chosen like any end."""
    model = chain(5, 3, 2, 6, 4)
    model.special_ids = SpecialIds(padding=None, start=1, end=4, unknown=None, other_ends=[6])
    assert model.special_ids.end_ids == (4, 6)
    found = arrays(decoding.generate(model, np.zeros((1, 1)), STRATEGIES[name], max_length=5))
    assert found[0][0, 0].tolist() == [5, 3, 2, 6, 0] and found[1].item() == 4
    model.special_ids = SpecialIds(padding=3, start=2, end=4, unknown=None, other_ends=(3, 2))
    found = arrays(decoding.generate(model, np.zeros((1, 1)), STRATEGIES[name], max_length=5))
    assert found[0][0, 0].tolist() == [5, 3, 3, 3, 3] and found[1].item() == 2
    found = arrays(decoding.generate(model, np.zeros((1, 1)), STRATEGIES[name], max_length=5, end_id=6))
    assert found[0][0, 0, 0] == 5 and not np.isin(found[0][0, 0, : found[1].item()], [3, 2]).any()


def test_other_ends_are_checked_and_in_the_config():
    ids = SpecialIds(0, 1, 2, 3, other_ends=[7, 0])
    assert ids.other_ends == (7, 0) and SpecialIds.from_config(ids.get_config()) == ids != SpecialIds()
    assert SpecialIds.from_config({"padding": 0, "start": 1, "end": 2, "unknown": 3}).end_ids == (2,)
    for wrong in ([2], [5, 5], [-1], [1.5], 5, None):
        with pytest.raises(
            ValueError, match="`other_ends` must be a list of ids that differ .* Received: end=2, other"
        ):
            SpecialIds(0, 1, 2, 3, other_ends=wrong)
