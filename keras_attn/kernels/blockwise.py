"""Blockwise attention: exact, in memory linear in length, with a gradient of its own.

For each block of queries an online softmax goes over the blocks of keys that the mask does
not rule out. Only the outputs and the log-sum-exp of each query are kept; the gradient
computes the scores again from them, tile by tile (Rabe and Staats 2021, arXiv:2112.05682;
Dao et al. 2022, arXiv:2205.14135).

Inside, the G query heads that share a key head stand side by side in one row of queries, so
that keys are never repeated: `[B, H, t, X]` is held as `[B, H_kv, G * t, X]`.
"""

import dataclasses
from typing import Any

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
from keras_attn.kernels.biases import Bias
from keras_attn.kernels.blocks import from_blocks, to_blocks
from keras_attn.kernels.dropout import kept
from keras_attn.kernels.softmax import LOWEST
from keras_attn.kernels.tile_scores import DotTile
from keras_attn.kernels.tiling import Tiling, bounds

FLOOR = LOWEST / 2  # where maxima start: a score below it counts as hidden


def blockwise_attention(query, key, value, scale, options, sinks=None):
    """Computes `softmax(score(scale * query, key) + bias) @ value` tile by tile.

    Args:
        query, key, value, scale: As `keras_attn.kernels.attention`.
        options: A `Blockwise`.
        sinks: Logits `[H]` of the heads' sinks, or None.

    Returns:
        `[B, H, T, V]`.
    """
    bias = options.bias
    named = {"score": options.score.tensor, "bias": None if bias is None else bias.tensor, "sinks": sinks}
    names = [name for name, tensor in named.items() if tensor is not None]

    @ops.custom_gradient
    def attend(query, key, value, *tensors):
        trained = dict(zip(names, tensors))
        scaled = query * ops.cast(scale, query.dtype)
        outputs, lse = options.forward(scaled, key, value, trained)

        def gradient(*arguments, upstream=None):
            if upstream is None:  # PyTorch names it and hands over the inputs too
                (upstream,) = arguments
            query_grad, *grads = options.backward(scaled, key, value, outputs, lse, upstream, trained)
            grads = [query_grad * scale, *grads]
            return tuple(ops.cast(grad, x.dtype) for grad, x in zip(grads, (query, key, value, *tensors)))

        return outputs, gradient

    return attend(query, key, value, *(named[name] for name in names))


