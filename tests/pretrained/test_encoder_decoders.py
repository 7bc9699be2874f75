"""T5, BART and Marian: the numbers of transformers for every variant of their settings and names."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import pretrained
from tests.pretrained.checkpoints import changed, save, torch, transformers

safetensors = pytest.importorskip("safetensors.numpy")

V, D, B, S, T = 37, 24, 4, 13, 7
BART = {
    "vocab_size": V,
    "d_model": D,
    "max_position_embeddings": 23,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 29,
    "decoder_ffn_dim": 31,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 3,
}
CONFIGS = {
    "bart": BART,
    "marian": {**BART, "pad_token_id": 36, "decoder_start_token_id": 36, "activation_function": "swish"},
    "t5": {
        "vocab_size": V,
        "d_model": D,
        "d_kv": 5,
        "d_ff": 29,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "num_heads": 3,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 9,
        "decoder_start_token_id": 0,
    },
}
LENGTHS = {"source": (13, 7, 2, 11), "target": (7, 5, 6, 1)}
REAL = np.arange(T) < np.array(LENGTHS["target"])[:, None]
VARIANTS = {
    "t5": ("t5", {}),
    "t5, gated, untied": ("t5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "t5, gated silu, layers of both": ("t5", {"feed_forward_proj": "gated-silu", "num_decoder_layers": None}),
    "t5, gelu, other epsilon": ("t5", {"feed_forward_proj": "gelu", "layer_norm_epsilon": 0.1, "pad_token_id": 3}),
    "t5, buckets": ("t5", {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128}),
    "bart": ("bart", {}),
    "bart, scaled, untied": ("bart", {"scale_embedding": True, "tie_word_embeddings": False}),
    "bart, relu": ("bart", {"activation_function": "relu", "encoder_layers": 2, "decoder_layers": 1}),
    "marian": ("marian", {"scale_embedding": True}),
    "marian, odd size": ("marian", {"d_model": 21, "encoder_attention_heads": 3}),
    "marian, two vocabularies": ("marian", {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 41}),
    "marian, untied": ("marian", {"tie_word_embeddings": False}),
    "marian, two vocabularies, untied": (
        "marian",
        {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 41, "tie_word_embeddings": False},
    ),
}


def make(family, **changes):
    """A random model of transformers; all weights matter, but Marian's sinusoids are those of transformers."""
    config = transformers.AutoConfig.for_model(family, **{**CONFIGS[family], **changes})
    config._attn_implementation = "eager"
    model = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in [*model.named_parameters(), *model.named_buffers()]:
            if weight.requires_grad or name == "final_logits_bias":
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator) + (0.5 if weight.dim() == 1 else 0))
    return model


def pairs(special_ids, rng, size=V):
    """Random ids of source and target with padding behind; the target begins with the start id."""
    ids = {}
    for name, length in (("source", S), ("target", T)):
        ids[name] = rng.integers(4, size - 2, (B, length)).astype("int32")
        for row, count in enumerate(LENGTHS[name]):
            ids[name][row, count:] = special_ids.padding
    ids["target"][:, 0] = special_ids.start
    return ids


def run(model, ids, special_ids):
    """The outputs of the model of transformers."""
    source, target = (torch.tensor(ids[name]).long() for name in ("source", "target"))
    return model(input_ids=source, attention_mask=(source != special_ids.padding).long(), decoder_input_ids=target)


def check(ours, theirs, real=REAL, tolerance=1e-5):
    """Equal at real positions, within a part of the largest number."""
    ours, theirs = ops.convert_to_numpy(ours), theirs.detach().numpy()
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours[real], theirs[real], rtol=0, atol=tolerance * np.abs(theirs[real]).max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_memory(variant, tmp_path, rng):
    family, changes = VARIANTS[variant]
    theirs = make(family, **changes)
    loaded = pretrained.load(save(theirs, tmp_path))
    assert (loaded.family, loaded.task) == (family, "text_to_text")
    ids = pairs(loaded.special_ids, rng)
    wanted = run(theirs, ids, loaded.special_ids)
    check(loaded.model(ids), wanted.logits)
    memory, mask = loaded.model.encode(ids["source"])
    check(memory, wanted.encoder_last_hidden_state, ops.convert_to_numpy(mask))


