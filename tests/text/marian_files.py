"""The files of a small Marian tokenizer, made with the `sentencepiece` package, and texts with what is odd in them."""

import json
import random

from .pretrained_texts import CORPUS, SEED, TEXTS

LINES = [line for text in CORPUS for line in text.split("\n") if line.strip()]
CODES = [">>fra<<", ">>deu<<", ">><<"]


def trained(folder, name, lines, size, **options):
    """Writes a SentencePiece model and returns its pieces."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(folder / name), vocab_size=size, hard_vocab_limit=False,
        minloglevel=2, **{"normalization_rule_name": "nmt_nfkc", **options},
    )  # fmt: skip
    (folder / f"{name}.model").rename(folder / f"{name}.spm")
    (folder / f"{name}.vocab").unlink()
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.spm"))
    return [model.id_to_piece(number) for number in range(len(model))]


def vocabulary(pieces, seed=SEED):
    """Ids of most pieces, of language codes and of a character that no model has."""
    rng = random.Random(seed)
    usual = [piece for piece in dict.fromkeys(pieces) if piece not in ("<s>", "</s>", "<unk>")]
    tokens = ["</s>", "<unk>", "<pad>", *(piece for piece in usual if rng.random() < 0.95), *CODES, "\U00013000"]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def write(folder, separate=False):
    """Writes the files of a tokenizer, one vocabulary for both languages, or two."""
    source = trained(folder, "source", LINES, 1200)
    target = trained(folder, "target", [line[::-1] for line in LINES], 900, model_type="bpe")
    vocabularies = {"vocab.json": source if separate else [*source, *target]}
    if separate:
        vocabularies["target_vocab.json"] = target
    for name, pieces in vocabularies.items():
        (folder / name).write_text(json.dumps(vocabulary(pieces)), "utf-8")


def texts():
    """13,000 texts, many with codes and special tokens."""
    rng = random.Random(SEED)
    parts = [*CODES, ">>fra<< ", ">>xx<<", ">>", "<<", "</s>", "<unk>", "<pad>", " ", "hello", "日", "the cat", "\n"]
    parts += [">>fra<<x", "<s>", ">> a\nb <<", "\U00013000", "  ", "))))", "\u3000"]
    return [*TEXTS, *("".join(rng.choice(parts) for _ in range(rng.randint(0, 6))) for _ in range(3_000))]
