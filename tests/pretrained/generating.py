"""Tiny random PyTorch models as objects with steps, and what transformers generates with them."""

import numpy as np
import pytest
from keras import ops

from keras_attn import decoding
from keras_attn.base.special_ids import SpecialIds
from keras_attn.pretrained.generation import generation_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()

V, END = 37, 2
STARTS = {"gpt2": 1, "bart": END, "t5": 0}  # a start of its own, the end, padding
SIZES = {"vocab_size": V, "pad_token_id": 0, "eos_token_id": END}
OF_BART = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
SOURCE = np.array([[7, 8, 9, 7, 8, 9], [5, 11, 0, 0, 0, 0], [6, 4, 6, 4, 0, 0]], "int32")
LENGTHS = np.array([6, 2, 4])


def make(kind, seed, ends, bias):
    """A model with large weights whose logits of the ends are raised by `bias`."""
    torch.manual_seed(seed)
    if kind == "gpt2":
        config = transformers.GPT2Config(**SIZES, n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=1)
        model = transformers.GPT2LMHeadModel(config)
    elif kind == "bart":
        config = transformers.BartConfig(**SIZES, **OF_BART, **HEADS, bos_token_id=3, decoder_start_token_id=END)
        model = transformers.BartForConditionalGeneration(config)
    else:
        config = transformers.T5Config(**SIZES, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        model = transformers.T5ForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn_like(weight) * (0.35 if kind == "t5" else 0.45))
    raised = torch.zeros(V)
    raised[list(ends)] = bias
    model.get_output_embeddings().register_forward_hook(lambda module, inputs, outputs: outputs + raised)
    return model.eval()


class Steps:
    """A PyTorch model with the methods of a `DecodingModel`; it reads the whole text again at every step."""

    vocabulary_size = source_vocabulary_size = V

    def __init__(self, model, special_ids, reads_prompts):
        self.model, self.special_ids, self.reads_prompts = model, special_ids, reads_prompts

    def init_state(self, source, max_length, source_lengths):
        source, lengths = map(ops.convert_to_numpy, (source, source_lengths))
        texts = np.zeros((len(source), max_length), "int32")
        if self.reads_prompts:
            texts = np.concatenate([source, texts], axis=1)
            return {"texts": ops.convert_to_tensor(texts), "first": ops.convert_to_tensor(lengths - 1)}
        state = {"texts": texts, "first": 0 * lengths, "source": source, "mask": mask(lengths, source.shape[1])}
        return {name: ops.convert_to_tensor(value) for name, value in state.items()}

    def first_tokens(self, source, start_id, source_lengths):
        return ops.take_along_axis(source, source_lengths[:, None] - 1, axis=1)[:, 0]

    def step(self, tokens, state, index):
        arrays = {name: ops.convert_to_numpy(value) for name, value in state.items()}
        texts, places = np.array(arrays["texts"]), arrays["first"] + int(index)
        rows = np.arange(len(texts))
        texts[rows, places] = ops.convert_to_numpy(tokens)
        written = {"input_ids": texts, "attention_mask": mask(places + 1, texts.shape[1])}
        if not self.reads_prompts:
            written = {"input_ids": arrays["source"], "attention_mask": arrays["mask"], "decoder_input_ids": texts}
        with torch.no_grad():
            logits = self.model(**{name: torch.tensor(value).long() for name, value in written.items()}).logits
        logits = ops.convert_to_tensor(logits.numpy()[rows, places])
        return logits, {**state, "texts": ops.convert_to_tensor(texts)}


def mask(lengths, width):
    return (np.arange(width) < lengths[:, None]).astype("int32")


def ours(model, kind, ends, settings, source, lengths):
    """Returns texts and scores of our loop, one list for all texts of all rows."""
    special_ids = SpecialIds(0, STARTS[kind], ends[0], None, tuple(ends[1:]))
    generation = generation_of(settings, special_ids, kind == "gpt2")
    steps = Steps(model, special_ids, kind == "gpt2")
    length = generation.max_new_tokens or settings["max_length"]
    found = decoding.generate(steps, source, generation.strategy, length, source_lengths=lengths)
    tokens, lengths, scores = (ops.convert_to_numpy(each) for each in found)
    texts = [row[:length].tolist() for row, length in zip(tokens.reshape(-1, tokens.shape[-1]), lengths.ravel())]
    return texts, scores.ravel()


def theirs(model, kind, ends, settings, source, lengths):
    """Returns the same of transformers; the scores only of beam searches."""
    ids, real = source.astype("int64"), mask(lengths, source.shape[1])
    if kind == "gpt2":  # prompts are padded at the left
        rolled = [np.roll(np.stack([row, each]), -length, axis=1) for row, each, length in zip(ids, real, lengths)]
        ids, real = np.stack(rolled, axis=1)[:, :, source.shape[1] - lengths.max() :]
    first = {"bos_token_id": 1} if kind == "gpt2" else {"decoder_start_token_id": STARTS[kind]}
    model.generation_config = transformers.GenerationConfig(
        **settings, **first, pad_token_id=0, eos_token_id=list(ends), return_dict_in_generate=True, output_scores=True
    )
    with torch.no_grad():
        found = model.generate(input_ids=torch.tensor(ids), attention_mask=torch.tensor(real).long())
    rows = found.sequences.numpy()[:, ids.shape[1] if kind == "gpt2" else 1 :].tolist()
    scores = getattr(found, "sequences_scores", None)
    return [until_end(row, ends) for row in rows], None if scores is None else scores.numpy()


def until_end(tokens, ends):
    length = next((n + 1 for n, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[:length]


def check_equal(model, kind, ends, settings, source=SOURCE, lengths=LENGTHS):
    """Compares texts and scores, and returns the texts."""
    start = [STARTS[kind]] if STARTS[kind] not in ends else []
    forced = settings.get("forced_bos_token_id")
    banned = [each for each in {0, *start, *settings.get("suppress_tokens", ())} if each != forced]
    settings = {**settings, "suppress_tokens": banned}
    wanted, scores = theirs(model, kind, ends, settings, source, lengths)
    texts, found = ours(model, kind, ends, settings, source, lengths)
    if scores is None:
        assert texts == wanted, (kind, ends, settings)
        return texts
    real = scores > -1e6  # else every further text is forbidden: minus infinity in ours
    for text, other, each in zip(texts, wanted, real, strict=True):
        assert text == other or not each, (kind, ends, settings)
    np.testing.assert_allclose(found, np.where(real, scores, -np.inf), rtol=1e-4, atol=1e-4)
    return texts
