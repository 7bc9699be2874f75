"""What exported models answer is what the Keras model answers, row by row, whoever asks beside it."""

import inspect
import itertools

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_attn import decoding, serving, text
from keras_attn.base.special_ids import SpecialIds
from keras_attn.serving.endpoints import without_filler
from keras_attn.serving.generation import MOST_IDS, shortest
from keras_attn.text import Tokenizer
from tests.serving.exports import ARGUMENTS, TEXTS, L, ask, folder, letters, loaded, model, words

pytestmark = pytest.mark.tensorflow

ODD = ["", "a", b"a\xff\xfeb", "j" * 10_000, "abc\0def", " \n\t", "日本語", "אבג", "a" * 511, "abcdefghij" * 30]


def generated(name, source, max_length=L):
    """What the Keras model generates for texts: tokens, lengths, scores."""
    ids = letters.prompt(source) if name == "causal" else letters.tokenize(source)
    found = model(name).generate(ids, ARGUMENTS[name].get("strategy"), max_length=max_length)
    return decoding.Generated(*(ops.convert_to_numpy(part) for part in found))


@pytest.mark.parametrize("name", ["transformer", "rnn", "causal"])
def test_texts_are_those_of_the_keras_model(name):
    found = generated(name, TEXTS)
    answer = ask(name, source=TEXTS)
    target = letters if name == "causal" else words
    assert answer["target"].tolist() == [text.decode() for text in target.detokenize(found.tokens[:, 0]).numpy()]
    np.testing.assert_allclose(answer["score"], found.scores[:, 0], rtol=1e-5, atol=1e-6)
    assert len(set(found.lengths[:, 0])) > 1 or name == "causal"


@pytest.mark.parametrize("name", ["transformer", "rnn"])
def test_odd_texts_get_answers_that_do_not_depend_on_their_neighbours(name):
    together = ask(name, source=ODD)
    for row, odd in enumerate(ODD):
        alone = ask(name, source=[odd])
        assert alone["target"][0] == together["target"][row], odd[:20]
        np.testing.assert_allclose(alone["score"][0], together["score"][row], rtol=1e-5, atol=1e-5)


def test_a_batch_without_rows():
    answer = ask("rnn", source=np.array([], object))
    assert answer["target"].shape == answer["score"].shape == (0,)


@pytest.mark.parametrize("name", ["transformer", "rnn"])
def test_rows_generate_with_limits_of_their_own(name):
    ids, limits = letters.tokenize(TEXTS).numpy(), np.array([1, 3, 99, L, 2], "int32")
    answer = ask(name, "generate", source=ids, max_length=limits, temperature=np.zeros(5, "float32"))
    for row, limit in enumerate(np.minimum(limits, L)):
        wanted = generated(name, TEXTS[row : row + 1], int(limit))
        np.testing.assert_array_equal(answer["tokens"][row, :, :limit], wanted.tokens[0])
        np.testing.assert_array_equal(answer["lengths"][row], wanted.lengths[0])
        np.testing.assert_allclose(answer["scores"][row], wanted.scores[0], rtol=1e-5, atol=1e-6)
        texts = [text.decode() for text in words.detokenize(wanted.tokens[0]).numpy()]
        assert answer["texts"][row].tolist() == texts


def test_what_stands_behind_an_end_is_padding():
    """TF Serving fills the shorter rows of a batch with their first element."""
    rows = {"max_length": np.full(1, L, "int32"), "temperature": np.zeros(1, "float32")}
    plain = ask("ids", "generate", source=[[5, 6, 2]], **rows)
    for tail in ([5, 5, 5], [0, 0], [2, 9]):
        filled = ask("ids", "generate", source=[[5, 6, 2, *tail]], **rows)
        np.testing.assert_array_equal(filled["tokens"], plain["tokens"])
        np.testing.assert_allclose(filled["scores"], plain["scores"], rtol=1e-5)
    empty = ask("ids", "generate", source=np.zeros((1, 0), "int32"), **rows)
    assert empty["tokens"].shape == (1, 1, L)