@pytest.fixture(scope="module", params=["t5", "bart", "marian"])
def model(request, tmp_path_factory):
    """A loaded model of each family, and that of transformers."""
    theirs = make(request.param)
    theirs.generation_config.no_repeat_ngram_size = 2  # random models repeat themselves
    return pretrained.load(save(theirs, tmp_path_factory.mktemp(request.param))), theirs


@pytest.mark.slow
def test_steps_equal_the_whole_call(model, rng):
    loaded, _ = model
    ids = pairs(loaded.special_ids, rng)
    whole = ops.convert_to_numpy(loaded.model(ids))
    state = loaded.model.init_state(ids["source"], T)
    logits, state = loaded.model.extend(ids["target"][:, :3], state, 0)
    np.testing.assert_allclose(logits[0], whole[0, :3], atol=1e-5 * np.abs(whole).max())
    for index in range(3, T):
        logits, state = loaded.model.step(ids["target"][:, index], state, index)
        np.testing.assert_allclose(logits[0], whole[0, index], atol=1e-5 * np.abs(whole).max())


@pytest.mark.slow
def test_greedy_texts_equal_those_of_transformers(model, rng):
    loaded, theirs = model
    special = loaded.special_ids
    source = pairs(special, rng)["source"]
    found = loaded.model.generate(source, loaded.strategy, max_length=9)
    wanted = theirs.generate(
        torch.tensor(source).long(),
        attention_mask=torch.tensor(source != special.padding).long(),
        suppress_tokens=sorted({special.padding, special.start} - {special.end}) or None,  # ours never chooses them
        max_new_tokens=9,
    )[:, 1:].numpy()
    np.testing.assert_array_equal(ops.convert_to_numpy(found.tokens)[:, 0, : wanted.shape[1]], wanted)


@pytest.mark.slow
def test_saved_models_are_equal(model, rng, tmp_path):
    loaded, _ = model
    ids = pairs(loaded.special_ids, rng)
    loaded.model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(ids), loaded.model(ids))
    assert again.count_params() == loaded.model.count_params()
    if loaded.family == "t5":  # its stacks share a table
        again.quantize("int8", filters=lambda layer: isinstance(layer, keras.layers.Dense))
        again.save(tmp_path / "int8.keras")
        np.testing.assert_array_equal(keras.models.load_model(tmp_path / "int8.keras")(ids), again(ids))


NO_DROPOUT = {"t5": {"dropout_rate": 0.0}, "bart": {"dropout": 0.0}, "marian": {"dropout": 0.0}}
GRADIENTS = {  # paths of ours and functions of the gradients of theirs
    "t5": {
        "encoder/position/table": lambda g: g["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"],
        "decoder/position/table": lambda g: g["decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"],
        "target_embedding/embeddings": lambda g: g["shared.weight"],
        "encoder/final_norm/scale": lambda g: g["encoder.final_layer_norm.weight"],
        "decoder/final_norm/scale": lambda g: g["decoder.final_layer_norm.weight"] * D**0.5,  # the factor is in it
        "decoder/block_1/memory_attention/memory_projection/kernel": lambda g: np.concatenate(
            [g[f"decoder.block.1.layer.1.EncDecAttention.{part}.weight"].T for part in "kv"], axis=1
        ),
    },
    "bart": {
        "target_position/embedding/embeddings": lambda g: g["model.decoder.embed_positions.weight"],
        "source_norm/gamma": lambda g: g["model.encoder.layernorm_embedding.weight"],
        "encoder/block_0/attention/in_projection/bias": lambda g: np.concatenate(
            [g[f"model.encoder.layers.0.self_attn.{part}_proj.bias"] for part in "qkv"]
        ),
        "decoder/block_1/norm_2/beta": lambda g: g["model.decoder.layers.1.final_layer_norm.bias"],
    },
    "marian": {
        "decoder/block_0/feed_forward/hidden_projection/kernel": lambda g: g["model.decoder.layers.0.fc1.weight"].T,
        "encoder/block_0/attention/out_projection/kernel": lambda g: (
            g["model.encoder.layers.0.self_attn.out_proj.weight"].T
        ),
    },
}


