"""Blockwise attention: exact, in memory linear in length, with its own gradient.

For each block of queries an online softmax is computed over the blocks of keys that the mask
does not hide. Only the outputs and the log-sum-exp of each query are stored; the gradient
recomputes the scores from them, tile by tile (Rabe and Staats 2021, arXiv:2112.05682;
Dao et al. 2022, arXiv:2205.14135).

Internally, the G query heads that share a key head are concatenated into one row of queries, so
that keys are never repeated: `[B, H, t, X]` is stored as `[B, H_kv, G * t, X]`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from keras import ops

from keras_attn.backend import (
    add_to_block,
    fori,
    product,
    scan,
    stack_blocks,
    zero_blocks,
)
from keras_attn.backend.precision import at_least_float32
from keras_attn.base.types import State, Tensor
from keras_attn.kernels.biases import Bias
from keras_attn.kernels.blocks import from_blocks, to_blocks
from keras_attn.kernels.dropout import dropout_factors
from keras_attn.kernels.softmax import LOWEST
from keras_attn.kernels.tile_scores import DotTile, TileScore
from keras_attn.kernels.tiling import Tile, Tiling, bounds

FLOOR = LOWEST / 2  # the initial maximum: a score below it counts as hidden


class Trained(NamedTuple):
    """The trained tensors other than query, key and value; None for each that does not exist."""

    score: Tensor | None = None
    bias: Tensor | None = None
    sinks: Tensor | None = None


def blockwise_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float | Tensor,
    options: Blockwise,
    sinks: Tensor | None = None,
) -> Tensor:
    """Computes `softmax(score(scale * query, key) + bias) @ value` tile by tile.

    Args:
        query, key, value, scale: As for `keras_attn.kernels.attention`.
        options: The tiling, the score, and what modifies the scores.
        sinks: Logits `[H]` of the heads' sinks, or None.

    Returns:
        `[B, H, T, V]`.
    """
    bias = options.bias
    all_trained = Trained(options.score.tensor, None if bias is None else bias.tensor, sinks)
    named = {name: tensor for name, tensor in all_trained._asdict().items() if tensor is not None}

    @ops.custom_gradient
    def attend(
        query: Tensor, key: Tensor, value: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, Callable[..., tuple[Tensor, ...]]]:
        trained = Trained(**dict(zip(named, tensors)))
        scaled = query * ops.cast(scale, query.dtype)
        outputs, lse = options.forward(scaled, key, value, trained)

        def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> tuple[Tensor, ...]:
            if upstream is None:  # only PyTorch passes it by name, with the inputs as arguments
                (upstream,) = arguments
            query_grad, *grads = options.backward(scaled, key, value, outputs, lse, upstream, trained)
            grads = [query_grad * scale, *grads]
            return tuple(ops.cast(grad, x.dtype) for grad, x in zip(grads, (query, key, value, *tensors)))

        return outputs, gradient

    return attend(query, key, value, *named.values())


@dataclasses.dataclass(frozen=True)
class Blockwise:
    """The forward and the backward pass over the tiles.

    Attributes:
        tiling: How the grid of scores is cut into tiles, and what the mask shows of them.
        num_heads: Number of query heads H.
        score: The function from queries and keys to scores.
        bias: What is added to the scores, or None.
        softcap: Caps the scores smoothly; None for no cap.
        dropout: Rate, 0 for none.
        seed: Integers `[2]` of the dropout.
    """

    tiling: Tiling
    num_heads: int
    score: TileScore = dataclasses.field(default_factory=DotTile)
    bias: Bias | None = None
    softcap: float | None = None
    dropout: float = 0.0
    seed: Tensor | None = None

    def forward(self, query: Tensor, key: Tensor, value: Tensor, trained: Trained) -> tuple[Tensor, Tensor]:
        """Returns the outputs `[B, H, T, V]` and each query's log-sum-exp, in blocks."""
        keys, values = to_blocks(key, self.tiling.key_block), to_blocks(value, self.tiling.key_block)
        queries = self._query_blocks(query, key.shape[1])
        rows = ops.zeros((*ops.shape(queries)[1:-1], 1), at_least_float32(query.dtype))  # [B, H_kv, G * t, 1]

        def step(row: Tensor, now: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            any_visible, all_visible = self.tiling.coverage(row)

            def update(column: Tensor, carry: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
                highest, total, outputs = carry
                tile = self.tiling.tile(row, column)
                scores, _ = self._scores(now["query"], keys[column], trained, tile, all_visible[column])
                new_highest = ops.maximum(highest, ops.max(scores, axis=-1, keepdims=True))
                weights, shrink = ops.exp(scores - new_highest), ops.exp(highest - new_highest)
                total = total * shrink + ops.sum(weights, axis=-1, keepdims=True)
                dropped = times(weights, self._dropout_factors(weights, tile))
                return new_highest, total, outputs * shrink + product(dropped, values[column])

            highest, total = rows + FLOOR, rows
            if trained.sinks is not None:
                highest, total = rows + self._sink_rows(trained.sinks, rows), rows + 1
            outputs = ops.zeros((*ops.shape(rows)[:-1], value.shape[-1]), rows.dtype)
            highest, total, outputs = for_each_visible(any_visible, update, (highest, total, outputs))
            seen = total > 0
            total = ops.where(seen, total, 1)
            lse = ops.where(seen, highest + ops.log(total), 0)
            return row + 1, {"outputs": ops.cast(outputs / total, query.dtype), "lse": lse}

        like = {"outputs": ops.zeros((*ops.shape(rows)[:-1], value.shape[-1]), query.dtype), "lse": rows}
        _, results = scan(step, ops.zeros((), "int32"), {"query": queries}, like)
        return self._from_query_blocks(results["outputs"]), results["lse"]

    def backward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        outputs: Tensor,
        lse: Tensor,
        upstream: Tensor,
        trained: Trained,
    ) -> list[Tensor]:
        """Returns the gradients with respect to query (scaled), key, value, and each trained tensor that exists."""
        keys, values = to_blocks(key, self.tiling.key_block), to_blocks(value, self.tiling.key_block)
        delta = ops.sum(ops.cast(upstream, lse.dtype) * ops.cast(outputs, lse.dtype), axis=-1, keepdims=True)
        blocks = {"query": query, "upstream": upstream, "delta": delta}
        blocks = {name: self._query_blocks(tensor, key.shape[1]) for name, tensor in blocks.items()}
        blocks["lse"] = lse

        def step(carry: tuple[State, ...], now: dict[str, Tensor]) -> tuple[tuple[State, ...], dict[str, Tensor]]:
            row, sums = carry[0], carry[1:]
            any_visible, all_visible = self.tiling.coverage(row)

            def update(column: Tensor, carry: tuple[State, ...]) -> tuple[State, ...]:
                query_grad, key_grads, value_grads, score_sum, bias_sum = carry
                key, value, tile = keys[column], values[column], self.tiling.tile(row, column)
                scores, slope = self._scores(now["query"], key, trained, tile, all_visible[column])
                weights = ops.exp(scores - now["lse"])
                factors = self._dropout_factors(weights, tile)
                weight_grads = times(product(now["upstream"], value, transpose_right=True), factors)
                value_tile = product(times(weights, factors), now["upstream"], transpose_left=True)
                score_grads = weights * (weight_grads - now["delta"])
                if self.bias is not None and trained.bias is not None:
                    bias_sum = self.bias.add(bias_sum, self._heads_apart(score_grads), trained.bias, tile)
                score_grads = score_grads if slope is None else score_grads * slope
                grads = self.score.gradients(score_grads, now["query"], key, trained.score)
                return (
                    query_grad + grads[0],
                    add_to_block(key_grads, column, grads[1]),
                    add_to_block(value_grads, column, value_tile),
                    score_sum + grads[2],
                    bias_sum,
                )

            start = (ops.zeros(ops.shape(now["query"]), lse.dtype), *sums)
            query_grad, *sums_after = for_each_visible(any_visible, update, start)
            return (row + 1, *sums_after), {"query": query_grad}

        score_sum: State = () if trained.score is None else ops.zeros(ops.shape(trained.score), lse.dtype)
        bias_sum: State = ()
        if self.bias is not None and trained.bias is not None:
            bias_sum = self.bias.start(trained.bias, self.tiling)
        key_sums, value_sums = (zero_blocks(ops.cast(tensor, lse.dtype)) for tensor in (keys, values))
        start = (ops.zeros((), "int32"), key_sums, value_sums, score_sum, bias_sum)
        like = {"query": ops.zeros(ops.shape(blocks["query"])[1:], lse.dtype)}
        (_, key_sums, value_sums, score_sum, bias_sum), results = scan(step, start, blocks, like)
        grads = [self._from_query_blocks(results["query"])]
        grads += [from_blocks(stack_blocks(tiles), self.tiling.source_length) for tiles in (key_sums, value_sums)]
        grads += [] if trained.score is None else [score_sum]
        if self.bias is not None and trained.bias is not None:
            grads.append(self.bias.finish(bias_sum, trained.bias, self.tiling))
        grads += [] if trained.sinks is None else [self._sink_gradient(trained.sinks, lse, blocks["delta"])]
        return grads

    def _scores(
        self, query: Tensor, key: Tensor, trained: Trained, tile: Tile, all_visible: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Returns a tile's scores, the lowest value where hidden, and the derivative of the softcap, or None."""
        scores = self.score.scores(query, key, trained.score)
        slope = None
        if self.softcap is not None:
            capped = ops.tanh(scores / self.softcap)
            scores, slope = self.softcap * capped, 1 - capped * capped
        if self.bias is not None:
            added = ops.cast(self.bias.cells(trained.bias, tile), scores.dtype)
            scores = self._by_heads(lambda scores: scores + added, scores)

        def hide() -> Tensor:
            return self._by_heads(lambda scores: ops.where(self.tiling.visible(tile), scores, LOWEST), scores)

        return ops.cond(all_visible, lambda: scores, hide), slope

    def _by_heads(self, function: Callable[[Tensor], Tensor], scores: Tensor) -> Tensor:
        """Applies a function of scores `[B, H, t, s]` to scores `[B, H_kv, G * t, s]`."""
        return ops.reshape(function(self._heads_apart(scores)), ops.shape(scores))

    def _heads_apart(self, scores: Tensor) -> Tensor:
        """`[B, H_kv, G * t, s]` -> `[B, H, t, s]`."""
        batch, _, _, columns = ops.shape(scores)
        return ops.reshape(scores, (batch, self.num_heads, self.tiling.query_block, columns))

    def _dropout_factors(self, weights: Tensor, tile: Tile) -> Tensor | None:
        """Returns the factors of a tile's dropout, the same in both passes, or None."""
        return dropout_factors(weights, self.dropout, self.seed, tile.row, tile.column) if self.dropout else None

    def _query_blocks(self, tensor: Tensor, num_kv_heads: int) -> Tensor:
        """`[B, H, T, X]` -> `[I, B, H_kv, G * t, X]`."""
        blocks = to_blocks(tensor, self.tiling.query_block)
        count, batch, heads, size, width = ops.shape(blocks)
        return ops.reshape(blocks, (count, batch, num_kv_heads, heads // num_kv_heads * size, width))

    def _from_query_blocks(self, blocks: Tensor) -> Tensor:
        """`[I, B, H_kv, G * t, X]` -> `[B, H, T, X]`, the inverse of `_query_blocks`."""
        count, batch, _, _, width = ops.shape(blocks)
        shape = (count, batch, self.num_heads, self.tiling.query_block, width)
        return from_blocks(ops.reshape(blocks, shape), self.tiling.target_length)

    def _sink_rows(self, sinks: Tensor, rows: Tensor) -> Tensor:
        """Returns the heads' sinks `[H]` as `[1, H_kv, G * t, 1]`, to broadcast to the rows."""
        repeated = ops.repeat(ops.cast(sinks, rows.dtype), self.tiling.query_block)
        return ops.reshape(repeated, (1, *rows.shape[1:3], 1))

    def _sink_gradient(self, sinks: Tensor, lse: Tensor, delta: Tensor) -> Tensor:
        """Computes `-sum_i p_i delta_i`, where p_i is the weight of the sink for query i."""
        taken = ops.exp(self._sink_rows(sinks, lse[0]) - lse) * delta  # [I, B, H_kv, G * t, 1]
        return -ops.sum(ops.reshape(ops.sum(taken, axis=(0, 1)), (self.num_heads, -1)), axis=-1)


def for_each_visible(
    any_visible: Tensor, update: Callable[[Tensor, tuple[State, ...]], tuple[State, ...]], carry: tuple[State, ...]
) -> tuple[State, ...]:
    """Runs `carry = update(column, carry)` for the key blocks at which `any_visible` `[J]` is True."""
    low, high = bounds(any_visible)

    def body(column: Tensor, carry: tuple[State, ...]) -> tuple[State, ...]:
        return ops.cond(any_visible[column], lambda: update(column, carry), lambda: carry)

    return fori(low, high, body, carry)


def times(weights: Tensor, factors: Tensor | None) -> Tensor:
    """Returns the weights times the factors of the dropout, or the weights if there is none."""
    return weights if factors is None else weights * factors
