"""The encoder-decoder scores of the Transformer recipe's model."""

import numpy as np
import pytest
from keras import ops

from keras_attn import PreNorm, models

NUM_LAYERS, NUM_HEADS, SIZE = 3, 2, 10
SOURCE = np.array([[4, 9, 6, 2, 0], [5, 7, 2, 0, 0], [8, 8, 4, 10, 2]])
TARGET = np.array([[1, 5, 7], [1, 4, 0], [1, 6, 6]])


@pytest.fixture(scope="module")
def model():
    return models.Transformer(
        11, 13, num_layers=NUM_LAYERS, size=SIZE, num_heads=NUM_HEADS, hidden_size=17, residual=PreNorm()
    )


@pytest.fixture(scope="module")
def scores(model):
    return ops.convert_to_numpy(model.attention_scores(SOURCE, TARGET))  # [B, N, H, T, S]


def test_every_block_and_head_has_its_scores(scores):
    assert scores.shape == (3, NUM_LAYERS, NUM_HEADS, 3, 5)
    assert np.ptp(scores, axis=(1, 2)).max() > 1e-3


def test_rows_sum_to_one_and_padding_has_none(scores):
    reads = np.broadcast_to((TARGET != 0)[:, None, None], scores.shape[:-1])
    np.testing.assert_allclose(scores.sum(axis=-1), reads, atol=1e-6)
    read = reads[..., None] & (SOURCE != 0)[:, None, None, None]
    assert (scores[read] > 0).all() and not scores[~read].any()


def test_later_target_ids_change_nothing(model, scores):
    changed = np.array(model.attention_scores(SOURCE, np.where(np.arange(3) < 2, TARGET, 9)))
    np.testing.assert_allclose(changed[..., :2, :], scores[..., :2, :], atol=1e-6)


def test_the_first_block_attends_as_its_equation_says(model, scores):
    memory, _ = model.encode(SOURCE)
    block = model.get_layer("decoder").blocks[0]
    stream = model.get_layer("target_position")(model.get_layer("target_embedding")(TARGET) * SIZE**0.5)
    stream += block.attention(block.norms[0](stream), mask=TARGET != 0)
    attention = block.memory_attention
    query = _dense(attention.query_projection, block.norms[1](stream))  # [B, T, D]
    key = _dense(attention.memory_projection, memory)[..., :SIZE]  # [B, S, D]
    query, key = (np.reshape(x, (*x.shape[:-1], NUM_HEADS, SIZE // NUM_HEADS)) for x in (query, key))
    logits = np.einsum("bthk,bshk->bhts", query, key) / (SIZE // NUM_HEADS) ** 0.5
    weights = np.exp(logits) * (SOURCE != 0)[:, None, None]
    expected = weights / weights.sum(axis=-1, keepdims=True) * (TARGET != 0)[:, None, :, None]
    np.testing.assert_allclose(scores[:, 0], expected, atol=1e-5)


def _dense(layer, inputs):
    kernel, bias = (np.array(weight, "float64") for weight in layer.get_weights())
    return np.array(inputs, "float64") @ kernel + bias