@pytest.mark.trains
@pytest.mark.parametrize("family", GRADIENTS)
def test_gradients_of_one_step(family, tmp_path, rng):
    theirs = make(family, **NO_DROPOUT[family])
    loaded = pretrained.load(save(theirs, tmp_path))
    ids, labels = pairs(loaded.special_ids, rng), rng.integers(4, V - 2, (B, T))
    with torch.enable_grad():
        logits = run(theirs, ids, loaded.special_ids).logits
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), torch.tensor(labels), reduction="none")
        (losses * torch.tensor(REAL)).mean().backward()
    wanted = {name: weight.grad.numpy() for name, weight in theirs.named_parameters() if weight.grad is not None}
    rate, model = 1e3, loaded.model  # the change of a weight is then no small difference of numbers that are alike
    before = {weight.path: ops.convert_to_numpy(weight) for weight in model.trainable_weights}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss, jit_compile=False)
    model.train_on_batch(ids, labels, sample_weight=REAL.astype("float32"))
    after = {weight.path: ops.convert_to_numpy(weight) for weight in model.trainable_weights}
    ours = {path: (before[path] - after[path]) / rate for path in before}
    scale = None
    for path, gradient in GRADIENTS[family].items():
        gradient, found = gradient(wanted), ours[path]
        scale = scale or np.abs(gradient).max() / np.abs(found).max()  # Keras may divide by the number of real ids
        np.testing.assert_allclose(found * scale, gradient, rtol=0, atol=2e-4 * np.abs(gradient).max(), err_msg=path)
    assert min(abs(scale - 1), abs(scale - REAL.mean())) < 1e-3


def rewritten(folder, change):
    """Changes the weights of a folder, a dictionary by name."""
    path = folder / "model.safetensors"
    safetensors.save_file(change(safetensors.load_file(path)), path, {"format": "pt"})
    return folder


def renamed(old, new):
    return lambda weights: {name.replace(old, new): weight for name, weight in weights.items()}


def with_copies(*names, of):
    return lambda weights: {**weights, **{name: weights[of].copy() for name in names}}


def without(*names):
    return lambda weights: {name: weight for name, weight in weights.items() if name not in names}


NAMES = {
    "t5, shared under another name": ("t5", renamed("shared.", "encoder.embed_tokens.")),
    "t5, all copies": (
        "t5",
        with_copies("lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", of="shared.weight"),
    ),
    "t5, the bias that nobody reads": (
        "t5",
        lambda weights: {
            **weights,
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": np.zeros((8, 3), "float32"),
        },
    ),
    "bart, shared under another name": ("bart", renamed("model.shared.", "lm_head.")),
    "bart, without the prefix": ("bart", renamed("model.", "")),
    "bart, all copies": (
        "bart",
        with_copies("lm_head.weight", "model.encoder.embed_tokens.weight", of="model.shared.weight"),
    ),
    "marian, sinusoids in the checkpoint": (
        "marian",
        lambda weights: {**weights, "model.encoder.embed_positions.weight": np.zeros((23, D), "float32")},
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_other_names_in_the_checkpoint(name, tmp_path, rng):
    family, change = NAMES[name]
    theirs = make(family)
    loaded = pretrained.load(rewritten(save(theirs, tmp_path), change))
    ids = pairs(loaded.special_ids, rng)
    check(loaded.model(ids), run(theirs, ids, loaded.special_ids).logits)
    assert loaded.model.embeddings.shared and loaded.model.head.tied


def test_a_missing_bias_of_the_logits_is_zero(tmp_path, rng):
    for family, changes in (("bart", {}), ("marian", {"tie_word_embeddings": False})):
        theirs = make(family, **changes)
        theirs.final_logits_bias.zero_()
        folder = save(theirs, tmp_path / family)
        loaded = pretrained.load(rewritten(folder, without("final_logits_bias")))
        ids = pairs(loaded.special_ids, rng)
        check(loaded.model(ids), run(theirs, ids, loaded.special_ids).logits)


@pytest.mark.parametrize("family", ["t5", "bart", "marian"])
def test_different_matrices_are_not_tied(family, tmp_path, rng):
    """As in transformers, whatever the config says; T5 still scales its outputs then."""
    folder = save(make(family), tmp_path)
    matrix = rng.normal(size=(V, D)).astype("float32")
    rewritten(folder, lambda weights: {**weights, "lm_head.weight": matrix})
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="eager")
    loaded = pretrained.load(folder)
    assert not loaded.model.head.tied
    ids = pairs(loaded.special_ids, rng)
    check(loaded.model(ids), run(theirs, ids, loaded.special_ids).logits)


def test_a_checkpoint_saved_again_keeps_its_scale(tmp_path, rng):
    """A newer version of transformers saves T5 1.1 as tied, with `scale_decoder_outputs`."""
    theirs = make("t5", tie_word_embeddings=False)
    folder = save(theirs, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    assert config["tie_word_embeddings"] and config["scale_decoder_outputs"] is False
    del config["scale_decoder_outputs"]
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))  # as Google saved it
    loaded = pretrained.load(folder)
    ids = pairs(loaded.special_ids, rng)
    check(loaded.model(ids), run(theirs, ids, loaded.special_ids).logits)


