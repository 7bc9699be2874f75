"""A bounded number of compiled searches of a model; each serves many seeds and maximum lengths."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
from keras import ops

from keras_attn.backend import compiled
from keras_attn.base.types import Tensor
from keras_attn.decoding.loop import search
from keras_attn.decoding.request import GenerationConfig
from keras_attn.decoding.strategies import Generated

MAX_COMPILED_SEARCHES = 16
SHORTEST_SEARCH = 16


SearchKey = tuple[GenerationConfig, tuple[tuple[int, str] | None, ...], bool, tuple[int, ...]]
"""What a search was compiled for: its config, ranks and dtypes of its arguments, with XLA or not, model variables."""


class CompiledSearches:
    """Compiled searches by their `SearchKey`; the least recently used one is dropped.

    A search is compiled for a strategy without its seed, a number of token positions (see `places_for`),
    start and end id, processors, cache, with XLA or not, and the model's variables. If these are replaced
    (`quantize`, `enable_lora`), the older searches are dropped.
    """

    def __init__(self) -> None:
        self._searches: dict[SearchKey, Callable[..., Generated]] = {}

    def __len__(self) -> int:
        return len(self._searches)

    def run(
        self,
        model: keras.Model,
        config: GenerationConfig,
        source: Tensor,
        prefix: Tensor | None,
        seed: Tensor | None,
        jit_compile: bool,
        max_places: int | None = None,
        source_lengths: Tensor | None = None,
    ) -> Generated:
        """Returns the `Generated` texts; `max_places` is the number of positions of the model, None for no bound."""
        places = places_for(config.max_length, max_places)
        wide = dataclasses.replace(config, strategy=config.strategy.without_seed(), max_length=places)
        limit = ops.convert_to_tensor(config.max_length, dtype="int32")
        tensors = source, prefix, seed, limit, source_lengths
        found = self._get(model, wide, tensors, jit_compile)(*tensors)
        return found._replace(tokens=found.tokens[:, :, : config.max_length])

    def _get(
        self, model: keras.Model, config: GenerationConfig, examples: tuple[Tensor | None, ...], jit_compile: bool
    ) -> Callable[..., Generated]:
        kinds = tuple(None if each is None else (len(each.shape), str(each.dtype)) for each in examples)
        variables = tuple(id(variable) for variable in model.variables)
        key = config, kinds, jit_compile, variables
        kept = {known: function for known, function in self._searches.items() if known[3] == variables}

        def run(
            source: Tensor, prefix: Tensor | None, seed: Tensor | None, limit: Tensor, lengths: Tensor | None
        ) -> Generated:
            return search(model, source, prefix, seed, config, limits=limit, source_lengths=lengths)

        function = kept.pop(key, None) or compiled(model, run, examples, jit_compile)
        kept[key] = function  # the most recently used one is last
        self._searches = dict(list(kept.items())[-MAX_COMPILED_SEARCHES:])
        return function


def places_for(max_length: int, max_places: int | None = None) -> int:
    """Returns the number of tokens that a search is compiled for: 16, 32, 64, ..., at most the model's positions."""
    places = SHORTEST_SEARCH
    while places < max_length:
        places *= 2
    return places if max_places is None else max(min(places, max_places), max_length)
