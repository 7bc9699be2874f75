"""Language models: the logits of transformers for every family and variant, its steps and its texts."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import pretrained
from tests.pretrained.checkpoints import changed, check_equal, make, outputs, save

MAX = 64
SIZES = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA = {**SIZES, "vocab_size": 37, "intermediate_size": 29, "max_position_embeddings": MAX, "eos_token_id": 2}
GPT2 = {"vocab_size": 37, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": MAX, "eos_token_id": 2}
GEMMA = {**LLAMA, "head_dim": 8, "query_pre_attn_scalar": 13, "sliding_window": 5, "pad_token_id": 0}
ROPE = {"rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 16}
WINDOWS = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
VARIANTS = {
    "gpt2": ("gpt2", GPT2),
    "gpt2, scaled by the block, untied": (
        "gpt2",
        {
            **GPT2,
            "n_inner": 31,
            "scale_attn_by_inverse_layer_idx": True,
            "activation_function": "relu",
            "tie_word_embeddings": False,
        },
    ),
    "gpt2, no scale": ("gpt2", {**GPT2, "scale_attn_weights": False, "layer_norm_epsilon": 1e-2}),
    "llama, no groups": ("llama", {**LLAMA, "num_key_value_heads": None}),
    "llama 3": (
        "llama",
        {**LLAMA, "rope_parameters": {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, **ROPE}},
    ),
    "llama, yarn": ("llama", {**LLAMA, "rope_parameters": {"rope_type": "yarn", **ROPE}}),
    "llama, linear": (
        "llama",
        {**LLAMA, "rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}},
    ),
    "llama, biases, tied": (
        "llama",
        {**LLAMA, "head_dim": 10, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    ),
    "mistral": ("mistral", {**LLAMA, "sliding_window": 5}),
    "mistral, no window": ("mistral", {**LLAMA, "sliding_window": None, "hidden_act": "gelu"}),
    "qwen2": ("qwen2", LLAMA),
    "qwen2, windows": ("qwen2", {**LLAMA, **WINDOWS, "rms_norm_eps": 1e-2}),
    "qwen3": ("qwen3", {**LLAMA, "head_dim": 8}),
    "qwen3, windows": ("qwen3", {**LLAMA, **WINDOWS, "head_dim": 8, "attention_bias": True}),
    "smollm3": ("smollm3", {**LLAMA, "pad_token_id": None}),
    "smollm3, windows": (
        "smollm3",
        {**LLAMA, **WINDOWS, "pad_token_id": 0, "no_rope_layers": [0, 1, 1, 0]},
    ),
    "gemma2": ("gemma2", {**GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma3": ("gemma3_text", {**GEMMA, "num_hidden_layers": 7}),
    "gemma3, other layers": (
        "gemma3_text",
        {
            **GEMMA,
            "layer_types": ["full_attention", "sliding_attention"] * 2,
            "final_logit_softcapping": 3.0,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 100.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            },
        },
    ),
}


@pytest.fixture
def ids(rng):
    return rng.integers(4, 37, (3, 17)).astype("int32")


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits(variant, ids, tmp_path):
    family, settings = VARIANTS[variant]
    theirs = make(family, "text_generation", **settings)
    loaded = pretrained.load(save(theirs, tmp_path))
    assert (loaded.family, loaded.task, loaded.source_text) == (family, "text_generation", None)
    assert loaded.model.count_params() == sum(weight.numel() for weight in theirs.parameters())
    check_equal(loaded.model({"target": ids}), outputs(theirs, {"source": ids}, None), np.ones(ids.shape, bool))


OLDER = {
    "llama, linear": {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
    "gemma3, other layers": {
        "rope_theta": 100.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "rope_local_base_freq": 50.0,
    },
}


@pytest.mark.parametrize("variant", OLDER)
def test_rotary_positions_in_the_older_form(variant, ids, tmp_path):
    family, settings = VARIANTS[variant]
    folder = save(make(family, "text_generation", **settings), tmp_path)
    wanted = ops.convert_to_numpy(pretrained.load(folder).model({"target": ids}))
    changed(folder, rope_parameters=None, **OLDER[variant])
    np.testing.assert_array_equal(ops.convert_to_numpy(pretrained.load(folder).model({"target": ids})), wanted)
    changed(folder, **{name: None for name in OLDER[variant] if name == "rope_scaling"})
    assert np.abs(ops.convert_to_numpy(pretrained.load(folder).model({"target": ids})) - wanted).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["gpt2", "llama 3", "qwen3, windows", "smollm3, windows", "gemma3, other layers"])
def test_steps_and_chunks_are_the_whole_call(variant, ids, tmp_path):
    """Prompts of different lengths, whose lengths are explicit where there is no padding."""
    family, settings = VARIANTS[variant]
    model = pretrained.load(save(make(family, "text_generation", **settings), tmp_path)).model
    wanted = ops.convert_to_numpy(model({"target": ids}))
    lengths = np.array([5, 1, 8], "int32")
    prompts = ids[:, :8].copy()
    prompts[np.arange(8) >= lengths[:, None]] = model.special_ids.filler
    state = model.init_state(prompts, 9, source_lengths=lengths)
    tokens = ops.convert_to_numpy(model.first_tokens(prompts, source_lengths=lengths))
    np.testing.assert_array_equal(tokens, ids[np.arange(3), lengths - 1])
    largest = np.abs(wanted).max()
    for step in range(4):
        places = lengths - 1 + step
        logits, state = model.step(ids[np.arange(3), places], state, step)
        found = ops.convert_to_numpy(logits)
        np.testing.assert_allclose(found, wanted[np.arange(3), places], rtol=0, atol=1e-5 * largest)
    chunk = np.stack([row[length + 3 :][:3] for row, length in zip(ids, lengths, strict=True)])
    found = ops.convert_to_numpy(model.extend(chunk, state, 4)[0])
    wanted = np.stack([row[length + 3 :][:3] for row, length in zip(wanted, lengths, strict=True)])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * largest)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["gpt2", "llama, no groups", "qwen2, windows", "gemma2"])
def test_generated_texts(variant, ids, tmp_path):
    """Token by token those of transformers, for prompts of different lengths in one batch."""
    import torch

    family, settings = VARIANTS[variant]
    theirs = make(family, "text_generation", **settings)
    loaded = pretrained.load(save(theirs, tmp_path))
    lengths = [5, 1, 8]
    source = np.full((3, 8), 7, "int32")  # a word, which stands behind the prompts
    if loaded.special_ids.padding is not None:
        source[:] = loaded.special_ids.padding
    for row, length in enumerate(lengths):
        source[row, :length] = ids[row, :length]
    named = {} if loaded.special_ids.padding is not None else {"source_lengths": lengths}
    found = loaded.model.generate(source, loaded.strategy, max_length=11, **named)
    never = [each for each in (loaded.special_ids.padding, loaded.special_ids.start) if each is not None]
    never = [each for each in never if each not in loaded.special_ids.end_ids]
    for row, length in enumerate(lengths):
        with torch.no_grad():
            wanted = theirs.generate(
                torch.tensor(ids[row : row + 1, :length]).long(),
                max_new_tokens=11,
                do_sample=False,
                suppress_tokens=never or None,
                pad_token_id=0,
            )[0, length:]
        written = ops.convert_to_numpy(found.tokens)[row, 0, : int(found.lengths[row, 0])]
        np.testing.assert_array_equal(written, wanted.numpy()[: len(written)])
        assert len(written) == 11 or written[-1] == loaded.special_ids.end


@pytest.mark.parametrize("variant", ["gpt2", "gemma3"])
def test_a_loaded_model_is_saved_and_loaded_again(variant, ids, tmp_path):
    family, settings = VARIANTS[variant]
    model = pretrained.load(save(make(family, "text_generation", **settings), tmp_path)).model
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(*(ops.convert_to_numpy(each({"target": ids})) for each in (model, again)))
    assert (again.special_ids, again.embeddings, again.head) == (model.special_ids, model.embeddings, model.head)


def test_special_ids_as_they_are(tmp_path):
    theirs = make("gpt2", "text_generation", **{**GPT2, "bos_token_id": 2})
    found = pretrained.load(save(theirs, tmp_path / "gpt2")).special_ids
    assert (found.padding, found.start, found.end, found.end_ids) == (None, 2, 2, (2,))
    theirs = make("llama", "text_generation", **{**LLAMA, "bos_token_id": 1, "pad_token_id": 2})
    folder = save(theirs, tmp_path / "llama")
    assert pretrained.load(folder).special_ids.padding is None  # the end is not padding
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 2], "pad_token_id": 2, "bos_token_id": 99}')
    found = pretrained.load(folder).special_ids
    assert (found.padding, found.start, found.end_ids) == (2, 1, (5, 2))


def test_the_unknown_id_is_that_of_the_vocabulary():
    """Older folders of Marian do not name it."""
    from keras_attn.pretrained.special_ids import unknown_id

    class Files:
        settings = {}

    assert unknown_id(Files, {"</s>": 0, "<unk>": 1}) == 1
    assert unknown_id(Files, {"</s>": 0}) is None
    Files.settings = {"unk_token": {"content": "?"}}
    assert unknown_id(Files, {"?": 4, "<unk>": 1}) == 4


def test_settings_that_are_not_supported_are_refused(tmp_path):
    folder = save(make("llama", "text_generation", **LLAMA), tmp_path)
    changed(folder, rope_parameters={"rope_type": "longrope", "rope_theta": 1e4})
    with pytest.raises(ValueError, match="`rope_type` of config.json must be default or one of .* Received: longrope"):
        pretrained.load(folder)
    changed(folder, rope_parameters={"rope_type": "linear", "factor": 2.0, "beta": 3})
    with pytest.raises(ValueError, match=r"of the type linear have the settings .* Received also: \['beta'\]"):
        pretrained.load(folder)
    changed(folder, rope_parameters=None, architectures=["LlamaForSequenceClassification"])
    with pytest.raises(ValueError, match="must be that of a model that generates texts. Received: architectures="):
        pretrained.load(folder)
    changed(folder, architectures=["LlamaForCausalLM"])
    with pytest.raises(ValueError, match=r"`task` must be one of \['text_generation'\] .* Received: task='embedding'"):
        pretrained.load(folder, "embedding")
    with pytest.raises(ValueError, match="`num_labels` is for the tasks .* a model that generates texts"):
        pretrained.load(folder, num_labels=3)
    changed(folder, eos_token_id=None)
    (folder / "generation_config.json").unlink()
    with pytest.raises(ValueError, match="`eos_token_id` must be in generation_config.json or config.json"):
        pretrained.load(folder)


def test_layer_types_must_fit(tmp_path):
    folder = save(make("qwen2", "text_generation", **LLAMA), tmp_path)
    changed(folder, layer_types=["full_attention", "other"])
    with pytest.raises(ValueError, match="`layer_types` of config.json must hold 4 of"):
        pretrained.load(folder)


def test_a_model_larger_than_memory_is_refused_before_it_is_built(tmp_path, monkeypatch):
    from keras_attn.pretrained import memory

    folder = save(make("llama", "text_generation", **LLAMA), tmp_path)
    number = pretrained.load(folder).model.count_params()
    largest = 24 * 37
    monkeypatch.setattr(memory, "available_memory", lambda: 4 * (number + largest))
    pretrained.load(folder)
    monkeypatch.setattr(memory, "available_memory", lambda: 4 * (number + largest) - 1)
    with pytest.raises(ValueError, match=rf"must hold a model that fits into memory: {number:,} parameters in float32"):
        pretrained.load(folder)
    assert pretrained.load(folder, dtype="bfloat16").model.count_params() == number


def test_available_memory(tmp_path, monkeypatch):
    from keras_attn.pretrained import memory

    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    assert memory.available_memory() is None
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:   7 kB\n")
    assert memory.available_memory() == 7 * 1024
    (tmp_path / "memory.stat").write_text("anon 1000\nfile 9999\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_memory() == 7 * 1024
    (tmp_path / "memory.max").write_text("3000\n")
    assert memory.available_memory() == 2000
