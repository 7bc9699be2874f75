"""From a folder of transformers to a service: the texts of transformers, through tokenizer, search and detokenizer."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("tensorflow_text")
pytest.importorskip("tensorflow_serving.apis", reason="warm-up needs tensorflow-serving-api")

from keras_attn import pretrained, serving  # noqa: E402
from tests.pretrained.checkpoints import torch, transformers  # noqa: E402

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

TEXTS = ["hello world", "the fox", "a longer text: the quick brown fox jumps over the lazy dog", ""]
SEARCH = {"num_beams": 3, "length_penalty": 1.5, "no_repeat_ngram_size": 3, "max_length": 14, "min_length": 3}
SIZES = {"d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
HEADS = {"encoder_attention_heads": 3, "decoder_attention_heads": 3}


def tokenizer_of(special, template, **named):
    own = tokenizers.Tokenizer(tokenizers.models.BPE())
    own.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    own.train_from_iterator(TEXTS * 5, trainer)
    own.post_processor = template
    return transformers.PreTrainedTokenizerFast(tokenizer_object=own, **named)


def bart():
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    template = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    named = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), special, strict=True))
    tokenizer = tokenizer_of(special, template, cls_token="<s>", sep_token="</s>", **named)
    config = transformers.BartConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **SIZES, **HEADS)
    search = {"forced_bos_token_id": 0, "forced_eos_token_id": 2, "decoder_start_token_id": 2, "suppress_tokens": [1]}
    search |= {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "early_stopping": True}
    return tokenizer, transformers.BartForConditionalGeneration(config), search


def t5():
    special = ["<pad>", "</s>", "<unk>"]
    template = tokenizers.processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    named = dict(zip(("pad_token", "eos_token", "unk_token"), special, strict=True))
    tokenizer = tokenizer_of(special, template, **named)
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3, decoder_start_token_id=0
    )
    search = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, "suppress_tokens": [0]}
    return tokenizer, transformers.T5ForConditionalGeneration(config), search


def with_random_weights(model):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.4 * torch.randn(weight.shape, generator=generator) + (0.5 if weight.dim() == 1 else 0))
    return model.eval()


@pytest.mark.parametrize("make", [bart, t5], ids=["bart", "t5"])
def test_beams_from_text_to_text(make, tmp_path):
    tokenizer, theirs, search = make()
    with_random_weights(theirs)
    theirs.generation_config = transformers.GenerationConfig(**SEARCH, **search)
    for part in (tokenizer, theirs):
        part.save_pretrained(tmp_path / "folder")
    read = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        ids = theirs.generate(input_ids=read["input_ids"], attention_mask=read["attention_mask"])
    wanted = tokenizer.batch_decode(ids, skip_special_tokens=True)
    assert len(set(wanted)) > 1
    loaded = pretrained.load(tmp_path / "folder")
    np.testing.assert_array_equal(loaded.source_text(TEXTS), read["input_ids"].numpy())
    path = serving.export(loaded, tmp_path / "served", warmup=TEXTS)
    report = serving.check(path)
    assert report.ok, str(report)
    found = tf.saved_model.load(str(path)).signatures["serving_default"](source=tf.constant(TEXTS))
    assert [target.decode() for target in found["target"].numpy()] == wanted
