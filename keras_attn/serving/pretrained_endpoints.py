"""The endpoints of what `pretrained.load` returns, by its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras_attn.attention.cache import Cache
from keras_attn.decoding.processors import Processor
from keras_attn.decoding.protocol import facts_of
from keras_attn.decoding.request import config_of
from keras_attn.decoding.strategies import Strategy
from keras_attn.pretrained import Pretrained
from keras_attn.serving.endpoints import Endpoints, ModelEndpoints, symbolic_inputs
from keras_attn.serving.generation import GenerationEndpoints
from keras_attn.serving.rules import warn_of_filling
from keras_attn.serving.text_endpoints import TASKS

MAX_LENGTH = 256  # tokens of a generated text, where nothing says how many


def pretrained_endpoints(
    loaded: Pretrained,
    strategy: Strategy | None = None,
    max_length: int | None = None,
    processors: Sequence[Processor] = (),
    generate_xla: bool = False,
    cache: Cache | None = None,
) -> Endpoints:
    """Returns the endpoints of a pretrained model; those of ids if it has no tokenizer.

    Args:
        loaded: From `pretrained.load`.
        strategy, max_length: How a model generates, by default as its generation settings say.
        processors, generate_xla, cache: As for `serving.export`.

    Raises:
        ValueError: For arguments that an encoder does not take.
    """
    if loaded.strategy is None:
        check_not_given(
            {
                "strategy": strategy,
                "max_length": max_length,
                "processors": processors or None,
                "generate_xla": generate_xla or None,
                "cache": cache,
            }
        )
        if loaded.source_text is not None:
            return TASKS[loaded.task](loaded)
        warn_of_filling(symbolic_inputs(loaded.model))
        return ModelEndpoints(loaded.model)
    length = (loaded.max_new_tokens or MAX_LENGTH) if max_length is None else max_length
    strategy = loaded.strategy if strategy is None else strategy
    config = config_of(facts_of(loaded.model), strategy, length, processors=processors, cache=cache)
    return GenerationEndpoints(loaded.model, config, loaded.source_text, loaded.target_text, generate_xla)


def check_not_given(arguments: Mapping[str, object]) -> None:
    """Raises a `ValueError` for arguments that a pretrained encoder does not take."""
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ValueError(f"A pretrained encoder generates nothing. Received: {', '.join(given)}.")