def test_ids_beyond_the_vocabulary_are_unknown():
    """They must not fail the rows beside them."""
    rows = {"max_length": np.full(3, L, "int32"), "temperature": np.zeros(3, "float32")}
    source = np.array([[4, 5, 2], [4, 99, 2], [4, -7, 2]], "int32")
    found = ask("ids", "generate", source=source, **rows)
    wanted = ask("ids", "generate", source=np.where((source < 0) | (source > 19), 3, source), **rows)
    np.testing.assert_array_equal(found["tokens"], wanted["tokens"])
    scores = [ask("ids", "score", source=source, target=[[4, t, 2]] * 3)["log_probability"] for t in (3, 50, -1)]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


def test_filler_is_read_as_padding():
    """By hand: a row ends behind its first end id, or before a tail of padding, start ids and its own first id."""
    rows = {
        (7, 8): (7, 8),
        (7, 8, 7, 7): (7, 8, 0, 0),
        (7, 8, 0, 7): (7, 8, 0, 0),
        (7, 7, 7): (7, 0, 0),
        (7, 8, 7, 9, 7): (7, 8, 7, 9, 0),
        (1, 8, 1, 7, 1, 1): (1, 8, 1, 7, 0, 0),
        (9, 8, 1, 1): (9, 8, 0, 0),
        (1, 7, 8, 7): (1, 7, 8, 7),
        (0, 0, 5, 0): (0, 0, 5, 0),
        (): (),
    }
    for ends in (True, False):
        for row, wanted in rows.items():
            assert without_filler(tf.constant([row], "int32"), SpecialIds(), ends).numpy().tolist() == [list(wanted)], (
                row
            )
    ended = tf.constant([[7, 8, 7, 2, 7, 7], [2, 7, 2, 2, 2, 2], [7, 8, 7, 7, 7, 7]])
    assert without_filler(ended, SpecialIds()).numpy().tolist() == [
        [7, 8, 7, 2, 0, 0],
        [2, 0, 0, 0, 0, 0],
        [7, 8, 0, 0, 0, 0],
    ]
    assert without_filler(ended, SpecialIds(), ends=False).numpy().tolist()[0] == [7, 8, 7, 2, 0, 0]


@pytest.mark.parametrize("name", ["causal", "ids"])
def test_rows_that_a_server_filled_are_read_as_they_were(name):
    """It fills shorter requests with their first element: prompts without a start id, sources without an end id."""
    rows = {"max_length": np.full(1, L, "int32"), "temperature": np.zeros(1, "float32")}
    for row in ([7, 8], [1, 4, 5], [6, 2, 9], [9, 8, 7, 9, 8]):
        plain = ask(name, "generate", source=[row], **rows)
        for tail in ([row[0]] * 3, [0, 0], [0, row[0]]):
            filled = ask(name, "generate", source=[[*row, *tail]], **rows)
            np.testing.assert_array_equal(filled["tokens"], plain["tokens"])
            np.testing.assert_allclose(filled["scores"], plain["scores"], rtol=1e-5)
    ids = np.array([[7, 8]], "int32")
    wanted = ops.convert_to_numpy(model(name).generate(ids, max_length=L).tokens)
    np.testing.assert_array_equal(ask(name, "generate", source=[[7, 8, 7, 7]], **rows)["tokens"], wanted)


def test_targets_that_a_server_filled_are_scored_as_they_were():
    plain, filled = (ask("ids", "score", source=[[4, 2]], target=[target]) for target in ([7, 8], [7, 8, 7, 7]))
    assert plain["target_length"] == filled["target_length"] == 2
    np.testing.assert_allclose(filled["log_probability"], plain["log_probability"], rtol=1e-5)


def test_ids_are_cut_like_texts():
    """8,000 ids cost no more than 512: as many as tokenizers give by default."""
    assert inspect.signature(Tokenizer).parameters["max_length"].default == MOST_IDS == 512
    ids = np.resize(np.arange(4, 13), (1, 8000)).astype("int32")
    whole, cut = (ask("ids", "encode", source=source) for source in (ids, ids[:, :512]))
    assert whole["memory"].shape == cut["memory"].shape and whole["mask"].shape == (1, 512)
    np.testing.assert_array_equal(whole["memory"], cut["memory"])
    targets = np.resize(np.arange(4, 11), (1, 8000)).astype("int32")
    assert ask("ids", "score", source=[[4, 2]], target=targets)["target_length"] == 512
    short = text.Characters("ab", max_length=5)
    assert [shortest(*pair) for pair in ((None, None), (None, 16), (short, None), (short, 3))] == [512, 16, 5, 3]
    assert shortest(text.Characters("ab", max_length=None), None) is None


