"""Texts of many scripts and what is odd in them, and tokenizers of the `tokenizers` package trained on some of them."""

import base64
import io
import json
import pathlib
import random

import numpy as np
import pytest

import keras_attn

pytest.importorskip("tensorflow", reason="tokenizers are TensorFlow graphs")
pytest.importorskip("tensorflow_text", reason="the graphs use TensorFlow Text")
tokenizers = pytest.importorskip("tokenizers", reason="the reference of every tokenizer.json")
decoders, models, normalizers = tokenizers.decoders, tokenizers.models, tokenizers.normalizers
pre_tokenizers, processors, trainers = tokenizers.pre_tokenizers, tokenizers.processors, tokenizers.trainers

ODD = [
    "Hello  world", " a", "\n\n  b\t\tc ", "don't we'll I'm they've 'S 'ſ DON'T", "naïve café – “quotes”",
    "日本語テキスト 漢字", "😀👩‍👩‍👧 emoji", "١٢٣ arabic عربى", "x = {'a': 1}  # c", "\u00a0nbsp\u3000wide",
    "tab\tend   ", "", "   ", "e\u0301 combining", "Ωmega ß ſ ΣΑΣ İstanbul", "\r\n\r\nwin", "zero\u200bwidth",
    "a" * 300, "1 234,567.89%", "한국어 각", "\0nul\x01\x7f", "[CLS] [MASK]", "<s> </s><mask> <pad>",
    "playing football unbelievable internationalization", "ﬁne ①② ｆｕｌｌ", "\ufeffbom\ufffe\uffff", "ไทยแลนด์",
    "हिन्दी में", "русский ЯЗЫК Ёлка", "tést\u0301\u0302ing a\u0327\u0301\u0345", "🇨🇭🏳️‍🌈 1️⃣ ©️", "##ing ## #a",
    "...?!—…", "<|endoftext|>    [PAD]", "𝔘𝔫𝔦 𝟙𝟚", "\u0600a\u0601 \u0344\u0316", "ｆ\u0301ｆ\u0301\u0302 ㎏\u0301",
    "\x18\x16\u0322 lead", "각\u11a8 각", "\U000e0001 \ud7a3", "a\r\nb", "||| |||IP|||  x",
]  # fmt: skip
BLOCKS = [
    (32, 127), (0, 32), (0x80, 0x250), (0x300, 0x370), (0x370, 0x600), (0x600, 0x700), (0x900, 0xE00),
    (0xE00, 0x1000), (0x1100, 0x1200), (0x1E00, 0x2100), (0x2100, 0x2C00), (0x3000, 0x3100), (0x4E00, 0xA000),
    (0xAC00, 0xD7A4), (0xE000, 0xE100), (0xF900, 0x10000), (0x10000, 0x20000), (0x20000, 0x30000),
    (0x1D100, 0x1D200), (0x1F300, 0x1FA00), (0xE0000, 0xE0200),
]  # fmt: skip
SEED = 7
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace("{1,3}", "")


def sources():
    """Files of the package, for their English words."""
    paths = sorted(pathlib.Path(keras_attn.__file__).parent.glob("[a-d]*/*.py"))[:40]
    return [path.read_text("utf-8") for path in paths]


def make_texts():
    """10,000 texts."""
    rng = random.Random(SEED)
    words = " ".join(sources()).split()

    def joined():
        return "".join(rng.choice(ODD) + rng.choice(["", " "]) for _ in range(rng.randint(1, 5)))

    def mixed():
        block, found = rng.choice(BLOCKS), []
        for _ in range(rng.randint(0, 40)):
            block = rng.choice(BLOCKS) if rng.random() < 0.15 else block
            found.append(" " if rng.random() < 0.15 else chr(rng.randrange(*block)))
        return "".join(found).encode("utf-8", "replace").decode()

    def plain():
        return " ".join(rng.choice(words) for _ in range(rng.randint(1, 40)))

    long = ["x" * 5000, "word " * 1000, "é" * 1000, "。" * 500, *("a" * n for n in range(60)), "ab" * 99]
    rest = 10_000 - len(ODD) - len(long)
    makers = [joined, mixed, mixed, plain]
    return [*ODD, *long, *(makers[index % 4]() for index in range(rest))]


TEXTS = make_texts()
CORPUS = [*sources(), *ODD] * 2


def charsmap():
    """The normalization rules `nmt_nfkc` of SentencePiece."""
    sentencepiece = pytest.importorskip("sentencepiece")
    from sentencepiece import sentencepiece_model_pb2

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat"] * 5), model_writer=model, vocab_size=17,
        hard_vocab_limit=False, minloglevel=2, normalization_rule_name="nmt_nfkc",
    )  # fmt: skip
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    return base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()


def framed(tokenizer, start, end, pair):
    """Adds the template of one text and of two."""
    special = [(token, tokenizer.token_to_id(token)) for token in (start, end)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", pair=pair, special_tokens=special
    )
    return tokenizer


