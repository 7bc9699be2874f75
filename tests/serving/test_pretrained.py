"""Services of pretrained text encoders: strings in; embeddings, labels, tags and words out, the same as the model's."""

import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn import decoding, models, pretrained, serving
from keras_attn.models import heads
from keras_attn.serving import command, converting

text = pytest.importorskip("keras_attn.text", reason="needs TensorFlow Text")
pytest.importorskip("tensorflow_text")
pytest.importorskip("tensorflow_serving.apis", reason="warm-up needs tensorflow-serving-api")

from tests.serving.loader import check_in_loader  # noqa: E402 - needs TensorFlow Text

pytestmark = pytest.mark.tensorflow

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "chess", "is", "fun", "!", "new", "york"]
TEXTS = ["Playing chess is fun!", "", "New York", "chess"]
LABELS = ("bad", "fair", "good")
HEADS = {
    "hidden_states": None,
    "embedding": heads.SentenceEmbedding(),
    "classification": heads.Classification(len(LABELS)),
    "token_classification": heads.TokenClassification(len(LABELS)),
    "masked_words": heads.MaskedWords(),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return text.PretrainedTokenizer(text.tokenizer_json.from_vocabulary(path, {"do_lower_case": True}), max_length=17)


def loaded_for(task, tokenizer, activation="softmax"):
    """A small model with random weights."""
    keras.utils.set_random_seed(3)
    model = models.TextEncoder(
        len(WORDS), 2, 12, 3, 17, num_segments=2, head=HEADS[task], special_ids=tokenizer.special_ids
    )
    for weight in model.weights:  # large enough that answers differ
        weight.assign(weight + keras.random.normal(weight.shape, stddev=0.3, seed=5))
    labels = LABELS if "classification" in task else ()
    return pretrained.Pretrained(
        model, task, tokenizer, tokenizer, tokenizer.special_ids, None, labels, activation, "bert"
    )


@pytest.fixture(scope="module")
def served(tokenizer, tmp_path_factory):
    """Exports each task once; returns the loaded model and the path of its SavedModel."""
    made = {}

    def export(task):
        if task not in made:
            loaded = loaded_for(task, tokenizer)
            warmup = [each.replace("chess", "[MASK]") for each in TEXTS] if task == "masked_words" else TEXTS
            made[task] = loaded, serving.export(loaded, tmp_path_factory.mktemp(task), warmup=warmup)
        return made[task]

    return export


def ask(path, signature="serving_default", **inputs):
    model = tf.saved_model.load(str(path))
    answer = model.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in answer.items()}


@pytest.mark.parametrize(
    "task", [each if each == "embedding" else pytest.param(each, marks=pytest.mark.slow) for each in HEADS]
)
def test_a_served_task_passes_every_rule_and_the_servers_loader(task, served):
    _, path = served(task)
    report = serving.check(path)
    assert report.ok, str(report)
    check_in_loader(path)


def test_hidden_states(served):
    loaded, path = served("hidden_states")
    ids = loaded.source_text(TEXTS)
    answer = ask(path, text=TEXTS)
    np.testing.assert_allclose(answer["hidden_states"], loaded.model({"source": ids}), atol=1e-5)
    np.testing.assert_array_equal(answer["mask"], ids != 0)


def test_embeddings_are_those_of_each_text_alone(served):
    loaded, path = served("embedding")
    together = ask(path, text=TEXTS)["embedding"]
    assert together.shape == (4, 12)
    for row, each in zip(together, TEXTS, strict=True):
        np.testing.assert_allclose(row, loaded.model({"source": loaded.source_text([each])})[0], atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(row), 1, atol=1e-5)


def test_labels_of_texts_and_of_pairs(served):
    loaded, path = served("classification")
    answer = ask(path, text=TEXTS)
    scores = tf.nn.softmax(loaded.model({"source": loaded.source_text(TEXTS)})).numpy()
    np.testing.assert_allclose(answer["scores"], scores, atol=1e-5)
    assert answer["label"].tolist() == [LABELS[i].encode() for i in scores.argmax(axis=1)]
    assert answer["labels"].tolist() == [[label.encode() for label in LABELS]] * 4
    ids, segments = loaded.source_text.tokenize_pairs(TEXTS, TEXTS[::-1])
    scores = tf.nn.softmax(loaded.model({"source": ids, "segments": segments})).numpy()
    answer = ask(path, "pair", text=TEXTS, text_pair=TEXTS[::-1])
    np.testing.assert_allclose(answer["scores"], scores, atol=1e-5)
    assert np.abs(scores - ask(path, text=TEXTS)["scores"]).max() > 1e-3, "a pair is not its first text"


@pytest.mark.parametrize(
    "activation, scores", [("sigmoid", tf.nn.sigmoid), ("linear", tf.identity), ("softmax", tf.nn.softmax)]
)
def test_scores_follow_the_problem(activation, scores, tokenizer):
    loaded = loaded_for("classification", tokenizer, activation)
    [endpoint, _] = serving.exporting.pretrained_endpoints(loaded).all()
    wanted = scores(loaded.model({"source": loaded.source_text(TEXTS)}))
    np.testing.assert_allclose(endpoint.function(tf.constant(TEXTS))["scores"], wanted, atol=1e-6)


