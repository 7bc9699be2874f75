"""Tokenizers of the `tokenizers` package as language models have them, trained on the texts of `pretrained_texts`."""

import base64
import json
import random

from .pretrained_texts import (
    CORPUS,
    byte_pairs,
    charsmap,
    decoders,
    framed,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    tokenizers,
    trainers,
)

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LINES = [line for text in CORPUS for line in text.split("\n")]
TO_SPACES = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def added(content, **flags):
    return tokenizers.AddedToken(content, **{"normalized": False, **flags})


def reloaded(tokenizer, change=lambda spec: None):
    """Returns the tokenizer of a changed file."""
    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = [token for token in spec["added_tokens"] if token["content"] not in BYTES]
    change(spec)
    return tokenizers.Tokenizer.from_str(json.dumps(spec))


def pairs(special, normalizer, pre_tokenizer, decoder, corpus=LINES, **options):
    """Byte pairs of characters; the others are bytes, or unknown."""
    options = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, **options}
    tokenizer = tokenizers.Tokenizer(models.BPE(**options))
    tokenizer.normalizer, tokenizer.decoder = normalizer, decoders.Sequence(decoder)
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    special = [*special, *(BYTES if options["byte_fallback"] else ())]
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=special, show_progress=False, limit_alphabet=200, max_token_length=16
    )
    tokenizer.train_from_iterator(corpus, trainer)
    start = special[0] if options["unk_token"] is None else special[1]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", pair=f"{start} $A {start} $B", special_tokens=[(start, tokenizer.token_to_id(start))]
    )
    return reloaded(tokenizer)


def llama():
    """As `transformers` 5 writes it."""
    words = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    decoder = [*TO_SPACES, decoders.Strip(" ", 1, 0)]
    return pairs(["<unk>", "<s>", "</s>"], None, words, decoder, [word for line in LINES for word in line.split(" ")])


def llama_2():
    """As its files are, without a pre-tokenizer."""
    steps = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return pairs(["<unk>", "<s>", "</s>"], steps, None, [*TO_SPACES, decoders.Strip(" ", 1, 0)])


def gemma():
    words = pre_tokenizers.Split(" ", "merged_with_previous")
    spaces = normalizers.Replace(" ", "▁")
    tokenizer = pairs(["<unk>", "<bos>", "<eos>", "<pad>"], spaces, words, TO_SPACES)
    more = [added("\n\n"), added("▁▁"), added("<start_of_turn>", special=True), added("  ", normalized=True)]
    tokenizer.add_tokens(more)
    return reloaded(tokenizer)


def unknown(fused):
    """Without bytes: unknown characters are one token, or one each."""
    decoder = [decoders.Replace("▁", " "), decoders.Fuse()]
    spaces = normalizers.Replace(" ", "▁")
    options = {"byte_fallback": False, "fuse_unk": fused}
    return pairs(["<unk>", "<s>", "</s>"], spaces, None, decoder, **options)


def dropped():
    """Without bytes and without an unknown token."""
    return pairs(["<s>", "</s>"], None, None, [decoders.Fuse()], unk_token=None, byte_fallback=False)


def smol_lm():
    tokenizer = byte_pairs(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    return reloaded(framed(tokenizer, "<|im_start|>", "<|im_end|>", "<|im_start|> $A $B"))


def t5():
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Precompiled(base64.b64decode(charsmap()))
    words = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.pre_tokenizer, tokenizer.decoder = words, decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=1500, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([f"<extra_id_{index}>" for index in range(99, -1, -1)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return reloaded(tokenizer)


def unigram_with_bytes():
    """As `transformers` converts a SentencePiece model, but without the characters outside ASCII."""

    def change(spec):
        strip = {"type": "Strip", "strip_left": False, "strip_right": True}
        spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}
        words = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
        spec["normalizer"] = {"type": "Sequence", "normalizers": [strip, spaces]}
        spec["pre_tokenizer"] = words
        spec["decoder"] = {"type": "Sequence", "decoders": [words, {"type": "ByteFallback"}]}
        vocabulary = spec["model"]["vocab"]
        kept = [piece for piece in vocabulary if len(piece[0]) > 1 or piece[0].isascii() or piece[0] == "▁"]
        spec["model"]["vocab"] = [*kept[:3], *([byte, -20.0] for byte in BYTES), *kept[3:]]
        spec["model"]["byte_fallback"] = True
        spec["added_tokens"] = spec["added_tokens"][:3]

    return reloaded(t5(), change)


def with_words(*steps, normalizer=None):
    """A byte-level tokenizer with other pre-tokenizers."""
    tokenizer = byte_pairs(["<s>", "<pad>", "</s>"])
    tokenizer.normalizer = normalizer
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, last])
    return framed(tokenizer, "<s>", "</s>", "<s> $A </s> $B")


def added_tokens(tokenizer):
    return tokenizer.get_added_tokens_decoder().values()


def with_added_tokens(tokenizer, seed):
    """Adds tokens with random options, and returns the tokenizer with texts of their parts."""
    rng = random.Random(seed)
    contents = ["<a>", "ab", "bé", " x", "▁y", "foo bar", "\n\n", "é1", "_z", "👍", "<ab>", "a"]
    takes_right = seed % 2 > 0 and not any(token.content[0].isspace() for token in added_tokens(tokenizer))
    usable = [each for each in contents if not (takes_right and each[0].isspace())]
    for content in rng.sample(usable, 6):
        flags = {name: rng.random() < 0.4 for name in ("single_word", "lstrip", "rstrip", "normalized", "special")}
        flags["rstrip"] = flags["rstrip"] and takes_right
        tokenizer.add_tokens([added(content, **flags)])
    parts = [*contents, *"abé  __1\u0301\n\txy▁-日z\u200d\u00a0", "foo", "bar", "👍🏽", "B", "É"]
    texts = ["".join(rng.choice(parts) for _ in range(rng.randint(0, 9))) for _ in range(1_000)]
    return reloaded(tokenizer), texts
