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

from keras_attn.kernels.backend import add_to_block, block_uniform, fori, scan, stack_blocks, zero_blocks
from keras_attn.kernels.softmax import LOWEST, score_operands, wide
from keras_attn.kernels.tiling import Tiling, bounds, from_blocks, to_blocks

FLOOR = LOWEST / 2  # where maxima start: a score below it counts as hidden


def blockwise_attention(query, key, value, bias, sinks, scale, options):
    """Computes `softmax(scale * query @ key + bias) @ value` tile by tile.

    Args:
        query, key, value, scale: As `keras_attn.kernels.attention`.
        bias: Broadcasts to `[B, H, T, S]`, or None.
        sinks: Logits `[H]` of the heads' sinks, or None.
        options: A `Blockwise`.

    Returns:
        `[B, H, T, V]`.
    """
    given = [tensor for tensor in (bias, sinks) if tensor is not None]

    @ops.custom_gradient
    def attend(query, key, value, *given):
        named = dict(zip([name for name, tensor in (("bias", bias), ("sinks", sinks)) if tensor is not None], given))
        scaled = query * ops.cast(scale, query.dtype)
        outputs, lse = options.forward(scaled, key, value, **named)

        def gradient(*arguments, upstream=None):
            if upstream is None:  # PyTorch names it and hands over the inputs too
                (upstream,) = arguments
            grads = options.backward(scaled, key, value, outputs, lse, upstream, **named)
            grads[0] = grads[0] * scale
            return tuple(ops.cast(grad, x.dtype) for grad, x in zip(grads, (query, key, value, *given)))

        return outputs, gradient

    return attend(query, key, value, *given)


