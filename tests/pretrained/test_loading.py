"""Folders as they come: shards, dtypes, older names, tasks, labels; what is refused and what the message says."""

import json
import shutil

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import pretrained
from tests.pretrained.checkpoints import CONFIGS, changed, check_equal, ids_for, make, outputs, save, torch

safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT with a pooler, its folder, inputs, and what it computes."""
    theirs, inputs = make("bert"), ids_for(0, np.random.default_rng(3), 2)
    return save(theirs, tmp_path_factory.mktemp("bert")), inputs, outputs(theirs, inputs, 0), inputs["source"] != 0


@pytest.fixture
def folder(bert, tmp_path):
    """A copy of BERT's folder, to change."""
    return shutil.copytree(bert[0], tmp_path / "copy")


def rewritten(folder, change):
    """Changes the dictionary of weights."""
    path = folder / "model.safetensors"
    safetensors.save_file(change(safetensors.load_file(path)), path)
    return folder


def test_several_files(bert, tmp_path):
    _, inputs, wanted, real = bert
    folder = save(make("bert"), tmp_path, max_shard_size="9KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    check_equal(pretrained.load(folder).model(inputs), wanted, real)
    (folder / "model.safetensors.index.json").unlink()
    check_equal(pretrained.load(folder).model(inputs), wanted, real)
    (shard,) = folder.glob("model-00002-*")
    save(make("bert"), tmp_path, max_shard_size="9KB")
    shard.unlink()
    with pytest.raises(
        ValueError, match=rf"must hold the files of model.safetensors.index.json. Missing: .*{shard.name}"
    ):
        pretrained.load(folder)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_weights_of_other_dtypes(dtype, tmp_path, rng):
    theirs, inputs = make("bert").to(getattr(torch, dtype)), ids_for(0, rng)
    loaded = pretrained.load(save(theirs, tmp_path))
    check_equal(loaded.model(inputs), outputs(theirs.float(), inputs, 0), inputs["source"] != 0)
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in loaded.model.weights} == {"float32"}


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
def test_dtype_policies(dtype, bert):
    folder, inputs, wanted, real = bert
    model = pretrained.load(folder, dtype=dtype).model
    assert keras.config.dtype_policy().name == "float32"
    assert model.get_layer("encoder").compute_dtype == "bfloat16"
    assert keras.backend.standardize_dtype(model.get_layer("source_norm").weights[0].dtype) == (
        "bfloat16" if dtype == "bfloat16" else "float32"
    )
    outputs = model(inputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    check_equal(outputs, wanted, real, tolerance=0.1)


def test_older_names_and_prefixes(bert, folder):
    _, inputs, wanted, real = bert

    def older(weights):
        new = {"embeddings.position_ids": torch.arange(23)[None]}
        for name, weight in weights.items():
            if "LayerNorm" in name:
                name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
            new[f"bert.{name}"] = weight
        return new

    check_equal(pretrained.load(rewritten(folder, older)).model(inputs), wanted, real)


@pytest.mark.parametrize("kept", ["decoder", "bias", "both"])
def test_tied_weights_under_either_name(kept, tmp_path, rng):
    theirs, inputs = make("bert", "masked_words"), ids_for(0, rng)
    folder = save(theirs, tmp_path)
    words, bias = "bert.embeddings.word_embeddings.weight", "cls.predictions.bias"

    def change(weights):
        weights = dict(weights)
        if kept != "bias":
            weights["cls.predictions.decoder.weight"] = weights[words].clone()
            weights["cls.predictions.decoder.bias"] = weights[bias].clone()
        if kept == "decoder":
            del weights[words], weights[bias]
        return weights

    loaded = pretrained.load(rewritten(folder, change))
    assert loaded.model.head.tied
    check_equal(loaded.model(inputs), outputs(theirs, inputs, 0), inputs["source"] != 0)


def test_different_matrices_are_not_tied(tmp_path, rng):
    """As in transformers 5: what the checkpoint says counts more than `tie_word_embeddings`."""
    theirs, inputs = make("bert", "masked_words", tie_word_embeddings=False), ids_for(0, rng)
    loaded = pretrained.load(changed(save(theirs, tmp_path), tie_word_embeddings=True))
    assert not loaded.model.head.tied
    check_equal(loaded.model(inputs), outputs(theirs, inputs, 0), inputs["source"] != 0)


@pytest.mark.parametrize(
    ("changes", "activation"),
    [
        ({"num_labels": 3}, "softmax"),
        ({"num_labels": 1}, "sigmoid"),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, "sigmoid"),
        ({"num_labels": 1, "problem_type": "regression"}, "linear"),
        ({"num_labels": 3, "problem_type": "single_label_classification"}, "softmax"),
    ],
)
def test_the_activation_is_that_of_transformers_pipeline(changes, activation, tmp_path):
    loaded = pretrained.load(save(make("bert", "classification", **changes), tmp_path))
    assert loaded.activation == activation
    assert loaded.labels == tuple(f"LABEL_{i}" for i in range(changes["num_labels"]))