OLD_SETTINGS = {
    "t5": {"n_positions": 512, "output_past": True, "initializer_factor": 1.0, "task_specific_params": {}},
    "bart": {
        "_num_labels": 3,
        "add_bias_logits": False,
        "add_final_layer_norm": False,
        "classif_dropout": 0.0,
        "extra_pos_embeddings": 2,
        "force_bos_token_to_be_generated": True,
        "normalize_before": False,
        "normalize_embedding": True,
        "num_hidden_layers": 1,
        "static_position_embeddings": False,
        "student_decoder_layers": None,
        "prefix": " ",
        "replacing_rate": 0,
    },
    "marian": {
        "add_bias_logits": False,
        "add_final_layer_norm": False,
        "bad_words_ids": [[36]],
        "extra_pos_embeddings": 2,
        "normalize_before": False,
        "normalize_embedding": False,
        "num_hidden_layers": 1,
        "static_position_embeddings": True,
    },
}


@pytest.mark.parametrize("family", OLD_SETTINGS)
def test_settings_of_old_configs(family, tmp_path, rng):
    theirs = make(family)
    loaded = pretrained.load(changed(save(theirs, tmp_path), **OLD_SETTINGS[family]))
    ids = pairs(loaded.special_ids, rng)
    check(loaded.model(ids), run(theirs, ids, loaded.special_ids).logits)


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        (
            "t5",
            {"feed_forward_proj": "gated-gelu-new", "dense_act_fn": None},
            "`feed_forward_proj` .* must be one of .* Received: .*'gelu-new'",
        ),
        ("t5", {"feed_forward_proj": "soft", "dense_act_fn": None}, "`feed_forward_proj` .* must be one of"),
        ("t5", {"is_encoder_decoder": False}, "`is_encoder_decoder` of config.json must be true"),
        ("t5", {"attention_kind": "local"}, "not known and may change the numbers. Received: attention_kind"),
        ("bart", {"normalize_before": True}, "`normalize_before` of config.json must be false"),
        ("bart", {"extra_pos_embeddings": 0}, "`extra_pos_embeddings` of config.json must be 2"),
        ("bart", {"d_model": 20}, "weights of the shapes of its settings"),
        ("marian", {"normalize_embedding": True}, "`normalize_embedding` of config.json must be false"),
        ("marian", {"static_position_embeddings": False}, "`static_position_embeddings` of config.json must be true"),
        ("marian", {"decoder_layers": 3}, r"the weights decoder.layers.2.self_attn.q_proj.weight.*missing"),
    ],
)
def test_what_would_change_the_numbers_is_refused(family, settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pretrained.load(changed(save(make(family), tmp_path), **settings))


def test_a_copy_that_differs_is_refused(tmp_path):
    folder = save(make("t5"), tmp_path)
    rewritten(folder, lambda weights: {**weights, "encoder.embed_tokens.weight": 2 * weights["shared.weight"]})
    with pytest.raises(ValueError, match="must hold equal weights shared.weight and encoder.embed_tokens.weight"):
        pretrained.load(folder)
