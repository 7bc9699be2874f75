"""`generation_config.json` as a strategy: every setting, and what is refused."""

import pytest

from keras_attn.base.special_ids import SpecialIds
from keras_attn.decoding import (
    BannedFirstTokens,
    BannedSequences,
    BannedTokens,
    Beam,
    BestScoreStop,
    CurrentScoreStop,
    ForcedFirstToken,
    ForcedLastToken,
    Greedy,
    MaxTotalLength,
    MinLength,
    MinTotalLength,
    NoRepeatNGrams,
    PowerPenalty,
    Renormalize,
    RepetitionPenalty,
    Sample,
    WidthStop,
)
from keras_attn.pretrained.generation import Generation, generation_of, generation_settings

MARIAN = SpecialIds(padding=58, start=58, end=0, unknown=1)
GPT2 = SpecialIds(padding=None, start=50, end=50, unknown=None)
CHAT = SpecialIds(padding=43, start=40, end=45, unknown=None, other_ends=(43,))


def translator(**settings):
    return generation_of(settings, MARIAN, reads_prompts=False)


def writer(**settings):
    return generation_of(settings, GPT2, reads_prompts=True)


def test_settings_of_opus_mt():
    """As in the folders of Helsinki-NLP."""
    settings = {
        "_from_model_config": True,
        "bad_words_ids": [[58]],
        "bos_token_id": 0,
        "decoder_start_token_id": 58,
        "eos_token_id": 0,
        "forced_eos_token_id": 0,
        "max_length": 512,
        "num_beams": 4,
        "pad_token_id": 58,
        "renormalize_logits": True,
        "transformers_version": "4.32.0.dev0",
        "use_cache": True,
    }
    processors = [BannedSequences([[58]]), ForcedLastToken(0), Renormalize()]
    strategy = Beam(4, PowerPenalty(1.0), stop=CurrentScoreStop(), processors=processors)
    assert generation_of(settings, MARIAN, False) == Generation(strategy, 511)


def test_settings_of_a_chat_model():
    settings = {
        "bos_token_id": 43,
        "do_sample": True,
        "eos_token_id": [45, 43],
        "pad_token_id": 43,
        "repetition_penalty": 1.05,
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.8,
        "typical_p": 1.0,
        "transformers_version": "4.37.0",
    }
    found = generation_of(settings, CHAT, reads_prompts=True)
    assert found == Generation(Sample(0.7, 20, 0.8, processors=[RepetitionPenalty(1.05)]), None)


@pytest.mark.parametrize(
    ("settings", "strategy"),
    [
        ({}, Greedy()),
        ({"num_beams": None, "temperature": None, "do_sample": None, "length_penalty": None}, Greedy()),
        ({"temperature": 0.5, "top_k": 3, "typical_p": 0.5, "early_stopping": True}, Greedy()),
        ({"do_sample": True}, Sample(1.0, 50)),
        ({"do_sample": True, "top_k": 0, "min_p": 0.1, "num_return_sequences": 3}, Sample(min_p=0.1, num_samples=3)),
        ({"num_beams": 3}, Beam(3, PowerPenalty(1.0), stop=CurrentScoreStop())),
        (
            {"num_beams": 3, "early_stopping": True, "length_penalty": 2, "num_return_sequences": 2},
            Beam(3, PowerPenalty(2), num_return_sequences=2, stop=WidthStop()),
        ),
        (
            {"num_beams": 2, "early_stopping": "never", "length_penalty": -0.5},
            Beam(2, PowerPenalty(-0.5), stop=BestScoreStop()),
        ),
    ],
)
def test_strategies(settings, strategy):
    assert translator(**settings) == Generation(strategy, None)