@pytest.mark.parametrize(
    ("settings", "activation"),
    [
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "linear"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "linear"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, "sigmoid"),
        ({"sentence_transformers": {"version": "5.0.0"}}, "sigmoid"),
    ],
)
def test_a_cross_encoder_has_the_activation_that_it_was_trained_with(settings, activation, tmp_path):
    folder = changed(save(make("bert", "classification", num_labels=1), tmp_path), **settings)
    assert pretrained.load(folder).activation == activation


def test_other_activations_of_cross_encoders_are_refused(tmp_path):
    folder = save(make("bert", "classification", num_labels=1), tmp_path)
    changed(folder, sentence_transformers={"activation_fn": "torch.nn.modules.activation.Tanh"})
    with pytest.raises(ValueError, match="The activation of a cross-encoder in config.json must be one of"):
        pretrained.load(folder)


def test_a_model_with_a_head_gives_its_hidden_states_too(tmp_path, rng):
    theirs, inputs = make("bert", "classification"), ids_for(0, rng)
    folder, real = save(theirs, tmp_path), inputs["source"] != 0
    hidden = outputs(theirs.bert, inputs, 0)
    check_equal(pretrained.load(folder, task="hidden_states").model(inputs), hidden, real)
    mean = (hidden * real[..., None]).sum(1) / real.sum(1, keepdims=True)
    check_equal(pretrained.load(folder, task="embedding").model(inputs), mean)


@pytest.mark.parametrize("task", ["classification", "token_classification"])
def test_a_new_head(task, bert):
    folder, inputs, _, _ = bert
    loaded = pretrained.load(folder, task=task, num_labels=5)
    assert loaded.labels == tuple(f"LABEL_{i}" for i in range(5))
    assert loaded.model(inputs).shape[-1] == 5
    if task == "classification":  # BERT's pooler is in the checkpoint
        pooler = safetensors.load_file(folder / "model.safetensors")["pooler.dense.weight"].numpy().T
        np.testing.assert_array_equal(ops.convert_to_numpy(loaded.model.get_layer("transform").kernel), pooler)