def test_tags_and_where_they_are(served):
    loaded, path = served("token_classification")
    answer = ask(path, text=["Playing  chess", "New York!"])
    assert answer["tokens"].tolist() == [
        [b"[CLS]", b"play", b"##ing", b"chess", b"[SEP]"],
        [b"[CLS]", b"new", b"york", b"!", b"[SEP]"],
    ]
    assert answer["starts"].tolist() == [[0, 0, 4, 9, 0], [0, 0, 4, 8, 0]]
    assert answer["ends"].tolist() == [[0, 4, 7, 14, 0], [0, 3, 8, 9, 0]]
    probabilities = tf.nn.softmax(loaded.model({"source": loaded.source_text(["Playing  chess", "New York!"])})).numpy()
    tags = np.array(LABELS)[probabilities.argmax(axis=-1)].astype("S")
    tags[:, [0, -1]] = b""
    assert answer["tags"].tolist() == tags.tolist()
    np.testing.assert_allclose(answer["scores"][:, 1:-1], probabilities.max(axis=-1)[:, 1:-1], atol=1e-5)
    assert not answer["scores"][:, [0, -1]].any()


def test_masked_words(served):
    loaded, path = served("masked_words")
    answer = ask(path, text=["Playing [MASK] is [MASK]!", "new york", "[MASK]"])
    probabilities = tf.nn.softmax(loaded.model({"source": loaded.source_text(["Playing [MASK] is [MASK]!"])})).numpy()
    best = np.argsort(-probabilities[0, [3, 5]], axis=-1)[:, :5]
    assert answer["candidates"].shape == answer["scores"].shape == (3, 2, 5)
    np.testing.assert_allclose(
        answer["scores"][0], np.take_along_axis(probabilities[0, [3, 5]], best, axis=-1), atol=1e-5
    )
    assert not answer["scores"][1].any() and not answer["scores"][2, 1].any()
    assert answer["candidates"][1].tolist() == [[b""] * 5] * 2
    filled = loaded.source_text(["Playing [MASK] is [MASK]!"]).numpy()
    filled[0, [3, 5]] = best[:, 0]
    assert answer["filled"][0] == loaded.source_text.detokenize(filled).numpy()[0]
    assert answer["filled"][1] == b"new york"


def test_what_an_encoder_does_not_take_is_refused(tokenizer, tmp_path):
    loaded = loaded_for("embedding", tokenizer)
    with pytest.raises(ValueError, match="has its own tokenizers. Received: source_text or target_text"):
        serving.export(loaded, tmp_path, tokenizer)
    with pytest.raises(ValueError, match="A pretrained encoder generates nothing. Received: strategy, max_length"):
        serving.export(loaded, tmp_path, strategy=decoding.Greedy(), max_length=7)
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_tokenizer_is_served_over_ids(tokenizer, tmp_path):
    loaded = loaded_for("embedding", tokenizer)
    without = pretrained.Pretrained(
        loaded.model, "embedding", None, None, loaded.special_ids, None, (), "linear", "bert"
    )
    with pytest.warns(UserWarning, match="`model` has inputs"):
        path = serving.export(without, tmp_path)
    ids = loaded.source_text(TEXTS)
    answer = ask(path, source=ids.numpy(), segments=np.zeros(ids.shape, "int32"))
    np.testing.assert_allclose(answer["embedding"], loaded.model({"source": ids}), atol=1e-5)


def test_a_model_without_mask_token_cannot_fill_words(tokenizer):
    spec = json.loads(pathlib.Path(tokenizer._filled_path()).read_text(encoding="utf-8"))
    spec["added_tokens"] = [each for each in spec["added_tokens"] if each["content"] != "[MASK]"]
    spec["model"]["vocab"]["other"] = spec["model"]["vocab"].pop("[MASK]")
    without = text.PretrainedTokenizer(json.dumps(spec).encode())
    with pytest.raises(ValueError, match="must have a mask token for the task 'masked_words'"):
        serving.exporting.pretrained_endpoints(loaded_for("masked_words", without))


def test_the_summary_of_a_conversion(served):
    loaded, path = served("classification")
    lines = converting.summary(loaded, path).splitlines()
    assert lines[0].startswith(f"{path}: bert, classification, {loaded.model.count_params():,} parameters, ")
    assert "  serving_default: text string (None,)" in lines
    assert "  pair: text string (None,), text_pair string (None,)" in lines
    assert "  serving_default(text='Playing chess is fun!'):" in lines
    assert any(line.startswith("    scores [1, 3]: [") for line in lines)


def test_the_sample_has_a_mask_where_the_task_needs_one(tokenizer):
    assert "[MASK]" in converting.sample_of(loaded_for("masked_words", tokenizer))
    assert "[MASK]" not in converting.sample_of(loaded_for("embedding", tokenizer))


@pytest.mark.slow
def test_the_command_converts_a_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "switch_xla_off", lambda: None)  # for the whole process, other tests included
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=17
    )
    config.id2label, config.label2id = dict(enumerate(LABELS)), {label: i for i, label in enumerate(LABELS)}
    theirs = transformers.BertForSequenceClassification(config).eval()
    theirs.save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    capsys.readouterr()
    out = tmp_path / "out"
    assert command.main(["convert", str(tmp_path / "bert"), str(out), "--max-length", "5", "--sample", "fun!"]) == 0
    printed = capsys.readouterr().out
    assert f"{out / '1'}: bert, classification, " in printed and f"{out / '1'}: can be served" in printed
    assert "serving_default(text='fun!'):" in printed
    assert command.main(["predict", str(out), "Playing chess is fun!"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    with torch.no_grad():  # five ids: truncated
        scores = theirs(torch.tensor([[2, 5, 6, 7, 3]])).logits.softmax(dim=-1)[0].tolist()
    np.testing.assert_allclose(answer["scores"], scores, atol=1e-5)
    assert answer["label"] == LABELS[int(np.argmax(scores))]


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert command.main(["convert", str(tmp_path / "nothing"), str(tmp_path / "out")]) == 2
    assert "keras-attn: `folder` must be a folder with config.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
