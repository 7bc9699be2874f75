"""Lengths and shares of padding, of pairs, of batches and of any dataset like them."""

import pytest

from keras_attn import data

pytestmark = pytest.mark.tensorflow

PAIRS = [([4] * s, [5] * t) for s, t in [(1, 4), (2, 1), (3, 1), (5, 1)]]


@pytest.fixture
def pairs():
    return data.encode(PAIRS, data.Ids(9), data.Ids(9))


def test_lengths_by_hand(pairs, capsys):
    figures = data.stats(pairs)
    assert figures.source == pytest.approx((2, 3.5, 3.75, 5.94, 6))
    assert figures.target == pytest.approx((2, 2, 2.75, 4.91, 5))
    assert (figures.num_pairs, figures.num_batches, figures.padding) == (4, None, None)
    assert capsys.readouterr().out == f"{figures}\n"
    assert "padding" not in str(figures)


@pytest.mark.parametrize(
    ("layout", "padding"),
    [
        (data.Packed(8, 8, 1), (1 - 15 / 16, 1 - 11 / 16, 1 - 26 / 32)),
        (data.Packed(8, 8, 4), (1 - 15 / 32, 1 - 11 / 32, 1 - 26 / 64)),
        (data.Padded(2), None),
        (data.Padded(4), (1 - 15 / 24, 1 - 11 / 20, 1 - 26 / 44)),
        (data.Bucketed((6,), 12), (1 - 15 / 24, 1 - 11 / 24, 1 - 26 / 48)),
    ],
    ids=str,
)
def test_padding_by_hand(layout, padding, pairs):
    batches = data.Batches(pairs, layout)
    figures = data.stats(batches)
    if padding is not None:
        assert (figures.source_padding, figures.target_padding, figures.padding) == pytest.approx(padding)
    assert figures[:3] == data.stats(pairs)[:3]
    assert figures.num_batches == len(batches)
    assert data.stats(batches.epoch(0)) == figures
    assert f"{figures.padding:.1%} padding" in str(figures)


def test_no_batches():
    with pytest.raises(ValueError, match="`batches` must hold at least one pair"):
        data.stats([])
