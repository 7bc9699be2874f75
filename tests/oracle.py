"""An independent float64 attention in NumPy, row by row, that shares no code with the library."""

import numpy as np


def attention(query, key, value, visible=None, bias=None, scale=None, softcap=None, sinks=None):
    """Returns outputs `[B, H, T, V]` and scores `[B, H, T, S]`; empty rows are zero."""
    batch, heads, length, size = query.shape
    source_length = key.shape[2]
    scale = size**-0.5 if scale is None else scale
    shape = (batch, heads, length, source_length)
    visible = np.ones(shape, bool) if visible is None else np.broadcast_to(visible, shape)
    bias = np.zeros(shape) if bias is None else np.broadcast_to(bias, shape)
    outputs = np.zeros((batch, heads, length, value.shape[-1]))
    scores = np.zeros(shape)
    for b, h, t in np.ndindex(batch, heads, length):
        group = h * key.shape[1] // heads
        keys = np.flatnonzero(visible[b, h, t] & (bias[b, h, t] > -np.inf))
        if not len(keys):
            continue
        logits = np.array([scale * np.dot(query[b, h, t].astype("float64"), key[b, group, s]) for s in keys])
        if softcap is not None:
            logits = softcap * np.tanh(logits / softcap)
        logits = logits + bias[b, h, t, keys]
        weights = np.exp(logits - logits.max())
        sink = 0 if sinks is None else np.exp(sinks[h] - logits.max())
        scores[b, h, t, keys] = weights / (weights.sum() + sink)
        outputs[b, h, t] = sum(scores[b, h, t, s] * value[b, group, s].astype("float64") for s in keys)
    return outputs, scores


def additive(inputs, memory, weights, memory_mask):
    """Bahdanau's decoder around a GRU (reset after), step by step: outputs and scores of one row each.

    Args:
        weights: Dictionary of the arrays `W`, `V`, `v`, `kernel`, `recurrent`, `bias` (2, 3 U).
    """

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    batch, length, _ = inputs.shape
    units = weights["recurrent"].shape[0]
    outputs = np.zeros((batch, length, units + memory.shape[-1]))
    scores = np.zeros((batch, length, memory.shape[1]))
    for b in range(batch):
        state = np.zeros(units)
        for t in range(length):
            energies = np.array([weights["v"] @ np.tanh(state @ weights["W"] + h @ weights["V"]) for h in memory[b]])
            exponents = np.where(memory_mask[b], np.exp(energies - energies.max()), 0)
            scores[b, t] = exponents / max(exponents.sum(), 1e-300)
            context = scores[b, t] @ memory[b]
            x = np.concatenate([inputs[b, t], context]) @ weights["kernel"] + weights["bias"][0]
            r = state @ weights["recurrent"] + weights["bias"][1]
            (xz, xr, xh), (rz, rr, rh) = np.split(x, 3), np.split(r, 3)
            z, reset = sigmoid(xz + rz), sigmoid(xr + rr)
            state = z * state + (1 - z) * np.tanh(xh + reset * rh)
            outputs[b, t] = np.concatenate([state, context])
    return outputs, scores
