"""Models and tokenizers with special ids of their own: served as they generate, and refused where they differ."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn import models, serving, text
from keras_attn.base.special_ids import SpecialIds
from keras_attn.serving.endpoints import known, without_filler
from tests.decoding.test_beam import log_softmax

pytestmark = pytest.mark.tensorflow

OWN = SpecialIds(padding=3, start=0, end=2, unknown=1)
L = 5


class OwnCharacters(text.Characters):
    """A tokenizer with other special ids, below its pieces."""

    special_ids = OWN


LETTERS = OwnCharacters("abcdef")
TEXTS = ["fade", "", "cab", "?b"]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    model = models.RNNSeq2Seq(10, 10, size=8, special_ids=OWN)
    model.set_weights([3 * weight for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def signatures(model, tmp_path_factory):
    path = serving.export(model, tmp_path_factory.mktemp("own"), LETTERS, LETTERS, max_length=L)
    loaded = tf.saved_model.load(str(path))
    return {"loaded": loaded, **loaded.signatures}


def test_tokenizers_write_their_own_ids():
    assert LETTERS.tokenize(TEXTS).numpy().tolist() == [
        [9, 4, 7, 8, 2],
        [2, 3, 3, 3, 3],
        [6, 4, 5, 2, 3],
        [1, 5, 2, 3, 3],
    ]
    assert LETTERS.prompt(["ab", ""]).numpy().tolist() == [[0, 4, 5], [0, 3, 3]]
    assert LETTERS.detokenize([[0, 4, 3, 5, 2, 6]]).numpy().tolist() == [b"ab"]


def test_texts_are_served_as_they_are_generated(model, signatures):
    answer = signatures["serving_default"](source=tf.constant(TEXTS))["target"].numpy()
    written = text.generate(model, TEXTS, LETTERS, LETTERS, batch_size=3, max_length=L)
    assert [each.decode() for each in answer] == written and len(set(written)) > 1


def test_ids_are_read_by_the_rules_of_the_models_own(model, signatures):
    source = np.array([[4, 6, 7, 3, 3], [4, 6, 7, 0, 4], [9, 99, 2, 5, 5]], "int32")  # filler, filler, an end
    rows = {"max_length": tf.fill((3,), L), "temperature": tf.zeros((3,))}
    found = signatures["generate"](source=tf.constant(source), **rows)
    meant = np.array([[4, 6, 7, 3, 3], [4, 6, 7, 3, 3], [9, 1, 2, 3, 3]])
    wanted = model.generate(meant, max_length=L)
    np.testing.assert_array_equal(found["tokens"], wanted.tokens)
    behind = np.arange(L) >= found["lengths"].numpy()[..., None]
    assert (found["tokens"].numpy()[behind] == 3).all()


def test_targets_are_scored_from_the_models_start(model, signatures):
    answer = signatures["score"](source=tf.constant(["fade", "b"]), target=tf.constant(["ab", "c"]))
    source, target = LETTERS.tokenize(["fade", "b"]).numpy(), np.array([[4, 5, 2], [6, 2, 3]])
    logits = model({"source": source, "target": np.array([[0, 4, 5], [0, 6, 3]])}).numpy()
    of_target = np.take_along_axis(log_softmax(logits), target[..., None], axis=-1)[..., 0]
    wanted = [of_target[0].sum(), of_target[1, :2].sum()]
    np.testing.assert_allclose(answer["log_probability"], wanted, rtol=1e-4)
    assert answer["target_length"].numpy().tolist() == [3, 2] and answer["source_length"].numpy().tolist() == [5, 2]


def test_filler_by_hand():
    rows = tf.constant([[4, 5, 4, 4], [4, 5, 0, 3], [4, 2, 5, 6], [0, 4, 0, 0]])
    assert without_filler(rows, OWN).numpy().tolist() == [[4, 5, 3, 3], [4, 5, 3, 3], [4, 2, 3, 3], [0, 4, 3, 3]]
    assert known(tf.constant([[-1, 4, 10]]), 10, OWN).numpy().tolist() == [[1, 4, 1]]
    without = SpecialIds(padding=3, start=0, end=2, unknown=None)
    assert known(tf.constant([[-1, 4, 10]]), 10, without).numpy().tolist() == [[3, 4, 3]]


OTHERS = text.Characters("abcdef")
MISMATCH = (
    r"must have the same special ids. Received: model.special_ids=SpecialIds\(padding=3, start=0, end=2, unknown=1\)"
)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((OTHERS, None), rf"`model` and `source_text` {MISMATCH}, source_text.special_ids=SpecialIds\(padding=0"),
        ((LETTERS, OTHERS), rf"`model` and `source_text` and `target_text` {MISMATCH}.*target_text.special_ids=S.*=0"),
    ],
)
def test_export_refuses_tokenizers_with_other_ids(model, tmp_path, texts, message):
    with pytest.raises(ValueError, match=message):
        serving.export(model, tmp_path / "model", *texts)
    assert not list(tmp_path.iterdir())


def test_export_refuses_a_plain_model_that_does_not_declare_them(tmp_path):
    class Steps:
        def init_state(self, source, max_length):
            return ()

        def step(self, tokens, state, index):
            return tf.one_hot(tokens, 10), state

    with pytest.raises(ValueError, match="`model` and `source_text` must have the same special ids"):
        serving.export(Steps(), tmp_path, LETTERS)
    Steps.reads_prompts = True
    with pytest.raises(ValueError, match="`Steps` must have the method `first_tokens"):
        serving.export(Steps(), tmp_path)


def test_a_model_without_padding_is_refused(tmp_path):
    bare = models.RNNSeq2Seq(10, 10, size=4, special_ids=SpecialIds(padding=None, unknown=None))
    with pytest.raises(ValueError, match="`model` must have a padding id to be served"):
        serving.export(bare, tmp_path)


def test_text_to_text_refuses_tokenizers_with_other_ids(model):
    with pytest.raises(ValueError, match=f"`model` and `source` and `target` {MISMATCH}"):
        text.generate(model, TEXTS, LETTERS, OTHERS)
    bare = models.RNNSeq2Seq(10, 10, size=4, special_ids=SpecialIds(padding=None, start=0, end=2, unknown=1))

    class Unpadded(text.Characters):
        special_ids = bare.special_ids

    letters = Unpadded("abcdef")
    with pytest.raises(ValueError, match="`batch_size` must be 1 for a model without a padding id"):
        text.generate(bare, TEXTS, letters, letters)
    assert len(text.generate(bare, ["ab", "c"], letters, letters, batch_size=1, max_length=2)) == 2
