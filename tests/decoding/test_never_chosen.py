"""Padding and start ids are never chosen, all other tokens keep their log probabilities, and no row is undefined."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import decoding, models
from tests.decoding.test_beam import END, Chain, log_softmax

L, V = 3, 7
SOURCE = np.array([[5, 6, 2], [4, 2, 0]])


class Likeliest(decoding.TokenStrategy):
    """A user's own strategy."""

    def pick(self, log_probs, index, context):
        return ops.argmax(log_probs, axis=-1)


class Padding(decoding.TokenStrategy):
    """A user's own strategy that insists on padding."""

    def pick(self, log_probs, index, context):
        return ops.zeros(ops.shape(log_probs)[:1], "int32")


STRATEGIES = {
    "greedy": decoding.Greedy(),
    "sample": decoding.Sample(2.0, seed=1),
    "cut": decoding.Sample(0.7, top_k=3, top_p=0.9, min_p=0.1, seed=1),
    "beam": decoding.Beam(3, 0.6, num_return_sequences=2),
    "beam-of-one": decoding.Beam(1),
    "own": Likeliest(),
    "stubborn": Padding(),
}
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


def arrays(found):
    return [ops.convert_to_numpy(part) for part in found]


def fond_of_padding(model):
    """Returns the model with padding, then start, as its most probable tokens, and large weights else."""
    model({side: SOURCE for side in model.sides})
    head = model.get_layer("projection")
    head.kernel.assign(4 * ops.convert_to_numpy(head.kernel))
    head.bias.assign([4.0, 3.0, *[0.0] * (V - 2)])
    return model


MAKERS = {
    "transformer": lambda: models.Transformer(V, V, num_layers=1, size=8, num_heads=2, hidden_size=11),
    "rnn": lambda: models.RNNSeq2Seq(V, V, size=8),
    "causal": lambda: models.CausalTransformer(V, num_layers=1, size=8, num_heads=2, hidden_size=11),
}


@pytest.fixture(scope="module")
def recipes():
    keras.utils.set_random_seed(5)
    return {name: fond_of_padding(make()) for name, make in MAKERS.items()}


@each_strategy
def test_no_strategy_chooses_them(strategy, recipes):
    """Eager, compiled and under XLA."""
    model, named = recipes["transformer"], {"max_length": 5}
    source = np.tile(SOURCE, (8, 1))
    with_xla = (False, True) if strategy in (STRATEGIES["sample"], STRATEGIES["beam"]) else (False,)
    compiled = [model.generate(source, strategy, jit_compile=xla, **named) for xla in with_xla]
    for found in (decoding.generate(model, source, strategy, **named), *compiled):
        tokens, lengths, scores = arrays(found)
        inside = np.arange(5) < lengths[..., None]
        assert not np.any((tokens < 2) & inside) and not np.any(tokens[~inside])
        assert lengths.min() > 0 and np.all(np.isfinite(scores))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("length_penalty", [0.0, 0.8])
def test_beam_search_is_brute_force_over_the_whole_calls_log_probabilities(name, length_penalty, recipes):
    """Every text of a tiny vocabulary, scored by one call of the model on all of them: no step is asked."""
    model = recipes[name]
    said = range(2, V)
    texts = [
        text
        for length in range(1, L + 1)
        for text in itertools.product(said, repeat=length)
        if END not in text[:-1] and (length == L or text[-1] == END)
    ]
    read = np.array([[*text, *[0] * (L - len(text))] for text in texts])
    strategy = decoding.Beam(len(texts), length_penalty, num_return_sequences=len(texts))
    found = arrays(model.generate(SOURCE, strategy, max_length=L))
    for row, source in enumerate(SOURCE):
        head = [token for token in source if token] if name == "causal" else [1]
        target = np.concatenate([np.tile(head, (len(texts), 1)), read[:, :-1]], axis=1)
        inputs = {"source": np.tile(source, (len(texts), 1)), "target": target}
        logits = ops.convert_to_numpy(model({side: inputs[side] for side in model.sides}))[:, len(head) - 1 :]
        table = log_softmax(logits.astype("float64"))
        scores = {
            text: sum(table[n, t, token] for t, token in enumerate(text)) / ((5 + len(text)) / 6) ** length_penalty
            for n, text in enumerate(texts)
        }
        wanted = sorted(scores, key=scores.get, reverse=True)
        mine = [tuple(tokens[:length]) for tokens, length in zip(found[0][row], found[1][row], strict=True)]
        assert set(mine) == set(wanted) and mine[0] == wanted[0]
        np.testing.assert_allclose(found[2][row], [scores[text] for text in wanted], rtol=1e-4)
        np.testing.assert_allclose(found[2][row], [scores[text] for text in mine], rtol=1e-4)


