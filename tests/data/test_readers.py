"""Where pairs come from: files, iterables, datasets; what is broken is counted and named."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attn import data, text

pytestmark = pytest.mark.tensorflow

LETTERS, WORDS = text.Characters("abcd"), text.Words(["one", "two", "three"])
PAIRS = [("ab", "one"), ("dcba", "three two one"), ("c", "two")]
IDS = [([4, 5], [4]), ([7, 6, 5, 4], [6, 5, 4]), ([6], [5])]


def as_lists(pairs):
    return [tuple(ids.tolist() for ids in pair) for pair in pairs]


EXPECTED = [([*source, 2], [*target, 2]) for source, target in IDS]


@pytest.mark.parametrize(
    "make",
    [
        lambda: PAIRS,
        lambda: iter(PAIRS),
        lambda: [(source.encode(), target) for source, target in PAIRS],
        lambda: [{"source": source, "target": target} for source, target in PAIRS],
        lambda: tf.data.Dataset.from_tensor_slices(tuple(map(list, zip(*PAIRS)))),
        lambda: tf.data.Dataset.from_tensor_slices(dict(zip(("source", "target"), map(list, zip(*PAIRS))))),
    ],
    ids=["list", "iterator", "bytes", "dicts", "dataset", "dataset of dicts"],
)
def test_texts_from_everywhere(make):
    pairs = data.encode(make(), LETTERS, WORDS)
    assert as_lists(pairs) == EXPECTED
    assert (pairs.report.num_read, pairs.report.num_kept, pairs.report.dropped) == (3, 3, {})


def id_dataset(shape, dtype):
    spec = tf.TensorSpec(shape, dtype)
    return tf.data.Dataset.from_generator(lambda: iter(IDS), output_signature=(spec, spec))


@pytest.mark.parametrize(
    "make",
    [
        lambda: IDS,
        lambda: [tuple(np.array(ids, "uint8") for ids in pair) for pair in IDS],
        lambda: id_dataset([None], "int32"),
        lambda: id_dataset([None], "int64"),
    ],
    ids=["list", "arrays", "int32", "int64"],
)
def test_ids_from_everywhere(make):
    assert as_lists(data.encode(make(), data.Ids(8), data.Ids(7))) == EXPECTED


def test_ids_of_one_length():
    dataset = tf.data.Dataset.from_tensors((tf.constant([4, 5]), tf.constant([6])))
    assert as_lists(data.encode(dataset, data.Ids(8), data.Ids(8))) == [([4, 5, 2], [6, 2])]


def test_texts_on_one_side_and_ids_on_the_other():
    pairs = data.encode([("ab", [9]), ("c", "one")], LETTERS, data.Ids(10), verbose=0)
    assert as_lists(pairs) == [([4, 5, 2], [9, 2])]
    assert pairs.report.dropped == {"not a pair": 1}


def test_many_chunks_keep_their_order():
    given = [([4 + i % 7] * (1 + i % 5), [4 + i % 3]) for i in range(5003)]
    assert as_lists(data.encode(given, data.Ids(20), data.Ids(20))) == [([*s, 2], [*t, 2]) for s, t in given]


def test_what_is_no_pair_is_counted_with_its_number(capsys):
    items = [
        ("ab", "one"),
        ("ab",),
        ("a", None),
        None,
        ("a", 3),
        ("a", "b", "c"),
        "ab",
        {"source": "a"},
        ("\ud800", "b"),
    ]
    pairs = data.encode(items, LETTERS, WORDS)
    assert pairs.report.dropped == {"not a pair": 8}
    assert pairs.report.examples == [
        "pair 2, not a pair: ('ab',)",
        "pair 3, not a pair: ('a', None)",
        "pair 4, not a pair: None",
        "pair 5, not a pair: ('a', 3)",
        "pair 6, not a pair: ('a', 'b', 'c')",
    ]
    assert capsys.readouterr().out == f"{pairs.report}\n"
    not_ids = [([4], [5]), ([4], "5"), ([4.5], [5]), ([[4]], [5]), (4, [5]), ([[4], [5, 6]], [7])]
    assert data.encode(not_ids, data.Ids(9), data.Ids(9), verbose=0).report.dropped == {"not a pair": 5}


def write(path, content):
    path.write_bytes(content)
    return path


def test_broken_lines_are_counted_with_their_number(tmp_path):
    content = b"\xef\xbb\xbfab\tone\r\nno tab\n\nc\ttwo\textra\n\xff\tone\nc\t\nd\ttwo"
    pairs = data.encode(data.Tsv(write(tmp_path / "pairs.tsv", content)), LETTERS, WORDS, verbose=0)
    assert as_lists(pairs) == [([4, 5, 2], [4, 2]), ([7, 2], [5, 2])]
    assert pairs.report.dropped == {"broken line": 4, "empty target": 1}
    assert str(pairs.report).splitlines() == [
        "7 lines read, 2 kept, 5 left out:",
        "         4  broken line",
        "         1  empty target",
        "line 2, broken line: 1 of 2 columns: 'no tab'",
        "line 3, broken line: 1 of 2 columns: ''",
        "line 4, broken line: 3 of 2 columns: 'c\\ttwo\\textra'",
        "line 5, broken line: not UTF-8: b'\\xff\\tone\\n'",
        "line 6, empty target: 'c' -> ''",
    ]


def test_other_columns(tmp_path):
    path = write(tmp_path / "pairs.tsv", b"1\tone\tx\tab\n2\ttwo\ty\tc\n")
    tsv = data.Tsv(path, source_column=3, target_column=1, num_columns=4)
    assert as_lists(data.encode(tsv, LETTERS, WORDS)) == [([4, 5, 2], [4, 2]), ([6, 2], [5, 2])]
    with pytest.raises(ValueError, match=r"`source_column` must be in 0 ... 1. Received: source_column=2"):
        data.Tsv(path, source_column=2)
    with pytest.raises(FileNotFoundError):
        data.encode(data.Tsv(tmp_path / "none.tsv"), LETTERS, WORDS)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ([], "`dataset` must hold at least one pair that can be trained on. Received: 0 pairs read, 0 kept, 0 left"),
        ([("a", "")], "at least one pair that can be trained on. Received: 1 pairs read, 0 kept, 1 left out"),
        ("pairs.tsv", "`dataset` must be a `tf.data.Dataset`, a `Tsv` or an iterable of pairs. Received: str"),
        (7, "`dataset` must be a `tf.data.Dataset`, a `Tsv` or an iterable of pairs. Received: int"),
        (tf.data.Dataset.from_tensor_slices(["a"]), "The elements of `dataset` must be pairs, or have the keys"),
        (tf.data.Dataset.from_tensor_slices({"source": ["a"]}), "the target must be a string scalar. Received: data"),
        (tf.data.Dataset.from_tensor_slices((["a"], [3])), "the target must be a string scalar"),
        (tf.data.Dataset.from_tensors((["a"], ["b"])), "the source must be a string scalar"),
    ],
)
def test_bad_data_sets_are_named(dataset, message):
    with pytest.raises(ValueError, match=message):
        data.encode(dataset, LETTERS, WORDS)


def test_an_empty_dataset_and_ids_of_floats():
    with pytest.raises(ValueError, match="at least one pair"):
        data.encode(tf.data.Dataset.from_tensor_slices((["a"], ["b"])).take(0), LETTERS, WORDS)
    with pytest.raises(ValueError, match=r"the source must be integers \[None\]"):
        data.encode(tf.data.Dataset.from_tensors(([0.5], [4])), data.Ids(9), data.Ids(9))


def test_a_dataset_without_end():
    with pytest.raises(ValueError, match=r"`dataset` must end: leave out `repeat\(\)`"):
        data.encode(tf.data.Dataset.from_tensors(("a", "one")).repeat(), LETTERS, WORDS)


def test_bad_readers_are_named():
    with pytest.raises(ValueError, match="`target` must be a tokenizer or `Ids`. Received: target=9"):
        data.encode(PAIRS, LETTERS, 9)
    with pytest.raises(ValueError, match="`vocabulary_size` must be an integer above 3, .*Received: vocabulary_size=3"):
        data.Ids(3)


def test_ragged_ids_and_eager_strings():
    ragged = tf.ragged.constant([[5, 6], [7]]), tf.ragged.constant([[4], [5, 5, 5]])
    for elements in (ragged, dict(zip(("source", "target"), ragged, strict=True))):
        pairs = data.encode(tf.data.Dataset.from_tensor_slices(elements), data.Ids(9), data.Ids(9))
        assert [ids.tolist() for ids in pairs[1]] == [[7, 2], [5, 5, 5, 2]]
    eager = list(tf.data.Dataset.from_tensor_slices(tuple(map(list, zip(*PAIRS, strict=True)))))
    for given in (eager, np.array(PAIRS)):
        pairs = data.encode(given, LETTERS, WORDS)
        assert pairs.source.values.tolist() == data.encode(PAIRS, LETTERS, WORDS).source.values.tolist()


def test_ids_are_of_32_bits():
    with pytest.raises(ValueError, match=r"`vocabulary_size` must be an integer above 3, at most 2\*\*31"):
        data.Ids(2**31 + 1)


def test_columns_are_two():
    with pytest.raises(ValueError, match="`source_column` must be in 0 ... 1. Received: source_column=0.5"):
        data.Tsv("pairs.tsv", 0.5)
    with pytest.raises(ValueError, match="`target_column` must differ from `source_column`. Received: 0 twice"):
        data.Tsv("pairs.tsv", 0, 0)


def test_a_file_of_texts_is_not_read_as_ids(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("1 2\t3\n")
    with pytest.raises(ValueError, match="A `Tsv` contains texts: `source` and `target` must be tokenizers"):
        data.encode(data.Tsv(path), data.Ids(9), data.Ids(9))