def test_every_temperature_gets_an_answer():
    """Also one that is no number: as if it were 0."""
    temperature = np.array([np.nan, -1, 0, 1e-38, np.inf], "float32")
    rows = {"source": np.tile(np.array([[1, 4, 5]], "int32"), (5, 1)), "max_length": np.full(5, L, "int32")}
    tokens = ask("causal", "generate", temperature=temperature, **rows)["tokens"]
    for row in range(4):
        np.testing.assert_array_equal(tokens[row], tokens[2])


def test_places_without_a_text_have_finite_scores(tmp_path):
    """JSON knows no infinity."""
    strategy = decoding.Beam(4, num_return_sequences=4)
    banned = [decoding.BannedTokens([0, 1, 3, 4, 5, 6, 7, 8])]
    path = serving.export(model("ids"), tmp_path, strategy=strategy, max_length=1, processors=banned)
    signatures = tf.saved_model.load(str(path)).signatures
    found = signatures["generate"](
        source=tf.constant([[4, 2]]), max_length=tf.constant([1]), temperature=tf.constant([0.0])
    )
    assert np.all(np.isfinite(found["scores"])) and np.any(found["scores"].numpy() < -1e38)
    assert np.any(found["lengths"].numpy() == 0)


def test_a_temperature_of_zero_draws_the_most_probable_token():
    ids = letters.prompt(["abc"] * 40).numpy()
    rows = {"source": ids, "max_length": np.full(40, L, "int32")}
    cold, hot = (
        ask("causal", "generate", temperature=np.full(40, temperature, "float32"), **rows) for temperature in (0, 50)
    )
    greedy = ops.convert_to_numpy(model("causal").generate(ids, max_length=L).tokens)
    np.testing.assert_array_equal(cold["tokens"], greedy)
    assert len(np.unique(hot["tokens"][:, 0], axis=0)) > 20


def test_the_compiled_twin_answers_the_same():
    rows = {
        "source": letters.tokenize(TEXTS[:3]).numpy(),
        "max_length": np.full(3, L, "int32"),
        "temperature": np.zeros(3, "float32"),
    }
    plain, compiled = (ask("transformer", signature, **rows) for signature in ("generate", "generate_xla"))
    assert sorted(plain) == sorted(compiled)
    np.testing.assert_array_equal(plain["tokens"], compiled["tokens"])
    np.testing.assert_allclose(plain["scores"], compiled["scores"], rtol=1e-4)


@pytest.mark.parametrize("name", ["transformer", "rnn"])
def test_scores_are_those_of_a_whole_call(name):
    targets = ["AA B", "", "日本 Ç Ç x", "B", "AA"]
    answer = ask(name, "score", source=TEXTS, target=targets)
    source, target = letters.tokenize(TEXTS).numpy(), words.tokenize(targets).numpy()
    inputs = {"source": source, "target": np.pad(target[:, :-1], [(0, 0), (1, 0)], constant_values=1)}
    log_probs = tf.nn.log_softmax(model(name)(inputs)).numpy()
    wanted = [sum(log_probs[row, t, token] for t, token in enumerate(ids) if token) for row, ids in enumerate(target)]
    np.testing.assert_allclose(answer["log_probability"], wanted, rtol=1e-5)
    scores = ops.convert_to_numpy(model(name).attention_scores(**inputs))
    real = (target > 0).reshape(5, *(1,) * (scores.ndim - 3), -1, 1)
    np.testing.assert_allclose(answer["attention_scores"], np.where(real, scores, 0), atol=1e-6)
    np.testing.assert_array_equal(answer["source_length"], np.sum(source > 0, axis=1))
    np.testing.assert_array_equal(answer["target_length"], np.sum(target > 0, axis=1))


