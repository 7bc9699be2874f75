"""Heat maps of a model's attention to two texts."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import models, plot, text

from .drawing import labels, panels

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("kind", ["rnn", "transformer"])
def test_texts_are_drawn_with_their_tokens(kind):
    letters, words = text.Characters("abcde"), text.Words(["one", "two"])
    sizes = letters.vocabulary_size, words.vocabulary_size
    if kind == "rnn":
        model = models.RNNSeq2Seq(*sizes, size=5)
    else:
        model = models.Transformer(*sizes, num_layers=2, size=6, num_heads=3, hidden_size=7)
    (panel,) = panels(figure := plot.text_attention(model, "dab?", "two one", letters, words))
    source, target = np.array([[7, 4, 5, 3, 2]]), np.array([[1, 5, 4]])
    scores = ops.convert_to_numpy(model.attention_scores(source, target))[0]
    wanted = scores if kind == "rnn" else scores[1].mean(axis=0)
    np.testing.assert_allclose(panel.images[0].get_array(), wanted, atol=1e-6)
    assert labels(panel.xaxis) == ["d", "a", "b", "\ufffd", "end"] and labels(panel.yaxis) == ["two", "one", "end"]
    assert figure.get_suptitle() == "dab?: two one"
    with pytest.raises(ValueError, match=r"`model` must have `attention_scores\(source, target\)`. Received: a Seq"):
        plot.text_attention(keras.Sequential(), "a", "one", letters, words)