@dataclasses.dataclass(frozen=True)
class Blockwise:
    """The two passes over the tiles.

    Attributes:
        tiling: What the mask shows of each tile.
        num_heads: Number of query heads H.
        softcap: Or None.
        dropout: Rate, 0 for none.
        seed: Integers `[2]` of the dropout.
    """

    tiling: Tiling
    num_heads: int
    softcap: Any = None
    dropout: float = 0.0
    seed: Any = None

    def forward(self, query, key, value, bias=None, sinks=None):
        """Returns the outputs `[B, H, T, V]` and each query's log-sum-exp, in blocks."""
        keys, values = to_blocks(key, self.tiling.key_block), to_blocks(value, self.tiling.key_block)
        queries = self._query_blocks(query, key.shape[1])
        rows = ops.zeros((*ops.shape(queries)[1:-1], 1), wide(query.dtype))  # [B, H_kv, G * t, 1]

        def step(row, now):
            some, every = self.tiling.spans(row, ops.shape(keys)[0])

            def update(column, carry):
                highest, total, outputs = carry
                scores, _ = self._scores(now["query"], keys[column], bias, row, column, every[column])
                new_highest = ops.maximum(highest, ops.max(scores, axis=-1, keepdims=True))
                weights, shrink = ops.exp(scores - new_highest), ops.exp(highest - new_highest)
                total = total * shrink + ops.sum(weights, axis=-1, keepdims=True)
                kept = self._kept(weights, row, column)
                weights = weights if kept is None else weights * kept
                outputs = outputs * shrink + product("bhts,bhsv->bhtv", weights, values[column])
                return new_highest, total, outputs

            start = (rows + FLOOR, rows) if sinks is None else (rows + self._sink_rows(sinks, rows), rows + 1)
            start = (*start, ops.zeros((*ops.shape(rows)[:-1], value.shape[-1]), rows.dtype))
            highest, total, outputs = for_each_seen(some, update, start)
            seen = total > 0
            total = ops.where(seen, total, 1)
            lse = ops.where(seen, highest + ops.log(total), 0)
            return row + 1, {"outputs": ops.cast(outputs / total, query.dtype), "lse": lse}

        like = {"outputs": ops.zeros((*ops.shape(rows)[:-1], value.shape[-1]), query.dtype), "lse": rows}
        _, results = scan(step, ops.zeros((), "int32"), {"query": queries}, like)
        return self._from_query_blocks(results["outputs"]), results["lse"]

    def backward(self, query, key, value, outputs, lse, upstream, bias=None, sinks=None):
        """Returns the gradients by query (scaled), key, value, and by bias and sinks where given."""
        keys, values = to_blocks(key, self.tiling.key_block), to_blocks(value, self.tiling.key_block)
        num_columns = ops.shape(keys)[0]
        delta = ops.sum(ops.cast(upstream, lse.dtype) * ops.cast(outputs, lse.dtype), axis=-1, keepdims=True)
        blocks = {"query": query, "upstream": upstream, "delta": delta}
        blocks = {name: self._query_blocks(tensor, key.shape[1]) for name, tensor in blocks.items()}
        blocks["lse"] = lse

        def step(carry, now):
            row, sums = carry[0], carry[1:]
            some, every = self.tiling.spans(row, num_columns)

            def update(column, carry):
                query_grad, key_grads, value_grads, *bias_grads = carry
                key, value = keys[column], values[column]
                scores, slope = self._scores(now["query"], key, bias, row, column, every[column])
                weights = ops.exp(scores - now["lse"])
                weight_grads = product("bhtv,bhsv->bhts", now["upstream"], value)
                kept = self._kept(weights, row, column)
                dropped = weights if kept is None else weights * kept
                weight_grads = weight_grads if kept is None else weight_grads * kept
                value_grads = add_to_block(value_grads, column, product("bhts,bhtv->bhsv", dropped, now["upstream"]))
                score_grads = weights * (weight_grads - now["delta"])
                if bias is not None:
                    tile = self._bias_gradient(score_grads, bias)
                    bias_grads = [add_to_block(bias_grads[0], row * num_columns + column, tile)]
                score_grads = score_grads if slope is None else score_grads * slope
                key_grads = add_to_block(key_grads, column, product("bhts,bhtk->bhsk", score_grads, now["query"]))
                query_grad = query_grad + product("bhts,bhsk->bhtk", score_grads, key)
                return query_grad, key_grads, value_grads, *bias_grads

            start = (ops.zeros(ops.shape(now["query"]), lse.dtype), *sums)
            query_grad, *sums = for_each_seen(some, update, start)
            return (row + 1, *sums), {"query": query_grad}

        sums = [zero_blocks(ops.cast(tensor, lse.dtype)) for tensor in (keys, values)]
        sums += (
            [] if bias is None else [zero_blocks(self._bias_tiles(bias, ops.shape(blocks["query"])[0] * num_columns))]
        )
        like = {"query": ops.zeros(ops.shape(blocks["query"])[1:], lse.dtype)}
        (_, *sums), results = scan(step, (ops.zeros((), "int32"), *sums), blocks, like)
        grads = [self._from_query_blocks(results["query"])]
        grads += [from_blocks(stack_blocks(tiles), self.tiling.source_length) for tiles in sums[:2]]
        grads += [] if bias is None else [self._join_bias_tiles(stack_blocks(sums[2]), bias, num_columns)]
        grads += [] if sinks is None else [self._sink_gradient(sinks, lse, blocks["delta"])]
        return grads

    def _scores(self, query, key, bias, row, column, every):
        """Returns a tile's scores, hidden ones at the lowest value, and their slope if they are capped."""
        scores = product("bhtk,bhsk->bhts", *score_operands(query, key))
        slope, tile = None, self.tiling.tile(row, column)
        if self.softcap is not None:
            capped = ops.tanh(scores / self.softcap)
            scores, slope = self.softcap * capped, 1 - capped * capped
        if bias is not None:
            added = ops.cast(tile.cells(bias), scores.dtype)
            scores = self._by_heads(lambda scores: ops.where(added > float("-inf"), scores + added, LOWEST), scores)

        def hide():
            return self._by_heads(lambda scores: ops.where(self.tiling.visible(tile), scores, LOWEST), scores)

        return ops.cond(every, lambda: scores, hide), slope

    def _by_heads(self, function, scores):
        """Applies a function of scores `[B, H, t, s]` to scores held by key heads."""
        shape = ops.shape(scores)
        by_heads = ops.reshape(scores, (shape[0], self.num_heads, self.tiling.query_block, shape[-1]))
        return ops.reshape(function(by_heads), shape)

    def _kept(self, weights, row, column):
        """Returns the factors of a tile's dropout, the same in both passes, or None."""
        if not self.dropout:
            return None
        uniform = block_uniform(ops.shape(weights), self.seed, row, column)
        return ops.cast(uniform >= self.dropout, weights.dtype) / (1 - self.dropout)

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

    def _bias_tiles(self, bias, count):
        """Zeros for the gradients of `count` tiles of the bias."""
        _, _, *sizes = zip(bias.shape, (0, 0, self.tiling.query_block, self.tiling.key_block))
        tile = [1 if length == 1 else size for length, size in sizes]
        return ops.zeros((count, *ops.shape(bias)[:2], *tile), wide(bias.dtype))

    def _bias_gradient(self, score_grads, bias):
        """Sums a tile's score gradients over the axes along which the bias is the same."""
        batch, _, _, columns = ops.shape(score_grads)
        by_heads = ops.reshape(score_grads, (batch, self.num_heads, self.tiling.query_block, columns))
        return ops.sum(by_heads, axis=[axis for axis in range(4) if bias.shape[axis] == 1], keepdims=True)

    def _join_bias_tiles(self, tiles, bias, num_columns):
        """Lays the gradients of the tiles `[I * J, b, h, t, s]` side by side, in the shape of the bias."""
        count, batch, heads, rows, columns = ops.shape(tiles)
        tiles = ops.reshape(tiles, (count // num_columns, num_columns, batch, heads, rows, columns))
        tiles = ops.sum(tiles, axis=0, keepdims=True) if bias.shape[2] == 1 else tiles
        tiles = ops.sum(tiles, axis=1, keepdims=True) if bias.shape[3] == 1 else tiles
        tiles = ops.transpose(tiles, (2, 3, 0, 4, 1, 5))  # [b, h, I, t, J, s]
        shape = ops.shape(tiles)
        joined = ops.reshape(tiles, (*shape[:2], shape[2] * shape[3], shape[4] * shape[5]))
        return joined[:, :, : ops.shape(bias)[2], : ops.shape(bias)[3]]


def for_each_seen(some, update, carry):
    """Runs `carry = update(column, carry)` for the key blocks of which `some` `[J]` is true."""
    low, high = bounds(some)

    def body(column, carry):
        return ops.cond(some[column], lambda: update(column, carry), lambda: carry)

    return fori(low, high, body, carry)


def product(equation, left, right):
    """A matrix product of tiles in the narrower of their dtypes, returned in float32 or wider."""
    narrow = right.dtype if wide(left.dtype) == left.dtype else left.dtype
    return ops.cast(ops.einsum(equation, ops.cast(left, narrow), ops.cast(right, narrow)), wide(narrow))