@dataclasses.dataclass(frozen=True)
class Blockwise:
    """The two passes over the tiles.

    Attributes:
        tiling: What the mask shows of each tile.
        num_heads: Number of query heads H.
        score: How queries and keys give scores.
        bias: What is added to them, or None.
        softcap: Or None.
        dropout: Rate, 0 for none.
        seed: Integers `[2]` of the dropout.

    What is trained beside queries, keys and values comes as a dictionary `trained` with the
    tensors of `"score"`, `"bias"` and `"sinks"`, of those that there are.
    """

    tiling: Tiling
    num_heads: int
    score: Any = dataclasses.field(default_factory=DotTile)
    bias: Bias | None = None
    softcap: Any = None
    dropout: float = 0.0
    seed: Any = None

    def forward(self, query, key, value, trained):
        """Returns the outputs `[B, H, T, V]` and each query's log-sum-exp, in blocks."""
        keys, values = to_blocks(key, self.tiling.key_block), to_blocks(value, self.tiling.key_block)
        queries = self._query_blocks(query, key.shape[1])
        rows = ops.zeros((*ops.shape(queries)[1:-1], 1), at_least_float32(query.dtype))  # [B, H_kv, G * t, 1]

        def step(row, now):
            some, every = self.tiling.spans(row)

            def update(column, carry):
                highest, total, outputs = carry
                tile = self.tiling.tile(row, column)
                scores, _ = self._scores(now["query"], keys[column], trained, tile, every[column])
                new_highest = ops.maximum(highest, ops.max(scores, axis=-1, keepdims=True))
                weights, shrink = ops.exp(scores - new_highest), ops.exp(highest - new_highest)
                total = total * shrink + ops.sum(weights, axis=-1, keepdims=True)
                dropped = times(weights, self._kept(weights, tile))
                return new_highest, total, outputs * shrink + product(dropped, values[column])

            start = (rows + FLOOR, rows)
            if "sinks" in trained:
                start = (rows + self._sink_rows(trained["sinks"], rows), rows + 1)
            start = (*start, ops.zeros((*ops.shape(rows)[:-1], value.shape[-1]), rows.dtype))
            highest, total, outputs = for_each_seen(some, update, start)
            seen = total > 0
            total = ops.where(seen, total, 1)
            lse = ops.where(seen, highest + ops.log(total), 0)
            return row + 1, {"outputs": ops.cast(outputs / total, query.dtype), "lse": lse}

        like = {"outputs": ops.zeros((*ops.shape(rows)[:-1], value.shape[-1]), query.dtype), "lse": rows}
        _, results = scan(step, ops.zeros((), "int32"), {"query": queries}, like)
        return self._from_query_blocks(results["outputs"]), results["lse"]

    def backward(self, query, key, value, outputs, lse, upstream, trained):
        """Returns the gradients by query (scaled), key, value, and by what else is trained, in its order."""
        keys, values = to_blocks(key, self.tiling.key_block), to_blocks(value, self.tiling.key_block)
        delta = ops.sum(ops.cast(upstream, lse.dtype) * ops.cast(outputs, lse.dtype), axis=-1, keepdims=True)
        blocks = {"query": query, "upstream": upstream, "delta": delta}
        blocks = {name: self._query_blocks(tensor, key.shape[1]) for name, tensor in blocks.items()}
        blocks["lse"] = lse

        def step(carry, now):
            row, sums = carry[0], carry[1:]
            some, every = self.tiling.spans(row)

            def update(column, carry):
                query_grad, key_grads, value_grads, score_sum, bias_sum = carry
                key, value, tile = keys[column], values[column], self.tiling.tile(row, column)
                scores, slope = self._scores(now["query"], key, trained, tile, every[column])
                weights = ops.exp(scores - now["lse"])
                factors = self._kept(weights, tile)
                weight_grads = times(product(now["upstream"], value, transpose_right=True), factors)
                value_tile = product(times(weights, factors), now["upstream"], transpose_left=True)
                score_grads = weights * (weight_grads - now["delta"])
                if "bias" in trained:
                    bias_sum = self.bias.add(bias_sum, self._heads_apart(score_grads), trained["bias"], tile)
                score_grads = score_grads if slope is None else score_grads * slope
                grads = self.score.gradients(score_grads, now["query"], key, trained.get("score"))
                return (
                    query_grad + grads[0],
                    add_to_block(key_grads, column, grads[1]),
                    add_to_block(value_grads, column, value_tile),
                    score_sum + grads[2],
                    bias_sum,
                )

            start = (ops.zeros(ops.shape(now["query"]), lse.dtype), *sums)
            query_grad, *sums = for_each_seen(some, update, start)
            return (row + 1, *sums), {"query": query_grad}

        sums = [zero_blocks(ops.cast(tensor, lse.dtype)) for tensor in (keys, values)]
        sums += [ops.zeros(ops.shape(trained["score"]), lse.dtype) if "score" in trained else ()]
        sums += [self.bias.start(trained["bias"], self.tiling) if "bias" in trained else ()]
        like = {"query": ops.zeros(ops.shape(blocks["query"])[1:], lse.dtype)}
        (_, *sums), results = scan(step, (ops.zeros((), "int32"), *sums), blocks, like)
        grads = [self._from_query_blocks(results["query"])]
        grads += [from_blocks(stack_blocks(tiles), self.tiling.source_length) for tiles in sums[:2]]
        grads += [sums[2]] if "score" in trained else []
        grads += [self.bias.finish(sums[3], trained["bias"], self.tiling)] if "bias" in trained else []
        grads += [self._sink_gradient(trained["sinks"], lse, blocks["delta"])] if "sinks" in trained else []
        return grads

    def _scores(self, query, key, trained, tile, every):
        """Returns a tile's scores, hidden ones at the lowest value, and their slope if they are capped."""
        scores = self.score.scores(query, key, trained.get("score"))
        slope = None
        if self.softcap is not None:
            capped = ops.tanh(scores / self.softcap)
            scores, slope = self.softcap * capped, 1 - capped * capped
        if self.bias is not None:
            added = ops.cast(self.bias.cells(trained.get("bias"), tile), scores.dtype)
            scores = self._by_heads(lambda scores: scores + added, scores)

        def hide():
            return self._by_heads(lambda scores: ops.where(self.tiling.visible(tile), scores, LOWEST), scores)

        return ops.cond(every, lambda: scores, hide), slope

    def _by_heads(self, function, scores):
        """Applies a function of scores `[B, H, t, s]` to scores held by key heads."""
        return ops.reshape(function(self._heads_apart(scores)), ops.shape(scores))

    def _heads_apart(self, scores):
        """`[B, H_kv, G * t, s]` -> `[B, H, t, s]`."""
        batch, _, _, columns = ops.shape(scores)
        return ops.reshape(scores, (batch, self.num_heads, self.tiling.query_block, columns))

    def _kept(self, weights, tile):
        """Returns the factors of a tile's dropout, the same in both passes, or None."""
        return kept(weights, self.dropout, self.seed, tile.row, tile.column) if self.dropout else None

    def _query_blocks(self, tensor, num_kv_heads):
        """`[B, H, T, X]` -> `[I, B, H_kv, G * t, X]`."""
        blocks = to_blocks(tensor, self.tiling.query_block)
        count, batch, heads, size, width = ops.shape(blocks)
        return ops.reshape(blocks, (count, batch, num_kv_heads, heads // num_kv_heads * size, width))

    def _from_query_blocks(self, blocks):
        """Undoes `_query_blocks`."""
        count, batch, _, _, width = ops.shape(blocks)
        shape = (count, batch, self.num_heads, self.tiling.query_block, width)
        return from_blocks(ops.reshape(blocks, shape), self.tiling.target_length)

    def _sink_rows(self, sinks, rows):
        """The heads' sinks `[H]`, laid along the rows `[B, H_kv, G * t, 1]`."""
        laid = ops.repeat(ops.cast(sinks, rows.dtype), self.tiling.query_block)
        return ops.reshape(laid, (1, *rows.shape[1:3], 1))

    def _sink_gradient(self, sinks, lse, delta):
        """`-sum_i p_i delta_i`, p_i being the weight that the sink takes of query i."""
        taken = ops.exp(self._sink_rows(sinks, lse[0]) - lse) * delta  # [I, B, H_kv, G * t, 1]
        return -ops.sum(ops.reshape(ops.sum(taken, axis=(0, 1)), (self.num_heads, -1)), axis=-1)


def for_each_seen(some, update, carry):
    """Runs `carry = update(column, carry)` for the key blocks of which `some` `[J]` is true."""
    low, high = bounds(some)

    def body(column, carry):
        return ops.cond(some[column], lambda: update(column, carry), lambda: carry)

    return fori(low, high, body, carry)


def times(weights, factors):
    """Returns the weights times the factors of a dropout, if there is one."""
    return weights if factors is None else weights * factors
