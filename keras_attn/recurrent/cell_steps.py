"""How a cell runs inside the loop: Keras' own GRU and LSTM cells with the products over the inputs taken out of it."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.base.types import State, Tensor


class CellSteps:
    """Any cell: it reads `[x ; fed]` at each step.

    Args:
        cell: The cell, built.
    """

    def __init__(self, cell: keras.layers.Layer) -> None:
        self.cell = cell

    def project(self, inputs: Tensor) -> Tensor:
        """Returns what the steps read of all inputs `[B, T, D]`, `[B, T, ...]`."""
        return inputs

    def __call__(self, x: Tensor, fed: Tensor, state: State) -> tuple[Tensor, State]:
        """Computes one step.

        Args:
            x: What `project` returned of the step, `[B, ...]`.
            fed: What the cell reads besides its input, `[B, F]`.
            state: The state of the cell.

        Returns:
            The outputs `[B, units]` and the new state.
        """
        return self.cell(ops.concatenate([x, fed], axis=-1), state)


class OwnSteps(CellSteps):
    """A cell of Keras whose weights are known: `W [x ; fed] = W_x x + W_f fed`, with `W_x x` of all steps at once.

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

    def input_bias(self) -> Tensor | None:
        """Returns what is added to the products of the inputs, or None."""
        return self.bias

    def project(self, inputs: Tensor) -> Tensor:
        batch, length, size = ops.shape(inputs)
        products = ops.matmul(ops.reshape(inputs, (-1, size)), self.input_kernel)  # two-dimensional: faster
        bias = self.input_bias()
        products = products if bias is None else products + bias
        return ops.reshape(products, (batch, length, self.input_kernel.shape[1]))


class GRUSteps(OwnSteps):
    """`keras.layers.GRUCell`."""

    def input_bias(self) -> Tensor | None:
        return self.bias[0] if self.bias is not None and self.cell.reset_after else self.bias

    def __call__(self, x: Tensor, fed: Tensor, state: State) -> tuple[Tensor, State]:
        cell, units = self.cell, self.cell.units
        before = state[0]
        x = x + ops.matmul(fed, self.fed_kernel)
        gates, candidate = x[:, : 2 * units], x[:, 2 * units :]
        if cell.reset_after:
            inner = ops.matmul(before, self.recurrent_kernel)
            if self.bias is not None:
                inner = inner + self.bias[1]
            gates = cell.recurrent_activation(gates + inner[:, : 2 * units])
            update, reset = gates[:, :units], gates[:, units:]
            candidate = candidate + reset * inner[:, 2 * units :]
        else:
            gates = gates + ops.matmul(before, self.recurrent_kernel[:, : 2 * units])
            gates = cell.recurrent_activation(gates)
            update, reset = gates[:, :units], gates[:, units:]
            candidate = candidate + ops.matmul(reset * before, self.recurrent_kernel[:, 2 * units :])
        candidate = cell.activation(candidate)
        new = candidate + update * (before - candidate)
        return new, [new]


class LSTMSteps(OwnSteps):
    """`keras.layers.LSTMCell`."""

    def __init__(self, cell: keras.layers.Layer, fed_size: int) -> None:
        super().__init__(cell, fed_size)
        self.step_kernel = ops.concatenate([self.fed_kernel, self.recurrent_kernel], axis=0)

    def __call__(self, x: Tensor, fed: Tensor, state: State) -> tuple[Tensor, State]:
        cell, units = self.cell, self.cell.units
        before, carry = state
        gates = x + ops.matmul(ops.concatenate([fed, before], axis=-1), self.step_kernel)
        keep = cell.recurrent_activation(gates[:, : 2 * units])
        candidate = cell.activation(gates[:, 2 * units : 3 * units])
        out = cell.recurrent_activation(gates[:, 3 * units :])
        carry = keep[:, units:] * carry + keep[:, :units] * candidate
        new = out * cell.activation(carry)
        return new, [new, carry]


OWN_STEPS: dict[type, type[OwnSteps]] = {
    keras.layers.GRUCell: GRUSteps,
    keras.layers.LSTMCell: LSTMSteps,
}


def steps_of(cell: keras.layers.Layer, fed_size: int) -> CellSteps:
    """Returns how a cell runs over the steps of a sequence: with fewer products where its weights are known."""
    own = OWN_STEPS.get(type(cell))
    if own is None or cell.dropout or cell.recurrent_dropout or cell.dtype_policy.quantization_mode is not None:
        return CellSteps(cell)
    return own(cell, fed_size)