def bert(lowercase, strip_accents=None):
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=lowercase)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=1500, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return framed(tokenizer, "[CLS]", "[SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")


def byte_pairs(special, **options):
    """A byte-level tokenizer; the last special token takes the spaces to its left."""
    tokenizer = tokenizers.Tokenizer(models.BPE(**options))
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([tokenizers.AddedToken(special[-1], lstrip=True, normalized=False, special=True)])
    return tokenizer


def roberta(add_prefix_space):
    tokenizer = byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, add_prefix_space)
    return tokenizer


def modern_bert():
    tokenizer = byte_pairs(["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"])
    tokenizer.normalizer = normalizers.NFC()
    spaces = [tokenizers.AddedToken(" " * size, normalized=True) for size in range(2, 25)]
    tokenizer.add_tokens([*spaces, tokenizers.AddedToken("|||IP|||", normalized=True)])
    tokenizer.add_tokens([tokenizers.AddedToken("lead", rstrip=False, lstrip=True, normalized=False)])
    return framed(tokenizer, "[CLS]", "[SEP]", "[CLS] $A [SEP] $B [SEP]")


def llama3():
    """Its pattern, and whole words that no merges make."""
    tokenizer = byte_pairs(["<s>", "<pad>", "</s>"], ignore_merges=True)
    pattern = tokenizers.Regex(LLAMA3)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    spec = json.loads(framed(tokenizer, "<s>", "</s>", "<s> $A </s> $B </s>").to_str())
    vocabulary = spec["model"]["vocab"]
    vocabulary |= {"Ġunbelievable": 2003, "Ġfootball": 2001}
    return tokenizers.Tokenizer.from_str(json.dumps(spec))


def qwen():
    tokenizer = byte_pairs(["<s>", "<pad>", "</s>"])
    tokenizer.normalizer = normalizers.NFC()
    pattern = tokenizers.Regex(QWEN)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    framed(tokenizer, "<s>", "</s>", "<s> $A </s> $B </s>")
    steps = [processors.ByteLevel(trim_offsets=True, add_prefix_space=False), tokenizer.post_processor]
    tokenizer.post_processor = processors.Sequence(steps)
    return tokenizer


def unigram(normalizer, pre_tokenizer, prepend_scheme="always"):
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=prepend_scheme)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=2000, special_tokens=special, unk_token="<unk>", show_progress=False
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True, normalized=False, special=True)])
    return framed(tokenizer, "<s>", "</s>", "<s> $A </s> </s> $B </s>")


def xlm_roberta():
    words = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    return unigram(normalizers.Precompiled(base64.b64decode(charsmap())), words)


def marian_like():
    rules = normalizers.Precompiled(base64.b64decode(charsmap()))
    spaces = normalizers.Replace(tokenizers.Regex(" {2,}"), " ")
    steps = normalizers.Sequence([rules, normalizers.Strip(left=False, right=True), spaces])
    return unigram(steps, pre_tokenizers.Metaspace(prepend_scheme="first"))


def albert_like():
    steps = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Strip(), normalizers.Prepend("▁")]
    words = pre_tokenizers.Metaspace(prepend_scheme="never")
    return unigram(normalizers.Sequence(steps), words, prepend_scheme="never")


def composed():
    steps = [normalizers.Replace("—", "--"), normalizers.NFKC(), normalizers.Lowercase()]
    return unigram(normalizers.Sequence(steps), pre_tokenizers.Metaspace())


def check_equal(ours, theirs, texts, batch_size=500):
    """Asserts that ids, offsets and decoded texts are those of the `tokenizers` package."""
    theirs.no_padding()
    theirs.no_truncation()
    different = []
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        found = [each.numpy() for each in ours.tokenize_with_offsets(batch)]
        for text, row in zip(batch, zip(*found, strict=True), strict=True):
            expected = theirs.encode(text)
            size = len(expected.ids)
            ids, offsets = row[0].tolist(), list(zip(row[1].tolist(), row[2].tolist(), strict=True))
            padded = ids[size:] == [ours.special_ids.filler] * (len(ids) - size)
            if (ids[:size], offsets[:size], padded) != (expected.ids, expected.offsets, True):
                different.append((text, expected.tokens, expected.offsets, ids[:size], offsets[:size]))
    assert not different, f"{len(different)} differ, one is {str(different[0])[:700]}"


def check_decoding(ours, theirs):
    """Asserts that random ids decode to the texts of the `tokenizers` package, ids without a token among them."""
    ids = np.random.default_rng(SEED).integers(0, ours.vocabulary_size + 3, [700, 23])
    decoded = [text.decode() for text in ours.detokenize(ids).numpy()]
    assert decoded == theirs.decode_batch(ids.tolist())


def every_code_point(step=1):
    """Texts with every code point between letters, before a space, and after one with marks behind."""
    each = [
        f"a{character}b {character}\u0301\u0302"
        for code in range(0, 0x110000, step)
        if not 0xD800 <= code < 0xE000
        for character in (chr(code),)
    ]
    return ["".join(each[start : start + 64]) for start in range(0, len(each), 64)]
