"""Tiny random models of transformers, saved to folders, and what they compute."""

import contextlib
import io
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
transformers.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()

V, D, N, H, F, MAX = 37, 22, 3, 2, 29, 23
SIZES = {"vocab_size": V, "max_position_embeddings": MAX}
BERT = {**SIZES, "hidden_size": D, "num_hidden_layers": N, "num_attention_heads": H, "intermediate_size": F}
CONFIGS = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "distilbert": {**SIZES, "dim": D, "n_layers": N, "n_heads": H, "hidden_dim": F},
    "modernbert": {
        **{**BERT, "hidden_size": 20, "num_hidden_layers": 5},
        "pad_token_id": 3,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
        "local_attention": 6,
    },
}
CLASSES = {
    "hidden_states": transformers.AutoModel,
    "classification": transformers.AutoModelForSequenceClassification,
    "token_classification": transformers.AutoModelForTokenClassification,
    "masked_words": transformers.AutoModelForMaskedLM,
    "text_generation": transformers.AutoModelForCausalLM,
}


def make(family, task="hidden_states", **changes):
    """A random model of transformers; all weights matter."""
    config = transformers.AutoConfig.for_model(family, **{**CONFIGS.get(family, {}), **changes})
    config._attn_implementation = "eager"
    model = CLASSES[task].from_config(config).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator) + (0.5 if weight.dim() == 1 else 0))
    return model


def save(model, folder, **named):
    with contextlib.redirect_stderr(io.StringIO()):  # of progress bars
        model.save_pretrained(folder, **named)
    return folder


def changed(folder, **settings):
    """Changes settings in config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return folder


def ids_for(padding, rng, num_segments=0):
    """Ids with padding at the end, and segments where there are some."""
    source = rng.integers(4, V, (4, 13))
    source[source == padding] = 5 if padding != 5 else 6
    for row, length in enumerate((13, 7, 2, 11)):
        source[row, length:] = padding
    inputs = {"source": source.astype("int32")}
    if num_segments > 1:
        inputs["segments"] = rng.integers(0, num_segments, source.shape).astype("int32")
    return inputs


def outputs(model, inputs, padding):
    """What the model of transformers returns, with the attention mask that its tokenizer would make."""
    named = {"input_ids": torch.tensor(inputs["source"]).long()}
    if padding is not None:
        named["attention_mask"] = (named["input_ids"] != padding).long()
    if "segments" in inputs:
        named["token_type_ids"] = torch.tensor(inputs["segments"]).long()
    with torch.no_grad():
        return model(**named)[0].float().numpy()


def check_equal(ours, theirs, real=None, tolerance=1e-5):
    """Equal within a part of the largest number; `real` `[B, S]` leaves padding out."""
    ours, theirs = np.array(ours), np.array(theirs)
    assert ours.shape == theirs.shape
    if theirs.ndim == 3:
        ours, theirs = ours[real], theirs[real]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())
