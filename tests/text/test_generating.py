"""Generation from texts to texts: each text is generated independently of its batch, in the order of the texts."""

import keras
import numpy as np
import pytest

from keras_attn import decoding, models, text

pytestmark = pytest.mark.tensorflow

LETTERS, WORDS = text.Characters("abcdefg"), text.Words(list("ABCDEFGHI"))
TEXTS = ["gabfd", "a", "bag", "", "fade", "be", "a"]


@pytest.fixture(scope="module")
def model():
    """An untrained model with matrices so large that its texts differ."""
    rng = np.random.default_rng(0)
    model = models.Transformer(11, 13, num_layers=1, size=8, num_heads=2, hidden_size=17)
    model.set_weights([rng.normal(size=w.shape) if w.ndim > 1 else w for w in model.get_weights()])
    return model


@pytest.mark.parametrize("strategy", [None, decoding.Beam(width=3)])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_each_text_has_its_own(model, strategy, batch_size):
    options = {"strategy": strategy, "max_length": 6}
    wanted = []
    for each in TEXTS:
        tokens = model.generate(LETTERS.tokenize([each]), **options).tokens
        wanted.append(WORDS.detokenize(tokens[:, 0]).numpy()[0].decode())
    assert text.generate(model, TEXTS, LETTERS, WORDS, batch_size, **options) == wanted
    assert len(set(wanted)) > 2


def test_no_texts_and_texts_that_can_be_read_once(model):
    assert text.generate(model, [], LETTERS, WORDS, max_length=3) == []
    assert len(text.generate(model, iter(["a", "b"]), LETTERS, WORDS, max_length=3)) == 2


def test_one_beginning_for_all(model):
    written = text.generate(model, TEXTS, LETTERS, WORDS, batch_size=3, max_length=4, prefix_ids=[5])
    assert all(each.startswith("B") for each in written)


def test_short_texts_do_not_wait_for_long_ones():
    widths = []

    class Echo:
        def generate(self, source, **named):
            widths.append(source.shape[1])
            return decoding.Generated(keras.ops.zeros((len(source), 1, 1), "int32"), None, None)

    text.generate(Echo(), ["a" * 9, "b", "c" * 8, "d"], LETTERS, WORDS, batch_size=2)
    assert widths == [2, 10]


def test_a_decoder_only_model_goes_on_from_prompts():
    """It reads the start id and the pieces, and no end id, behind which nothing would follow."""
    keras.utils.set_random_seed(4)
    model = models.CausalTransformer(LETTERS.vocabulary_size, num_layers=1, size=8, num_heads=2, hidden_size=17)
    model.set_weights([4 * weight for weight in model.get_weights()])
    wanted = []
    for each in TEXTS:
        prompt = np.array([[1, *(4 + "abcdefg".index(letter) for letter in each)]])
        tokens = model.generate(prompt, max_length=6).tokens
        wanted.append(LETTERS.detokenize(tokens[:, 0]).numpy()[0].decode())
    assert text.generate(model, TEXTS, LETTERS, LETTERS, 3, max_length=6) == wanted
    assert len(set(wanted)) > 2


@pytest.mark.parametrize(
    "change, message",
    [
        ({"texts": "abc"}, "`texts` must be a list of texts. Received: 'abc'"),
        ({"source": None}, "`source` must be a tokenizer. Received: source=None"),
        ({"target": 5}, "`target` must be a tokenizer. Received: target=5"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"return_attention_scores": True}, "`return_attention_scores` must be False: only texts are returned"),
        ({"prefix_ids": [[4], [5]]}, r"`prefix_ids` must be the same for all texts, \[P\]. Received: .*\(2, 1\)"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        text.generate(**{"model": None, "texts": ["a"], "source": LETTERS, "target": WORDS, **change})
