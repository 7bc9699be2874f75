"""What is left out or cut on the way into memory, and that it is counted."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attn import data, text

pytestmark = pytest.mark.tensorflow

IDS = data.Ids(10)
GIVEN = [
    ([4, 5], [6]),
    ([4] * 7, [5]),
    ([4], [5] * 6),
    ([], [5]),
    ([4], []),
    ([4, 10], [5]),
    ([4], [2]),
    ([4, -1], [5]),
]
BAD = {
    "empty source": 1,
    "source ids outside 3 ... 9": 2,
    "empty target": 1,
    "target ids outside 3 ... 9": 1,
}


def as_lists(pairs):
    return [tuple(ids.tolist() for ids in pair) for pair in pairs]


def test_longer_pairs_are_left_out():
    pairs = data.encode(GIVEN, IDS, IDS, data.DropLonger(source_length=7, target_length=6), verbose=0)
    assert as_lists(pairs) == [([4, 5, 2], [6, 2])]
    longer = {"source of more than 7 positions": 1, "target of more than 6 positions": 1}
    assert pairs.report.dropped == {**BAD, **longer}
    assert "pair 6, source ids outside 3 ... 9: [4, 10] -> [5]" in pairs.report.examples
    assert (pairs.report.num_read, pairs.report.num_kept, pairs.report.num_dropped) == (8, 1, 7)


def test_the_end_id_counts():
    pairs = data.encode(GIVEN[:3], IDS, IDS, data.DropLonger(source_length=8, target_length=7), verbose=0)
    assert len(pairs) == 3


def test_longer_pairs_are_cut(capsys):
    pairs = data.encode(GIVEN, IDS, IDS, data.CutLonger(source_length=4, target_length=3))
    assert as_lists(pairs) == [([4, 5, 2], [6, 2]), ([4, 4, 4, 2], [5, 2]), ([4, 2], [5, 5, 2])]
    assert (pairs.report.dropped, pairs.report.num_cut) == (BAD, 2)
    assert "2 of those kept were cut" in capsys.readouterr().out


def test_nothing_is_printed_where_nothing_was_left_out(capsys):
    data.encode(GIVEN[:1], IDS, IDS)
    assert capsys.readouterr().out == ""


def test_unknown_ids_are_counted():
    pairs = data.encode([("abx", "one six"), ("b", "one")], text.Characters("ab"), text.Words(["one"]))
    assert pairs.report.num_unknown == 2
    assert "2 unknown ids among those kept" in str(pairs.report)


def test_long_examples_are_shortened_and_five_of_a_reason_are_kept():
    report = data.Report()
    for number in range(1, 9):
        report.drop("too odd", number, "x" * 100)
    assert report.dropped == {"too odd": 8}
    assert report.examples == [f"pair {number}, too odd: {'x' * 60}..." for number in range(1, 6)]


def test_pairs_hold_flat_int32_arrays():
    pairs = data.encode(GIVEN[:2], IDS, IDS)
    np.testing.assert_array_equal(pairs.source.values, np.array([4, 5, 2, *[4] * 7, 2], "int32"))
    assert pairs.source.values.dtype == np.int32
    np.testing.assert_array_equal(pairs.lengths, [[3, 2], [8, 2]])


def test_bad_limits_are_named():
    with pytest.raises(ValueError, match="`source_length` must be an integer of at least 1. Received: source_length=0"):
        data.DropLonger(source_length=0)
    with pytest.raises(ValueError, match=r"`limit` must be `DropLonger\(...\)` or `CutLonger\(...\)`. .*limit=7"):
        data.encode(GIVEN, IDS, IDS, limit=7)
    assert data.CutLonger.from_config(data.CutLonger(5).get_config()) == data.CutLonger(5)


LETTERS, WORDS = text.Characters("ab"), text.Words(["one", "two"])


@pytest.mark.parametrize("kind", ["python", "dataset"])
def test_broken_and_blank_texts_are_left_out_wherever_they_come_from(kind, capsys):
    given = [(b"ab", b"one"), (b"a\xff", b"one"), (b"b", b"\xfe"), (b"a", b" \t"), (" \u3000".encode(), b"two")]
    sides = tuple(list(side) for side in zip(*given, strict=True))
    pairs = data.encode(given if kind == "python" else tf.data.Dataset.from_tensor_slices(sides), LETTERS, WORDS)
    assert as_lists(pairs) == [([4, 5, 2], [4, 2])]
    assert pairs.report.dropped == {
        "source not UTF-8": 1,
        "empty source": 1,
        "target not UTF-8": 1,
        "empty target": 1,
    }
    assert "pair 2, source not UTF-8" in capsys.readouterr().out


def test_unknown_ids_are_told(capsys):
    data.encode([("zzz", "three")], LETTERS, WORDS)
    assert "4 unknown ids among those kept" in capsys.readouterr().out


def test_what_serving_would_cut_is_too_long():
    short = text.Characters("ab", max_length=4)
    given = [("aba", "one"), ("abab", "one")]
    pairs = data.encode(given, short, WORDS, verbose=0)
    assert pairs.report.dropped == {"source of more than 4 positions": 1} and len(pairs) == 1
    pairs = data.encode(given, short, WORDS, data.CutLonger(source_length=7), verbose=0)
    assert pairs.source[1].tolist() == short.tokenize(["abab"])[0].numpy().tolist() == [4, 5, 4, 2]
    assert pairs.report.num_cut == 1 and pairs.cut.tolist() == [False, True]


def test_nothing_is_cut_to_its_end_id_alone():
    for name in ("source_length", "target_length"):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 2. Received: {name}=1"):
            data.CutLonger(**{name: 1})


def test_the_report_of_batches_is_of_what_they_hold(capsys):
    given = [([4], [5]), ([4] * 7, [5]), ([3, 3, 3], [5])]
    pairs = data.encode(given, IDS, IDS, data.CutLonger(source_length=5), verbose=0)
    assert (pairs.report.num_kept, pairs.report.num_cut, pairs.report.num_unknown) == (3, 1, 3)
    report = data.Batches(pairs, data.Packed(3, 3, 1)).report
    assert (report.num_kept, report.num_cut, report.num_unknown) == (1, 0, 0)
    assert "1 kept" in capsys.readouterr().out