@pytest.mark.parametrize(
    ("settings", "processors"),
    [
        ({"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0, "suppress_tokens": []}, []),
        ({"repetition_penalty": 0.9}, [RepetitionPenalty(0.9)]),
        ({"no_repeat_ngram_size": 3}, [NoRepeatNGrams(3)]),
        ({"bad_words_ids": [[5], [0], [0, 5]]}, [BannedSequences([[5], [0, 5]])]),  # an end alone is never banned
        ({"bad_words_ids": [[0]]}, []),
        ({"min_length": 4}, [MinTotalLength(4)]),
        ({"min_length": 4, "min_new_tokens": 3}, [MinLength(3)]),
        ({"min_length": 4, "min_new_tokens": 0}, []),
        ({"forced_bos_token_id": 7, "begin_suppress_tokens": [5]}, [ForcedFirstToken(7), BannedFirstTokens([5], 1)]),
        ({"begin_suppress_tokens": [5]}, [BannedFirstTokens([5])]),
        ({"forced_eos_token_id": [0]}, [ForcedLastToken(0)]),
        ({"suppress_tokens": [4, 6]}, [BannedTokens([4, 6])]),
        (
            {"renormalize_logits": True, "suppress_tokens": [4], "no_repeat_ngram_size": 2, "repetition_penalty": 1.5},
            [RepetitionPenalty(1.5), NoRepeatNGrams(2), BannedTokens([4]), Renormalize()],
        ),
    ],
)
def test_processors(settings, processors):
    assert translator(**settings).strategy == Greedy(processors)


def test_lengths():
    """`max_length` counts the start id, or the prompt of each row."""
    assert translator(max_length=20).max_new_tokens == 19
    assert translator(max_length=20, max_new_tokens=7) == Generation(Greedy(), 7)
    assert writer(max_length=20) == Generation(Greedy([MaxTotalLength(20)]), None)
    assert writer(max_length=20, max_new_tokens=7) == Generation(Greedy(), 7)
    assert writer(max_length=20, min_length=5).strategy == Greedy([MaxTotalLength(20), MinTotalLength(5)])


def test_settings_in_config_json():
    config = {"model_type": "gpt2", "n_embd": 8, "do_sample": True, "top_k": 5, "max_length": 50, "eos_token_id": 50}
    assert generation_settings(config) == {"do_sample": True, "top_k": 5, "max_length": 50}
    assert writer(**generation_settings(config)).strategy == Sample(top_k=5, processors=[MaxTotalLength(50)])
    with pytest.raises(ValueError, match="Received: num_beam_groups=2"):
        writer(**generation_settings({**config, "num_beam_groups": 2}))


def test_neutral_values_of_what_is_not_supported():
    neutral = {
        "num_beam_groups": 1,
        "diversity_penalty": 0.0,
        "encoder_repetition_penalty": 1.0,
        "guidance_scale": 1,
        "penalty_alpha": None,
        "sequence_bias": None,
        "stop_strings": [],
        "epsilon_cutoff": 0.0,
        "token_healing": False,
    }
    assert translator(**neutral) == translator()


@pytest.mark.parametrize(
    "changing",
    [
        {"num_beam_groups": 2},
        {"diversity_penalty": 0.5},
        {"penalty_alpha": 0.6},
        {"dola_layers": "low"},
        {"guidance_scale": 1.5},
        {"encoder_repetition_penalty": 1.2},
        {"encoder_no_repeat_ngram_size": 3},
        {"sequence_bias": [[[5], -1.0]]},
        {"constraints": [[5]]},
        {"force_words_ids": [[5]]},
        {"forced_decoder_ids": [[1, 5]]},
        {"force_bos_token_to_be_generated": True},
        {"exponential_decay_length_penalty": [5, 1.1]},
        {"stop_strings": ["."]},
        {"max_time": 2.0},
        {"token_healing": True},
        {"watermarking_config": {"greenlist_ratio": 0.3}},
        {"typical_p": 0.9, "do_sample": True},
        {"top_h": 0.4, "do_sample": True},
        {"epsilon_cutoff": 0.1, "do_sample": True},
        {"eta_cutoff": 0.1, "do_sample": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_changes_texts_and_is_not_supported_is_named(changing):
    name = next(iter(changing))
    with pytest.raises(ValueError, match=f"must not change texts in a way that is not supported. Received: {name}="):
        translator(**changing)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beams": 3, "temperatur": 2}, "The generation settings must be known. Received: beams=3, temperatur=2"),
        ({"num_beams": 3, "do_sample": True}, "`num_beams` must be 1 if `do_sample` is true. Received: num_beams=3"),
        ({"num_return_sequences": 2}, "`num_return_sequences` must be 1 for greedy search"),
        ({"num_beams": 2, "num_return_sequences": 3}, "`num_return_sequences` must be at most `width`"),
        ({"num_beams": 2.5}, "`num_beams` must be an integer of at least 1. Received: num_beams=2.5"),
        ({"do_sample": "yes"}, '`do_sample` must be true or false. Received: do_sample="yes"'),
        ({"early_stopping": "often"}, '`early_stopping` must be true or false. Received: early_stopping="often"'),
        ({"length_penalty": "long"}, "`length_penalty` must be a number"),
        ({"max_length": 1}, "`max_length` must be an integer of at least 2 or None. Received: max_length=1"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be an integer of at least 1 or None. Received: .*=0"),
        ({"do_sample": True, "temperature": 0.0}, "`temperature` must be a number above 0"),
        ({"repetition_penalty": -1.0}, "`penalty` must be a number above 0"),
        ({"bad_words_ids": [5]}, "`sequences` must be a list of lists of ids"),
        ({"forced_bos_token_id": 58}, "`forced_bos_token_id` must not be padding or the start id. Received: .*=58"),
        ({"forced_eos_token_id": [0, 5]}, r"`forced_eos_token_id` must be one id. Received: .*=\[0, 5\]"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        translator(**settings)


def test_a_prompt_has_no_forced_first_token():
    with pytest.raises(ValueError, match="`forced_bos_token_id` must be null for a model that continues prompts"):
        writer(forced_bos_token_id=5)
    assert writer(forced_eos_token_id=50).strategy == Greedy([ForcedLastToken(50)])
