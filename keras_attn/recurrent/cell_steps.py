"""How a cell runs inside the loop: Keras' own GRU and LSTM cells with the products over the inputs taken out of it."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.backend import product, with_later_gradient
from keras_attn.base.types import State, Tensor

Trace = dict[str, Tensor]
"""What the steps of a loop read, `[T, B, ...]` by name, which is known after the loop.

- `"fed"`: what the cell read besides its input.
- `"before"`: the first tensor of the cell's state before the step.
- `"weights"`: the attention weights of the step.
"""


class CellSteps:
    """Any cell: it reads `[x ; fed]` at each step.

    Args:
        cell: The cell, built.

    Attributes:
        uses_trace: Whether gradients computed after the loop need `"fed"` and `"before"`.
    """

    def __init__(self, cell: keras.layers.Layer) -> None:
        self.cell = cell
        self.uses_trace = False

    def project(self, inputs: Tensor, trace: Trace | None = None) -> State:
        """Returns what the steps read of all inputs.

        Args:
            inputs: `[T, B, D]`.
            trace: Filled in after the loop; with it, the gradients of weights are computed after the loop.

        Returns:
            A structure of tensors `[T, B, ...]`.
        """
        return inputs

    def __call__(self, x: State, fed: Tensor, state: State) -> tuple[Tensor, State]:
        """Computes one step.

        Args:
            x: The part of the step of what `project` returned, a structure of tensors `[B, ...]`.
            fed: What the cell reads besides its input, `[B, F]`.
            state: The state of the cell.

        Returns:
            The outputs `[B, units]` and the new state.
        """
        return self.cell(ops.concatenate([x, fed], axis=-1), state)


class KerasCellSteps(CellSteps):
    """A cell of Keras whose weights are known: `W [x ; fed] = W_x x + W_fed fed`, with `W_x x` of all steps at once.

    Args:
        cell: The cell, built.
        fed_size: Size F of what it reads besides its input.
    """

    def __init__(self, cell: keras.layers.Layer, fed_size: int) -> None:
        super().__init__(cell)
        dtype = cell.compute_dtype
        kernel = ops.cast(ops.convert_to_tensor(cell.kernel), dtype)
        self.input_kernel, self.fed_kernel = kernel[:-fed_size], kernel[-fed_size:]
        self.recurrent_kernel = ops.cast(ops.convert_to_tensor(cell.recurrent_kernel), dtype)
        self.bias = ops.cast(ops.convert_to_tensor(cell.bias), dtype) if cell.use_bias else None

    def products(self, inputs: Tensor, bias: Tensor | None) -> Tensor:
        """Returns `W_x x + b` of all steps, `[T, B, gates * units]`."""
        # Without a reshape to `[T B, D]`, in which devices that share the batch could not share the product.
        products = ops.einsum("tbd,dk->tbk", inputs, self.input_kernel)
        return products if bias is None else products + bias


class GRUSteps(KerasCellSteps):
    """`keras.layers.GRUCell`."""

    def __init__(self, cell: keras.layers.Layer, fed_size: int) -> None:
        super().__init__(cell, fed_size)
        self.uses_trace = cell.reset_after

    def project(self, inputs: Tensor, trace: Trace | None = None) -> State:
        after = self.cell.reset_after
        products = self.products(inputs, self.bias[0] if after and self.bias is not None else self.bias)
        if trace is None or not self.uses_trace:
            return products, ()
        # What is added to the products of the state, nothing, has their gradient.
        inner = ops.zeros(ops.shape(products), products.dtype)
        products = late_product(products, self.fed_kernel, trace, ["fed"])
        inner = late_product(inner, self.recurrent_kernel, trace, ["before"])
        self.fed_kernel, self.recurrent_kernel = map(ops.stop_gradient, (self.fed_kernel, self.recurrent_kernel))
        return products, inner

    def __call__(self, x: State, fed: Tensor, state: State) -> tuple[Tensor, State]:
        products, inner = x
        cell, before = self.cell, state[0]
        update, reset, candidate = ops.split(products + ops.matmul(fed, self.fed_kernel), 3, axis=-1)
        if cell.reset_after:
            product = ops.matmul(before, self.recurrent_kernel)
            product = product if isinstance(inner, tuple) else product + inner
            product = product if self.bias is None else product + self.bias[1]
            for_update, for_reset, for_candidate = ops.split(product, 3, axis=-1)
            update = cell.recurrent_activation(update + for_update)
            reset = cell.recurrent_activation(reset + for_reset)
            candidate = candidate + reset * for_candidate
        else:
            for_update, for_reset, kernel = ops.split(self.recurrent_kernel, 3, axis=-1)
            update = cell.recurrent_activation(update + ops.matmul(before, for_update))
            reset = cell.recurrent_activation(reset + ops.matmul(before, for_reset))
            candidate = candidate + ops.matmul(reset * before, kernel)
        candidate = cell.activation(candidate)
        new = candidate + update * (before - candidate)
        return new, [new]


class LSTMSteps(KerasCellSteps):
    """`keras.layers.LSTMCell`."""

    def __init__(self, cell: keras.layers.Layer, fed_size: int) -> None:
        super().__init__(cell, fed_size)
        self.uses_trace = True

    def project(self, inputs: Tensor, trace: Trace | None = None) -> State:
        products = self.products(inputs, self.bias)
        self.step_kernel = ops.concatenate([self.fed_kernel, self.recurrent_kernel], axis=0)
        if trace is None:
            return products
        products = late_product(products, self.step_kernel, trace, ["fed", "before"])
        self.step_kernel = ops.stop_gradient(self.step_kernel)
        return products

    def __call__(self, x: State, fed: Tensor, state: State) -> tuple[Tensor, State]:
        cell, (before, carry) = self.cell, state
        products = x + ops.matmul(ops.concatenate([fed, before], axis=-1), self.step_kernel)
        accept, keep, candidate, out = ops.split(products, 4, axis=-1)
        carry = cell.recurrent_activation(keep) * carry + cell.recurrent_activation(accept) * cell.activation(candidate)
        new = cell.recurrent_activation(out) * cell.activation(carry)
        return new, [new, carry]


OWN_STEPS: dict[type, type[KerasCellSteps]] = {keras.layers.GRUCell: GRUSteps, keras.layers.LSTMCell: LSTMSteps}


def steps_of(cell: keras.layers.Layer, fed_size: int) -> CellSteps:
    """Returns how a cell runs over the steps of a sequence: with fewer products where its weights are known."""
    own = OWN_STEPS.get(type(cell))
    if own is None or cell.dropout or cell.recurrent_dropout or cell.dtype_policy.quantization_mode is not None:
        return CellSteps(cell)
    return own(cell, fed_size)


def late_product(added: Tensor, kernel: Tensor, trace: Trace, names: list[str]) -> Tensor:
    """Returns what a loop adds to products with a kernel; its gradient gives the kernel's, in one product.

    `y_t = z_t W + added_t` has the gradients `dW = sum_t z_t^T dy_t` and `d added_t = dy_t`. The loop reads W as a
    constant, so that no step adds to `dW`.

    Args:
        added: `[T, B, N]`.
        kernel: W, `[K, N]`.
        trace: Contains the z_t after the loop.
        names: Which tensors of the trace, joined, are z_t, `[T, B, K]`.
    """

    def gradient(upstream: Tensor) -> tuple[Tensor]:
        read = ops.concatenate([folded(trace[name]) for name in names], axis=-1)
        return (ops.cast(product(read, folded(upstream), transpose_left=True), kernel.dtype),)

    return with_later_gradient(added, (kernel,), gradient)


def folded(tensor: Tensor) -> Tensor:
    """`[T, B, K]` -> `[T B, K]`: two-dimensional products are the fastest."""
    return ops.reshape(tensor, (-1, tensor.shape[-1]))