@pytest.mark.trains
def test_fine_tuning_saving_and_quantising(bert, tmp_path):
    keras.utils.set_random_seed(0)  # of the new head, the adapters and dropout
    folder, inputs = save(make("bert", num_hidden_layers=1), tmp_path / "bert"), bert[1]
    model, labels = pretrained.load(folder, task="classification", num_labels=3).model, np.array([0, 2, 1, 1])
    model.get_layer("encoder").trainable = False
    for block in model.get_layer("encoder").blocks:
        block.attention.in_projection.trainable = True
        block.attention.in_projection.enable_lora(2)
    model.compile(keras.optimizers.Adam(0.03), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(inputs, labels, epochs=15, verbose=0, class_weight={0: 1.0, 1: 1.0, 2: 2.0}).history["loss"]
    assert history[-1] < 0.7 * history[0]
    wanted = ops.convert_to_numpy(model(inputs))
    model.save(tmp_path / "tuned.keras")
    again = keras.models.load_model(tmp_path / "tuned.keras", compile=False)  # Keras merges adapters on saving
    np.testing.assert_allclose(ops.convert_to_numpy(again(inputs)), wanted, atol=1e-5)
    assert again.special_ids == model.special_ids and again.head == model.head
    again.quantize("int8")
    again.save(tmp_path / "int8.keras")
    small = keras.models.load_model(tmp_path / "int8.keras", compile=False)
    np.testing.assert_array_equal(*(ops.convert_to_numpy(each(inputs)) for each in (small, again)))
    assert np.abs(ops.convert_to_numpy(small(inputs)) - wanted).max() < 0.2 * np.abs(wanted).max()


def test_lengths(bert, folder):
    assert pretrained.load(folder).model.max_length == 23
    with pytest.raises(ValueError, match="`max_length` must be at most 23, the model's positions. Received: 24"):
        pretrained.load(folder, max_length=24)
    with pytest.raises(ValueError, match="`max_length` must be an integer of at least 1"):
        pretrained.load(folder, max_length=0)


SETTINGS = [
    ({"model_type": "gpt9"}, "`model_type` of config.json must be one of .*'bert'.* Received: 'gpt9'"),
    ({"auto_map": {"AutoModel": "x.Y"}}, "not of one with code of its own. Received: auto_map"),
    ({"alibi": True, "scale": 2}, "settings that are not known .* Received: alibi=true, scale=2"),
    ({"position_embedding_type": "relative_key"}, '`position_embedding_type` .* must be "absolute" .*"relative_key"'),
    ({"is_decoder": True}, "`is_decoder` of config.json must be false .* Received: is_decoder=true"),
    ({"add_cross_attention": True}, "`add_cross_attention`"),
    ({"pruned_heads": {"1": [0]}}, "`pruned_heads` of config.json must be {}"),
    (
        {"hidden_act": "laplace"},
        "`hidden_act` of config.json must be one of .*'gelu_new'.* Received: hidden_act='laplace'",
    ),
    ({"hidden_size": "22"}, '`hidden_size` of config.json must be of type int. Received: hidden_size="22"'),
    ({"layer_norm_eps": True}, "`layer_norm_eps` of config.json must be of type int or float"),
    ({"num_hidden_layers": 2}, "must hold known weights only. Received in addition: encoder.layer.2."),
    ({"num_hidden_layers": 4}, "must hold the weights encoder.layer.3.* and 8 more, which are missing"),
    ({"intermediate_size": 31}, r"encoder.layer.0.intermediate.dense.weight \(29, 22\), expected \(31, 22\)"),
    ({"vocab_size": 41}, r"embeddings.word_embeddings.weight \(37, 22\), expected \(41, 22\)"),
    ({"architectures": ["BertForQuestionAnswering"]}, "`task` must be given .* Received: .*BertForQuestionAnswering"),
    ({"architectures": ["BertForMaskedLM"]}, "must hold the weights cls.predictions.* which are missing"),
    ({"architectures": ["BertForSequenceClassification"]}, "must hold the weights classifier.weight, classifier.bias"),
    (
        {"architectures": ["BertForTokenClassification"], "id2label": {"0": "A", "2": "B"}},
        r"`id2label` of config.json must have the ids 0, 1, 2, ... Received: \[0, 2\]",
    ),
]


@pytest.mark.parametrize(("settings", "message"), SETTINGS)
def test_settings_that_are_refused(settings, message, folder):
    with pytest.raises(ValueError, match=message):
        pretrained.load(changed(folder, **settings))


def test_problem_types_that_are_refused(tmp_path):
    folder = changed(save(make("bert", "classification"), tmp_path), problem_type="ranking")
    with pytest.raises(ValueError, match="`problem_type` of config.json must be one of .* Received: 'ranking'"):
        pretrained.load(folder)


def test_the_familys_own_padding_is_the_default(folder, tmp_path):
    (folder / "config.json").write_text(
        json.dumps({k: v for k, v in json.loads((folder / "config.json").read_text()).items() if k != "pad_token_id"})
    )
    assert pretrained.load(folder).special_ids.padding == 0
    assert pretrained.load(changed(folder, pad_token_id=None)).special_ids.padding is None


def test_activations_of_heads_are_saved(tmp_path, rng):
    """Also as functions of a head's config."""
    model = pretrained.load(save(make("bert", "masked_words", hidden_act="gelu_new"), tmp_path)).model
    inputs = ids_for(0, rng, 2)
    model.get_layer("source_embedding").enable_lora(2)
    wanted = ops.convert_to_numpy(model(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(ops.convert_to_numpy(again(inputs)), wanted, atol=1e-5)
    assert again.head == model.head


def test_settings_that_change_nothing(bert, folder):
    _, inputs, wanted, real = bert
    harmless = {"directionality": "bidi", "pooler_num_fc_layers": 3, "torch_dtype": "float16", "_commit_hash": "1"}
    harmless |= {
        "gradient_checkpointing": True,
        "use_cache": True,
        "output_past": True,
        "position_embedding_type": None,
    }
    check_equal(pretrained.load(changed(folder, **harmless)).model(inputs), wanted, real)


OTHER_FAMILIES = [
    ("distilbert", {"activation": "laplace"}, "`activation` of config.json must be one of .* Received: activation="),
    ("roberta", {"pad_token_id": None}, "`pad_token_id` of config.json must be the id of the tokenizer's padding"),
    ("modernbert", {"layer_types": ["full_attention"]}, "`layer_types` must hold 5 of"),
    ("modernbert", {"classifier_pooling": "max"}, "`classifier_pooling` must be cls or mean"),
    (
        "modernbert",
        {"rope_parameters": {"full_attention": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2}}},
        "`rope_type` of config.json must be default or one of .* Received: dynamic",
    ),
]


@pytest.mark.parametrize(("family", "settings", "message"), OTHER_FAMILIES)
def test_settings_of_other_families_that_are_refused(family, settings, message, tmp_path):
    folder = changed(save(make(family, "classification"), tmp_path), **settings)
    with pytest.raises(ValueError, match=message):
        pretrained.load(folder)


def test_weights_that_are_refused(bert, folder):
    with pytest.raises(ValueError, match=r"weights only. Received in addition: encoder.layer.0.adapter.weight"):
        pretrained.load(rewritten(folder, lambda weights: {**weights, "encoder.layer.0.adapter.weight": torch.ones(2)}))
    name = "embeddings.LayerNorm.bias"
    shutil.copytree(bert[0], folder, dirs_exist_ok=True)
    with pytest.raises(ValueError, match=f"must hold the weights {name}, which are missing"):
        pretrained.load(rewritten(folder, lambda weights: {k: v for k, v in weights.items() if k != name}))
    shutil.copytree(bert[0], folder, dirs_exist_ok=True)
    with pytest.raises(ValueError, match=f"{name} of .* must be floats, not quantised. Received: I8"):
        pretrained.load(rewritten(folder, lambda weights: {**weights, name: weights[name].to(torch.int8)}))
    shutil.copytree(bert[0], folder, dirs_exist_ok=True)
    with pytest.raises(
        ValueError, match=f"must hold each weight once. Received: bert.{name} and {name}|{name} and bert"
    ):
        pretrained.load(rewritten(folder, lambda weights: {**weights, f"bert.{name}": weights[name].clone()}))


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = r"pickled files are not read.*AutoModel.from_pretrained\(.*save_pretrained\(.*: \['pytorch_model.bin'\]"
    with pytest.raises(ValueError, match=message):
        pretrained.load(folder)


def test_arguments_that_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="`folder` must be a folder .* nothing is downloaded. Received: bert-base"):
        pretrained.load("bert-base")
    with pytest.raises(
        ValueError, match="`task` must be one of .*'embedding'.* for the family 'bert'. Received: task='x'"
    ):
        pretrained.load(folder, task="x")
    with pytest.raises(ValueError, match="`num_labels` is for the tasks .* Received: task='embedding'"):
        pretrained.load(folder, task="embedding", num_labels=2)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json must be JSON in UTF-8"):
        pretrained.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match="must hold config.json. Received: a folder without it"):
        pretrained.load(folder)


TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat", "."]


def test_a_vocabulary_and_special_ids(bert, folder):
    pytest.importorskip("tensorflow_text")
    (folder / "vocab.txt").write_text("\n".join(TOKENS))
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "model_max_length": 7}))
    loaded = pretrained.load(folder)
    ids = loaded.special_ids
    assert (ids.padding, ids.unknown, ids.start, ids.end) == (0, 1, 2, 3)
    assert loaded.target_text is loaded.source_text and loaded.source_text.max_length == 7
    assert np.array(loaded.source_text(["The cats", "The cat sat . the cat sat ."])).tolist() == [
        [2, 5, 6, 7, 3, 0, 0],
        [2, 5, 6, 8, 9, 5, 3],
    ]
    assert pretrained.load(folder, max_length=4).source_text.max_length == 4


def test_the_padding_of_the_tokenizer_counts(folder):
    """Multilingual MiniLM: BERT's config with padding 0, and XLM-R's tokenizer with padding 1."""
    pytest.importorskip("tensorflow_text")
    (folder / "vocab.txt").write_text("\n".join(["<s>", "<pad>", "</s>", "<unk>", *TOKENS]))
    named = {"pad_token": "<pad>", "cls_token": {"content": "<s>"}, "sep_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**named, "do_lower_case": True}))
    ids = pretrained.load(folder).special_ids
    assert (ids.padding, ids.unknown, ids.start, ids.end) == (1, 3, 0, 2)


def test_the_sizes_of_the_configs():
    """No two sizes of a family are equal, so that exchanged axes fail."""
    for config in CONFIGS.values():
        sizes = [value for value in config.values() if value > 6]
        assert len(set(sizes)) == len(sizes)