def test_a_generated_text_has_the_score_it_was_generated_with():
    answer = ask("rnn", source=TEXTS)
    ended = [len(target.split()) < L for target in answer["target"]]
    assert any(ended)
    scores = ask("rnn", "score", source=TEXTS, target=answer["target"])["log_probability"]
    np.testing.assert_allclose(scores[ended], answer["score"][ended], rtol=1e-5)


def test_models_of_steps_are_scored_step_by_step():
    """By hand: the table's rows, less the source's length times its first row."""
    targets, table = ["AA B", "", "Ç " * 20], np.asarray(model("steps").table)
    answer = ask("steps", "score", source=TEXTS[:3], target=targets)
    for row, length in enumerate([4, 1, 11]):
        log_probs = tf.nn.log_softmax(9 * table - length * table[0]).numpy()
        ids = [1, *[id for id in words.tokenize(targets[row : row + 1]).numpy()[0] if id]][: L + 1]
        wanted = sum(log_probs[last, now] for last, now in itertools.pairwise(ids))
        np.testing.assert_allclose(answer["log_probability"][row], wanted, rtol=1e-4)
    assert sorted(loaded("steps").signatures) == ["generate", "score", "serving_default"]


def test_prompts_are_gone_on_from():
    """A continuation's score is that of the whole text, read after the prompt."""
    prompts, targets = ["ab", "", "jjj"], ["cd", "a", ""]
    answer = ask("causal", "score", source=prompts, target=targets)
    for row in range(3):
        prompt = letters.prompt(prompts[row : row + 1]).numpy()[0].tolist()
        target = letters.tokenize(targets[row : row + 1]).numpy()[0].tolist()
        logits = model("causal")({"target": np.array([[*prompt, *target[:-1]]])})
        log_probs = tf.nn.log_softmax(logits).numpy()[0, len(prompt) - 1 :]
        wanted = sum(log_probs[t, token] for t, token in enumerate(target))
        np.testing.assert_allclose(answer["log_probability"][row], wanted, rtol=1e-4)


@pytest.mark.parametrize("name", ["transformer", "rnn"])
def test_what_the_encoder_made(name):
    answer = ask(name, "encode", source=TEXTS)
    memory, mask = model(name).encode(letters.tokenize(TEXTS))[:2]
    np.testing.assert_allclose(answer["memory"], memory, atol=1e-5)
    np.testing.assert_array_equal(answer["mask"], ops.convert_to_numpy(mask))


@pytest.mark.slow
def test_unseeded_draws_differ_from_call_to_call(tmp_path):
    path = serving.export(model("rnn"), tmp_path, letters, words, decoding.Sample(5.0), max_length=L, warmup=["abc"])
    ask_it = tf.saved_model.load(str(path)).signatures["serving_default"]
    found = {ask_it(source=tf.constant(["abc"]))["target"].numpy()[0] for _ in range(9)}
    assert len(found) > 4
    assert serving.check(path).ok, "an answer drawn by chance must not be compared"


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_names_are_stable(name):
    wanted = {"serving_default": ({"source"}, {"target", "score"})}
    if name == "classifier":
        wanted = {"serving_default": ({"source"}, {"classes", "vector"})}
    signatures = loaded(name).signatures
    for signature, (inputs, outputs) in wanted.items():
        assert set(signatures[signature].structured_input_signature[1]) == inputs
        assert set(signatures[signature].structured_outputs) == outputs
    if "classifier" not in name:
        rows = {"source", "max_length", "temperature"}
        assert set(signatures["generate"].structured_input_signature[1]) == rows
        texts = set() if name == "ids" else {"texts"}
        assert set(signatures["generate"].structured_outputs) == {"tokens", "lengths", "scores"} | texts
        assert set(signatures["score"].structured_input_signature[1]) == {"source", "target"}
        named = {"log_probability", "source_length", "target_length"}
        named |= set() if name in ("causal", "steps") else {"attention_scores"}
        assert set(signatures["score"].structured_outputs) == named
    assert folder(name).name == "1"