def end_of(strategy, **named):
    logits = np.zeros((1, 3, 5, 5))
    logits[..., 0] = 9
    return arrays(decoding.generate(Chain(logits), np.zeros((1, 1)), strategy, max_length=3, **named))


@pytest.mark.parametrize("name", ["greedy", "cut", "beam", "beam-of-one", "own"])
def test_an_end_id_wins(name):
    """An end id of 0, or one that is the start id too, is chosen like any other token."""
    for named in ({"end_id": 0}, {"end_id": 0, "start_id": 0}):
        tokens, lengths, scores = end_of(STRATEGIES[name], **named)
        assert tokens[0, 0].tolist() == [0, 0, 0] and lengths[0, 0] == 1
        np.testing.assert_allclose(scores[0, 0], -np.log(1 + 4 * np.exp(-9)), atol=1e-6)
    logits = np.zeros((1, 3, 5, 5))
    logits[..., 1] = 9
    found = decoding.generate(Chain(logits), np.zeros((1, 1)), STRATEGIES[name], max_length=3, end_id=1)
    assert arrays(found)[0][0, 0].tolist() == [1, 0, 0]


def test_another_start_id_is_forbidden_in_its_place():
    logits = np.zeros((1, 3, 5, 5))
    logits[..., 3], logits[..., 1] = 9, 8
    found = decoding.generate(Chain(logits), np.zeros((1, 1)), max_length=3, start_id=3)
    assert arrays(found)[0][0, 0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["greedy", "sample", "beam", "stubborn"])
def test_a_prefix_may_hold_the_start_id(name):
    logits = np.zeros((1, 4, 5, 5))
    logits[..., 4] = 5
    prefix = [1, 3, 1]
    found = decoding.generate(Chain(logits), np.zeros((1, 1)), STRATEGIES[name], max_length=4, prefix_ids=prefix)
    tokens, _, scores = arrays(found)
    assert tokens[0, 0, :3].tolist() == prefix and tokens[0, 0, 3] > 1
    assert np.isfinite(scores[0, 0])


@each_strategy
def test_rows_without_any_token_end_and_are_no_nan(strategy):
    """Every token but the forbidden ones has no probability; the row beside has all of them."""
    logits = np.full((3, 3, 5, 5), -np.inf)
    logits[1] = 0.0
    logits[2, ..., :2] = 0.0
    tokens, lengths, scores = arrays(decoding.generate(Chain(logits), np.zeros((3, 1)), strategy, max_length=3))
    assert not np.any(np.isnan(scores))
    assert np.all(np.isfinite(scores[1, 0])) and np.all(scores[[0, 2]] == -np.inf)
    for row in (0, 2):  # a text that ends at once, or none
        assert tokens[row, 0].tolist() in ([END, 0, 0], [0, 0, 0])
        assert lengths[row, 0] == (tokens[row, 0, 0] == END)


def test_all_tokens_banned_is_no_nan():
    banned = [decoding.BannedTokens([2, 3, 4])]
    found = decoding.generate(Chain(np.zeros((1, 3, 5, 5))), np.zeros((1, 1)), max_length=3, processors=banned)
    tokens, lengths, scores = arrays(found)
    assert tokens.tolist() == [[[END, 0, 0]]] and lengths.tolist() == [[1]] and scores.tolist() == [[-np.inf]]


@pytest.mark.slow
@pytest.mark.tensorflow  # SavedModel is TensorFlow's
def test_no_served_signature_chooses_them(recipes, tmp_path):
    import tensorflow as tf

    from keras_attn import serving

    path = serving.export(
        recipes["transformer"], tmp_path, strategy=decoding.Sample(2.0), max_length=5, generate_xla=True
    )
    signatures = tf.saved_model.load(str(path)).signatures
    source = tf.constant(np.tile(SOURCE, (20, 1)), "int32")
    rows = {"max_length": tf.fill((40,), 5), "temperature": tf.fill((40,), 2.0)}
    found = [signatures["serving_default"](source=source)["target"][:, None]]
    found += [signatures[name](source=source, **rows)["tokens"] for name in ("generate", "generate_xla")]
    for tokens in arrays(found):
        ends = np.cumsum(tokens == END, axis=-1) - (tokens == END) > 0
        assert tokens[~ends].min() > 1 and not tokens[ends].any() and ends.any()
