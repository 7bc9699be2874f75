"""What models declare, which defaults stand for the rest, and what a claim gets that does not hold."""

import types

import numpy as np
import pytest
from keras import ops

import keras_attn as ka
from keras_attn import decoding, models
from keras_attn.base.special_ids import SpecialIds
from keras_attn.decoding import ModelFacts, facts_of

SIZES = {"num_layers": 1, "size": 6, "num_heads": 2, "hidden_size": 5}


class Counting:
    """A user's plain object: the likeliest token is the next integer."""

    def init_state(self, source, max_length):
        return ops.cast(source, "int32")

    def step(self, tokens, state, index):
        return 9.0 * ops.one_hot(tokens + 1, 7), state


class Continuing(Counting):
    """The same, going on from the last id of its source, and declaring what it is."""

    vocabulary_size = source_vocabulary_size = 7
    max_length = source_max_length = 5
    reads_prompts = True
    special_ids = SpecialIds(padding=0, start=1, end=6, unknown=5)

    def first_tokens(self, source, start_id):
        return ops.cast(ops.max(source, axis=-1), "int32")


def with_facts(**facts):
    """A model that decodes and has more attributes."""
    model = Counting()
    for name, value in facts.items():
        setattr(model, name, value)
    return model


def tokens_of(model, source, **named):
    return ops.convert_to_numpy(decoding.generate(model, np.array(source), **named).tokens)[:, 0].tolist()


def test_plain_objects_have_the_defaults():
    assert facts_of(Counting()) == ModelFacts(None, None, None, None, SpecialIds(), False, False)
    assert tokens_of(Counting(), [[0]], end_id=4, max_length=5) == [[2, 3, 4, 0, 0]]


def test_declared_facts_are_taken():
    assert facts_of(Continuing()) == ModelFacts(7, 7, 5, 5, Continuing.special_ids, True, False)


def test_first_tokens_alone_declare_prompts_and_may_be_taken_back():
    first = lambda source, start_id: source[:, 0]  # noqa: E731
    assert facts_of(with_facts(first_tokens=first)).reads_prompts
    model = with_facts(first_tokens=first, reads_prompts=False)
    assert not facts_of(model).reads_prompts
    assert tokens_of(model, [[4]], max_length=2) == [[2, 0]]  # from the start id


def test_extend_is_seen():
    assert facts_of(with_facts(extend=lambda tokens, state, index, lengths=None: None)).extends


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: models.Transformer(11, 13, **SIZES), (13, 11, None, None, False)),
        (lambda: models.Transformer(11, 13, **SIZES, position=ka.Learned(17)), (13, 11, 17, 17, False)),
        (lambda: models.RNNSeq2Seq(11, 13, size=5), (13, 11, None, None, False)),
        (lambda: models.CausalTransformer(13, **SIZES), (13, 13, None, None, True)),
        (lambda: models.CausalTransformer(13, **SIZES, position=ka.Learned(17)), (13, 13, 17, 17, True)),
    ],
)
def test_recipes_declare_all_facts(make, wanted):
    facts = facts_of(make())
    mine = facts.vocabulary_size, facts.source_vocabulary_size, facts.max_length, facts.source_max_length
    assert (*mine, facts.reads_prompts) == wanted
    assert facts.special_ids == SpecialIds()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"reads_prompts": True},
            r"`Counting` must have the method `first_tokens\(source, start_id\)`, as it declares",
        ),
        ({"reads_prompts": 1}, "`Counting.reads_prompts` must be True or False. Received: 1"),
        ({"first_tokens": 5}, "`Counting.first_tokens` must be a method. Received: 5"),
        ({"extend": "no"}, "`Counting.extend` must be a method. Received: 'no'"),
        ({"max_length": 7.5}, "`Counting.max_length` must be an integer of at least 1. Received: .*7.5"),
        ({"source_max_length": 0}, "`Counting.source_max_length` must be an integer of at least 1"),
        ({"vocabulary_size": "many"}, "`Counting.vocabulary_size` must be an integer"),
        ({"source_vocabulary_size": True}, "`Counting.source_vocabulary_size` must be an integer"),
        (
            {"special_ids": (0, 1, 2, 3)},
            r"`Counting.special_ids` must be `SpecialIds\(...\)`. Received: \(0, 1, 2, 3\)",
        ),
    ],
)
def test_false_claims_are_named(facts, message):
    with pytest.raises(ValueError, match=message):
        decoding.generate(with_facts(**facts), np.array([[3]]), max_length=3)


def test_a_model_must_have_steps():
    model = types.SimpleNamespace(init_state=lambda source, max_length: ())
    with pytest.raises(ValueError, match=r"`model` must have `init_state\(source, max_length\)` and `step\(tokens"):
        decoding.generate(model, np.array([[3]]))


def test_declared_sizes_are_held():
    """Of five positions a prompt of n ids leaves 6 - n tokens: its last id is read beside the first of them."""
    model = Continuing()
    assert tokens_of(model, [[2, 0, 0]], max_length=5) == [[3, 4, 5, 6, 0]]
    assert tokens_of(model, [[1, 2, 3]], max_length=3) == [[4, 5, 6]]
    for source, length, most in (([[1, 2, 3]], 4, 3), ([[1]], 6, 5), ([[1, 0, 0, 0, 0, 0]], 1, 5)):
        message = f"`max_length` must be at most {most} and `source` at most . ids wide: the model has 5 positions"
        with pytest.raises(ValueError, match=message):
            tokens_of(model, source, max_length=length)
    with pytest.raises(ValueError, match="`max_length` must be at most the 3 positions .* Received: max_length=4"):
        tokens_of(with_facts(max_length=3), [[1]], max_length=4)
    with pytest.raises(ValueError, match=r"`source` must have at most the 2 positions .*source.shape=\(1, 3\)"):
        tokens_of(with_facts(source_max_length=2), [[1, 2, 3]], max_length=1)
    with pytest.raises(ValueError, match="`end_id` must be less than the 7 ids of the model"):
        tokens_of(model, [[1]], max_length=1, end_id=7)


def test_one_rule_says_how_long_a_source_may_be():
    facts = facts_of(Continuing())
    assert [facts.longest_source(length) for length in (1, 3, 5)] == [5, 3, 1]
    assert ModelFacts(source_max_length=4, max_length=3).longest_source(3) == 4
    assert ModelFacts().longest_source(3) is None
