"""Services of pretrained models that generate: prompts in, answers out, without padding, by a chat template."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_attn import SpecialIds, decoding, models, pretrained, serving
from keras_attn.attention.cache import ExactCache, Int8Cache
from keras_attn.decoding import MinLength
from keras_attn.positions import NoPosition
from keras_attn.serving import converting

text = pytest.importorskip("keras_attn.text", reason="needs TensorFlow Text")
pytest.importorskip("tensorflow_text")
pytest.importorskip("tensorflow_serving.apis", reason="warm-up needs tensorflow-serving-api")

from keras_attn.text.tokenizer_json.byte_level import CHARACTERS  # noqa: E402 - needs TensorFlow Text
from tests.serving.loader import check_in_loader  # noqa: E402

pytestmark = pytest.mark.tensorflow

ADDED = "<|end|>", "<|user|>", "<|answer|>"
WORDS = [*CHARACTERS, *ADDED]  # id 0 is a word
VOCABULARY = {token: i for i, token in enumerate(WORDS)}
SPEC = {
    "model": {"type": "BPE", "vocab": {token: VOCABULARY[token] for token in CHARACTERS}, "merges": []},
    "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "post_processor": None,
    "decoder": {"type": "ByteLevel"},
    "added_tokens": [{"id": VOCABULARY[token], "content": token, "special": True} for token in ADDED],
}
END = VOCABULARY["<|end|>"]
TEXTS = ["Hello!", "How are you?", "a", "One more \u00e9"]
CHAT = text.Chat("<|user|>", "<|end|><|answer|>", strips=True)
LONGEST = 9


def loaded_with(chat, strategy=None):
    """A small random language model without padding, whose start is its end."""
    keras.utils.set_random_seed(3)
    special_ids = SpecialIds(padding=None, start=END, end=END, unknown=None)
    model = models.CausalTransformer(
        len(WORDS), 2, 16, 2, 32, position=NoPosition(), tied_embeddings=True, special_ids=special_ids
    )
    for weight in model.weights:  # large enough that answers differ
        weight.assign(weight + keras.random.normal(weight.shape, stddev=0.4, seed=5))
    tokenizer = text.PretrainedTokenizer(json.dumps(SPEC).encode(), max_length=32, special_ids=special_ids, chat=chat)
    strategy = decoding.Greedy() if strategy is None else strategy
    return pretrained.Pretrained(
        model, "text_generation", tokenizer, tokenizer, special_ids, strategy, (), "linear", "llama", LONGEST
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    loaded = loaded_with(CHAT)
    path = serving.export(loaded, tmp_path_factory.mktemp("chat"), warmup=TEXTS)
    return loaded, path, tf.saved_model.load(str(path))


def answer(loaded, prompt):
    """The tokens that the model generates for one prompt, and their score."""
    found = loaded.model.generate(np.array([prompt]), loaded.strategy, max_length=LONGEST)
    return ops.convert_to_numpy(found.tokens)[0, 0, : int(found.lengths[0, 0])], float(found.scores[0, 0])


@pytest.mark.slow
def test_the_service_passes_every_rule_and_the_servers_loader(served):
    _, path, model = served
    assert sorted(model.signatures) == ["generate", "prompt", "score", "serving_default"]
    report = serving.check(path)
    assert report.ok, str(report)
    check_in_loader(path)


@pytest.mark.parametrize("signature", ["serving_default", "prompt"])
def test_one_turn_is_answered_by_the_chat_template(signature, served):
    loaded, _, model = served
    found = model.signatures[signature](source=tf.constant(TEXTS))
    for each, target, score in zip(TEXTS, found["target"].numpy(), found["score"].numpy(), strict=True):
        ids = [VOCABULARY["<|user|>"], *loaded.source_text.pieces([each]).to_list()[0], END, VOCABULARY["<|answer|>"]]
        tokens, wanted = answer(loaded, ids)
        assert target == loaded.target_text.detokenize(tokens[None]).numpy()[0]
        np.testing.assert_allclose(score, wanted, rtol=1e-5)


def test_ids_need_their_lengths(served):
    """The id behind a prompt may be any word: only the length says where it ends."""
    loaded, _, model = served
    prompts = [[5, 0, 7], [0], [9, 9, 9, 0, 0]]
    source = np.full((3, 7), 5, "int32")
    for row, prompt in enumerate(prompts):
        source[row, : len(prompt)] = prompt
    found = model.signatures["generate"](
        source=tf.constant(source),
        source_length=tf.constant([len(prompt) for prompt in prompts]),
        max_length=tf.fill([3], LONGEST),
        temperature=tf.zeros([3]),
    )
    for row, prompt in enumerate(prompts):
        tokens, score = answer(loaded, prompt)
        length = found["lengths"].numpy()[row, 0]
        np.testing.assert_array_equal(found["tokens"].numpy()[row, 0, :length], tokens)
        np.testing.assert_allclose(found["scores"].numpy()[row, 0], score, rtol=1e-5)
        assert found["texts"].numpy()[row, 0] == loaded.target_text.detokenize(tokens[None]).numpy()[0]


def test_an_answer_is_scored_as_the_whole_call_scores_it(served):
    loaded, _, model = served
    targets = ["fine", "", "no!"]
    found = model.signatures["score"](source=tf.constant(TEXTS[:3]), target=tf.constant(targets))
    for row, (source, target) in enumerate(zip(TEXTS, targets, strict=False)):
        prompt = loaded.source_text.ragged_prompt([source]).to_list()[0]
        target = [*loaded.target_text.pieces([target]).to_list()[0], END]
        logits = loaded.model({"target": np.array([prompt + target])})
        log_probs = ops.convert_to_numpy(ops.log_softmax(logits))[0, len(prompt) - 1 : -1]
        wanted = log_probs[np.arange(len(target)), target].sum()
        np.testing.assert_allclose(found["log_probability"].numpy()[row], wanted, rtol=1e-4)
        assert found["target_length"].numpy()[row] == len(target)
        assert found["source_length"].numpy()[row] == len(prompt)


def test_a_text_too_long_keeps_the_end_of_the_template(served):
    loaded, _, model = served
    long = "".join(map(chr, range(65, 91))) * 3
    ids = [VOCABULARY["<|user|>"], *loaded.source_text.pieces([long]).to_list()[0], END, VOCABULARY["<|answer|>"]]
    tokens, _ = answer(loaded, ids[: 32 - 2] + ids[-2:])
    target = model.signatures["prompt"](source=tf.constant([long]))["target"].numpy()[0]
    assert target == loaded.target_text.detokenize(tokens[None]).numpy()[0]


@pytest.mark.slow
def test_without_a_chat_template_texts_are_continued(tmp_path):
    loaded = loaded_with(None, decoding.Beam(3, processors=[MinLength(4)]))
    model = tf.saved_model.load(str(serving.export(loaded, tmp_path)))
    targets = model.signatures["prompt"](source=tf.constant([*TEXTS, ""]))["target"].numpy()
    written = text.generate(
        loaded.model,
        [*TEXTS, ""],
        loaded.source_text,
        loaded.target_text,
        strategy=loaded.strategy,
        max_length=LONGEST,
    )
    assert [target.decode() for target in targets] == written
    for each, target in zip([*TEXTS, ""], written, strict=True):
        tokens, _ = answer(loaded, loaded.source_text.pieces([each]).to_list()[0] or [END])
        assert target.encode() == loaded.target_text.detokenize(tokens[None]).numpy()[0]


@pytest.mark.slow
def test_the_cache_is_chosen_at_export(tmp_path):
    loaded = loaded_with(CHAT)
    answers = []
    for cache in (None, ExactCache(dtype="bfloat16"), Int8Cache()):
        path = serving.export(loaded, tmp_path, cache=cache, max_length=5)
        signature = tf.saved_model.load(str(path)).signatures["prompt"]
        graph = signature.graph.as_graph_def()
        types = {attr.type for f in graph.library.function for node in f.node_def for attr in node.attr.values()}
        answers.append((tf.bfloat16.as_datatype_enum in types, tf.int8.as_datatype_enum in types))
        assert signature(source=tf.constant(TEXTS))["score"].shape == (4,)
    assert answers == [(False, False), (True, False), (False, True)]


@pytest.mark.slow
def test_arguments_replace_the_generation_settings(tmp_path):
    loaded = loaded_with(CHAT)
    path = serving.export(loaded, tmp_path, strategy=decoding.Beam(2, num_return_sequences=2), max_length=3)
    found = tf.saved_model.load(str(path)).signatures["generate"](
        source=tf.constant([[5, 6]]),
        source_length=tf.constant([2]),
        max_length=tf.constant([99]),
        temperature=tf.constant([0.0]),
    )
    assert found["tokens"].shape[1:] == (2, 3)


@pytest.mark.slow
def test_ids_without_a_tokenizer(tmp_path):
    loaded = loaded_with(CHAT)
    loaded = pretrained.Pretrained(
        loaded.model, loaded.task, None, None, loaded.special_ids, loaded.strategy, (), "linear", "llama", LONGEST
    )
    example = {"source": [5, 0, 7], "source_length": 3}
    path = serving.export(loaded, tmp_path, warmup=[example, {"source": [4], "source_length": 1}])
    assert serving.check(path).ok
    model = tf.saved_model.load(str(path))
    found = model.signatures["serving_default"](source=tf.constant([[5, 0, 7, 3]]), source_length=tf.constant([3]))
    tokens, score = answer(loaded, [5, 0, 7])
    np.testing.assert_array_equal(found["target"].numpy()[0, : len(tokens)], tokens)
    np.testing.assert_allclose(found["score"].numpy()[0], score, rtol=1e-5)
    assert sorted(model.signatures["score"].structured_input_signature[1]) == [
        "source",
        "source_length",
        "target",
        "target_length",
    ]


def test_the_summary_of_a_conversion(served):
    loaded, path, _ = served
    summary = converting.summary(loaded, path)
    assert "llama, text_generation" in summary and "  prompt: source string (None,)" in summary


def test_the_caches_of_the_command_are_those_of_the_library():
    assert converting.CACHES["bfloat16"] == ExactCache(dtype="bfloat16")
    assert converting.CACHES["int8"] == Int8Cache()
