"""Every family and variant of its settings: the numbers of transformers."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import pretrained
from tests.pretrained.checkpoints import changed, check_equal, ids_for, make, outputs, save

VARIANTS = {
    "bert": ("bert", {}),
    "bert, three types, tanh gelu": ("bert", {"type_vocab_size": 3, "hidden_act": "gelu_new", "layer_norm_eps": 1e-3}),
    "bert, one type, relu": ("bert", {"type_vocab_size": 1, "hidden_act": "relu", "pad_token_id": 4}),
    "bert, quick gelu": ("bert", {"hidden_act": "quick_gelu"}),
    "roberta": ("roberta", {"type_vocab_size": 1}),
    "roberta, other padding": ("roberta", {"pad_token_id": 4, "hidden_act": "silu", "type_vocab_size": 2}),
    "xlm-roberta": ("xlm-roberta", {"type_vocab_size": 1, "hidden_act": "gelu_fast"}),
    "distilbert": ("distilbert", {}),
    "distilbert, sinusoids": ("distilbert", {"sinusoidal_pos_embds": True, "activation": "gelu_pytorch_tanh"}),
    "modernbert": ("modernbert", {}),
    "modernbert, biases": (
        "modernbert",
        {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "norm_eps": 1e-2, "hidden_activation": "silu"},
    ),
    "modernbert, other layers": (
        "modernbert",
        {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
            "num_hidden_layers": 4,
            "local_attention": 5,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 77.0},
            },
        },
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_hidden_states(variant, tmp_path, rng):
    family, changes = VARIANTS[variant]
    theirs = make(family, **changes)
    loaded = pretrained.load(save(theirs, tmp_path))
    assert (loaded.family, loaded.task, loaded.labels, loaded.source_text) == (family, "hidden_states", (), None)
    padding = theirs.config.pad_token_id
    assert loaded.special_ids.padding == padding
    inputs = ids_for(padding, rng, 0 if family in ("distilbert", "modernbert") else theirs.config.type_vocab_size)
    assert ("segments" in loaded.model.input) == ("segments" in inputs)
    check_equal(loaded.model(inputs), outputs(theirs, inputs, padding), inputs["source"] != padding)
    inputs.pop("segments", None)
    check_equal(loaded.model(inputs), outputs(theirs, inputs, padding), inputs["source"] != padding)


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_padding_before_and_between_the_ids(family, tmp_path, rng):
    theirs = make(family)
    padding = theirs.config.pad_token_id
    inputs = ids_for(padding, rng)
    inputs["source"] = np.roll(inputs["source"], 3, axis=1)
    inputs["source"][0, 5] = padding
    loaded = pretrained.load(save(theirs, tmp_path))
    check_equal(loaded.model(inputs), outputs(theirs, inputs, padding), inputs["source"] != padding)


HEADS = {
    "bert": ("bert", {"classifier_dropout": 0.3}),
    "bert, relu": ("bert", {"hidden_act": "relu", "tie_word_embeddings": False}),
    "roberta": ("roberta", {"type_vocab_size": 1}),
    "roberta, untied": ("roberta", {"tie_word_embeddings": False, "hidden_act": "relu"}),
    "xlm-roberta": ("xlm-roberta", {}),
    "distilbert": ("distilbert", {}),
    "distilbert, untied": ("distilbert", {"tie_word_embeddings": False, "activation": "relu"}),
    "modernbert": ("modernbert", {}),
    "modernbert, means": (
        "modernbert",
        {
            "classifier_pooling": "mean",
            "classifier_bias": True,
            "norm_bias": True,
            "decoder_bias": False,
            "tie_word_embeddings": False,
            "classifier_activation": "relu",
        },
    ),
    "modernbert, no bias": ("modernbert", {"decoder_bias": False}),
}


@pytest.mark.parametrize("task", ["classification", "token_classification", "masked_words"])
@pytest.mark.parametrize("variant", HEADS)
def test_heads(variant, task, tmp_path, rng):
    family, changes = HEADS[variant]
    if task != "masked_words":
        changes = {**changes, "num_labels": 3, "id2label": {0: "A", 1: "B", 2: "C"}, "label2id": {}}
    theirs = make(family, task, **changes)
    loaded = pretrained.load(save(theirs, tmp_path))
    assert loaded.task == task
    assert loaded.labels == (() if task == "masked_words" else ("A", "B", "C"))
    padding = theirs.config.pad_token_id
    inputs = ids_for(padding, rng)
    check_equal(loaded.model(inputs), outputs(theirs, inputs, padding), inputs["source"] != padding)


@pytest.mark.trains
def test_gradients_of_one_step(tmp_path, rng):
    """The gradients of a loss are those of PyTorch, weight by weight."""
    import torch

    theirs = make("bert", "classification", num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    loaded = pretrained.load(save(theirs, tmp_path))
    inputs, labels = ids_for(0, rng, 2), np.array([0, 2, 1, 1])
    with torch.enable_grad():
        named = {"input_ids": torch.tensor(inputs["source"]).long(), "labels": torch.tensor(labels)}
        named["token_type_ids"] = torch.tensor(inputs["segments"]).long()
        theirs(**named, attention_mask=(named["input_ids"] != 0).long()).loss.backward()
    wanted = {name: weight.grad.numpy() for name, weight in theirs.named_parameters()}
    model = loaded.model
    rate = 1e3  # the change of a weight is then no small difference of numbers that are alike
    before = {weight.path: ops.convert_to_numpy(weight) for weight in model.trainable_weights}
    model.compile(keras.optimizers.SGD(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.train_on_batch(inputs, labels)
    ours = {
        weight.path: (before[weight.path] - ops.convert_to_numpy(weight)) / rate for weight in model.trainable_weights
    }
    pairs = {
        "segments_embedding/embeddings": wanted["bert.embeddings.token_type_embeddings.weight"],
        "source_position/embedding/embeddings": wanted["bert.embeddings.position_embeddings.weight"],
        "encoder/block_1/attention/in_projection/kernel": np.concatenate(
            [wanted[f"bert.encoder.layer.1.attention.self.{part}.weight"].T for part in ("query", "key", "value")], 1
        ),
        "encoder/block_0/norm_1/gamma": wanted["bert.encoder.layer.0.output.LayerNorm.weight"],
        "encoder/block_2/feed_forward/hidden_projection/bias": wanted["bert.encoder.layer.2.intermediate.dense.bias"],
        "transform/kernel": wanted["bert.pooler.dense.weight"].T,
        "labels/bias": wanted["classifier.bias"],
    }
    for path, gradient in pairs.items():
        np.testing.assert_allclose(ours[path], gradient, rtol=0, atol=1e-4 * np.abs(gradient).max(), err_msg=path)
    words = wanted["bert.embeddings.word_embeddings.weight"]
    used = np.arange(len(words)) != 0  # PyTorch gives padding no gradient
    np.testing.assert_allclose(
        ours["source_embedding/embeddings"][used], words[used], rtol=0, atol=1e-4 * np.abs(words).max()
    )


def test_older_names_of_settings(tmp_path, rng):
    """ModernBERT's first config: bases of the rotation and the distance of global layers as numbers."""
    theirs = make("modernbert", layer_types=None, global_attn_every_n_layers=2)
    folder = save(theirs, tmp_path)
    wanted = pretrained.load(folder).model
    config = {"rope_parameters": None, "layer_types": None, "global_attn_every_n_layers": 2}
    changed(folder, **config, global_rope_theta=160000.0, local_rope_theta=10000.0, position_embedding_type="absolute")
    inputs = ids_for(3, rng)
    np.testing.assert_array_equal(pretrained.load(folder).model(inputs), wanted(inputs))
    check_equal(wanted(inputs), outputs(theirs, inputs, 3), inputs["source"] != 3)
