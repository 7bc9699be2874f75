"""The base class of the multi-head layers: sizes of the heads, projections, and the call of the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_attn import kernels, masks
from keras_attn.attention.doors import Doors
from keras_attn.attention.dot_product import DotProduct
from keras_attn.attention.stream import EVERY_POSITION, Stream
from keras_attn.base.checks import check_last_axis, check_positive, check_rate, check_slot
from keras_attn.base.cloning import copied
from keras_attn.base.projection_layer import ProjectionArguments, ProjectionLayer
from keras_attn.base.recording import is_recording, record
from keras_attn.base.tensors import as_matrix, shape_of
from keras_attn.base.types import Shape, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack


class MultiHead(Doors, ProjectionLayer):
    """Base class of the two multi-head layers: sizes, projections, and the call of the kernel."""

    def __init__(
        self,
        num_heads: int,
        head_size: int | None,
        num_kv_heads: int | None,
        score: DotProduct | None,
        dropout: float,
        kernel: str,
        **kwargs: Unpack[ProjectionArguments],
    ) -> None:
        super().__init__(**kwargs)
        check_positive("num_heads", num_heads)
        check_positive("num_kv_heads", num_kv_heads, optional=True)
        check_positive("head_size", head_size, optional=True)
        check_rate("dropout", dropout)
        if num_kv_heads is not None and num_heads % num_kv_heads:
            raise ValueError(
                "`num_heads` must be a multiple of `num_kv_heads`. "
                f"Received: num_heads={num_heads}, num_kv_heads={num_kv_heads}."
            )
        self.num_heads = num_heads
        self.head_size = head_size
        self.num_kv_heads = num_kv_heads
        self.score = check_slot("score", score, DotProduct) or DotProduct()
        self.dropout = dropout
        self.kernel = kernels.check_kernel(kernel)
        self.seed_generator = keras.random.SeedGenerator() if dropout else None

    def _set_sizes(self, name: str, shape: Shape) -> int:
        """Stores the head size and the total widths of the query and of the key heads; returns the model size."""
        self.model_size = size = check_last_axis(name, shape)
        if self.head_size is None and size % self.num_heads:
            raise ValueError(
                f"`head_size` must be given unless `num_heads` divides the last axis of `{name}`. "
                f"Received: num_heads={self.num_heads}, {name}.shape={tuple(shape)}."
            )
        head_size = self.head_size or size // self.num_heads
        self.head_sizes = head_size, self.num_heads * head_size, (self.num_kv_heads or self.num_heads) * head_size
        return size

    def _build_score(self, head_size: int) -> None:
        """Creates the weights of the score: the norms of queries and keys, and the sinks."""
        norm, self.query_norm, self.key_norm, self.sinks = self.score.norm, None, None, None
        if norm is not None:
            self.query_norm = norm.make("query_norm", self.policy_of("query_norm"))
            self.key_norm = norm.make("key_norm", self.policy_of("key_norm"))
            self.build_child(self.query_norm, (None, self.num_heads, None, head_size))
            self.build_child(self.key_norm, (None, self.num_kv_heads or self.num_heads, None, head_size))
        if self.score.sinks is not None:
            initializer = copied(self.score.sinks)
            self.sinks = self.add_weight(name="sinks", shape=(self.num_heads,), initializer=initializer, autocast=False)

    def _normed(self, heads: Tensor, norm: keras.layers.Layer | None) -> Tensor:
        """Returns queries or keys `[B, H, T, K]`, normalised if the score has a norm."""
        return heads if norm is None else norm(heads)

    def _read(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: masks.Mask | None,
        bias: kernels.Bias | None = None,
        query_index: Tensor | None = None,
        key_index: Tensor | None = None,
        return_scores: bool = False,
        training: bool | None = False,
        stream: Stream = EVERY_POSITION,
    ) -> tuple[Tensor, Tensor | None]:
        """Queries `[B, H, T, K]`, keys and values `[B, H_kv, S, K]` -> outputs `[B, T, D]`, and scores or None.

        The outputs are the vectors of `stream`.
        """
        wanted = return_scores or is_recording()
        outputs = kernels.attention(
            query,
            key,
            value,
            mask=mask,
            bias=bias,
            scale=self.score.scale,
            softcap=self.score.softcap,
            sinks=self.sinks,
            dropout=self.dropout if training else 0.0,
            seed=self.seed_generator,
            query_index=query_index,
            key_index=key_index,
            return_scores=wanted,
            kernel="auto" if wanted else self.kernel,
        )
        outputs, scores = outputs if wanted else (outputs, None)
        record(self, scores)
        outputs = merge_heads(self.out_projection, outputs, stream)
        # Without a bias, Keras' `Dense` returns float32 for float64 on PyTorch.
        return ops.cast(outputs, self.compute_dtype), scores if return_scores else None


def split_heads(
    projection: keras.layers.Dense, inputs: Tensor, head_size: int, stream: Stream = EVERY_POSITION
) -> Tensor:
    """Projects inputs `[B, T, D]`, the vectors of a stream, to heads `[B, H, T, K]`."""
    projected, num_heads = stream.spread(projection(as_matrix(inputs))), projection.units // head_size
    batch, length = stream.sizes(inputs)
    if isinstance(length, int) and length == 1:  # a step of decoding: there is nothing to transpose
        return ops.reshape(projected, (batch, num_heads, 1, head_size))
    return ops.transpose(ops.reshape(projected, (batch, length, num_heads, head_size)), (0, 2, 1, 3))


def merge_heads(projection: keras.layers.Dense, heads: Tensor, stream: Stream = EVERY_POSITION) -> Tensor:
    """Projects all heads `[B, H, T, K]` to outputs `[B, T, D]`, the vectors of a stream."""
    batch, num_heads, length, head_size = shape_of(heads)
    heads = heads if heads.shape[2] == 1 else ops.transpose(heads, (0, 2, 1, 3))
    merged = stream.pack(ops.reshape(heads, (-1, num_heads * head_size)))
    return stream.vectors(projection(merged), batch, length)
