"""The equations of the papers in NumPy and float64: one row, one step, one position after the other."""

import numpy as np
from keras import ops


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log1p(np.exp(x))


def array(variable):
    return ops.convert_to_numpy(variable).astype("float64")


def additive(score):
    """Bahdanau et al. 2015, and the normalised form of Raffel et al. 2017."""
    query_kernel, memory_kernel, v = (
        array(score.query_projection.kernel),
        array(score.memory_projection.kernel),
        array(score.v),
    )
    b = 0
    if score.normalize:
        v, b = array(score.scale) * v / np.sqrt((v**2).sum()), array(score.query_projection.bias)
    return lambda s, h, previous, summed: np.array(
        [v @ np.tanh(s @ query_kernel + each @ memory_kernel + b) for each in h]
    )


def dot(score):
    """Luong et al. 2015, "dot"."""
    g = array(score.scale) if score.use_scale else 1
    return lambda s, h, previous, summed: np.array([g * s @ each for each in h])


def general(score):
    """Luong et al. 2015, "general"."""
    kernel, g = array(score.memory_projection.kernel), array(score.scale) if score.use_scale else 1
    return lambda s, h, previous, summed: np.array([g * s @ (each @ kernel) for each in h])


def location(score):
    """Chorowski et al. 2015; Tacotron 2 with the summed weights. The filters are centred, with zeros outside."""
    query_kernel, memory_kernel, v = (
        array(score.query_projection.kernel),
        array(score.memory_projection.kernel),
        array(score.v),
    )
    b, projection, filters = (
        array(score.query_projection.bias),
        array(score.location_projection),
        array(score.location_kernel)[:, 0],
    )
    half = len(filters) // 2

    def energies(s, h, previous, summed):
        a = summed if score.cumulative else previous
        found = []
        for j, each in enumerate(h):
            f = sum(filters[k] * a[j + k - half] for k in range(len(filters)) if 0 <= j + k - half < len(a))
            found.append(v @ np.tanh(s @ query_kernel + each @ memory_kernel + f @ projection + b))
        return np.array(found)

    return energies


def coverage(score):
    """See et al. 2017."""
    query_kernel, memory_kernel, v = (
        array(score.query_projection.kernel),
        array(score.memory_projection.kernel),
        array(score.v),
    )
    b, kernel = array(score.query_projection.bias), array(score.coverage_kernel)
    return lambda s, h, previous, summed: np.array(
        [
            v @ np.tanh(s @ query_kernel + each @ memory_kernel + c * kernel + b)
            for each, c in zip(h, summed, strict=True)
        ]
    )


def softmax(e, mask):
    p = np.where(mask, np.exp(e - e.max()), 0)
    return p / p.sum() if p.sum() else p


class Softmax:
    """Bahdanau et al. 2015."""

    def __init__(self, alignment, h, mask, training):
        self.mask = mask

    def align(self, e, query, index):
        return softmax(e, self.mask)


class Monotonic:
    """Raffel et al. 2017: equation 9, the sum over all ways to get to a position; hard decisions outside training."""

    def __init__(self, alignment, h, mask, training):
        self.r, self.mask, self.training = array(alignment.r), mask, training
        self.stops = np.zeros(len(mask))
        self.stops[np.argmax(mask)] = mask.any()

    def stop(self, e):
        p = np.where(self.mask, sigmoid(e + self.r) if self.training else e + self.r > 0, 0)
        last, self.stops = self.stops, np.zeros(len(p))
        for j in range(len(p)):
            for k in range(j + 1):
                self.stops[j] += p[j] * last[k] * np.prod(1 - p[k:j])
        return self.stops

    def align(self, e, query, index):
        return self.stop(e)


class Chunkwise(Monotonic):
    """Chiu and Raffel 2018: the softmax over the w positions that end at the stop."""

    def __init__(self, alignment, h, mask, training):
        super().__init__(alignment, h, mask, training)
        self.score, self.w, self.h = additive(alignment.chunk_score), alignment.chunk_size, h

    def align(self, e, query, index):
        stops, u = self.stop(e), self.score(query, self.h, None, None)
        weights = np.zeros(len(u))
        for k, stop in enumerate(stops):
            window = slice(max(0, k - self.w + 1), k + 1)
            weights[window] += stop * softmax(u[window], self.mask[window])
        return weights


class Forward:
    """Zhang et al. 2018, algorithm 1."""

    def __init__(self, alignment, h, mask, training):
        self.mask, self.a = mask, np.zeros(len(mask))
        self.a[np.argmax(mask)] = mask.any()

    def align(self, e, query, index):
        y, last = softmax(e, self.mask), self.a
        self.a = np.array([(last[n] + (last[n - 1] if n else 0)) * y[n] for n in range(len(y))])
        self.a /= max(self.a.sum(), 1e-300)
        return self.a


class Mixture:
    """Graves 2013 in the form V2b of Battenberg et al. 2020."""

    def __init__(self, alignment, h, mask, training):
        self.hidden = array(alignment.hidden_projection.kernel), array(alignment.hidden_projection.bias)
        self.last = array(alignment.mixture_projection.kernel), array(alignment.mixture_projection.bias)
        self.mask, self.means = mask, 0

    def align(self, e, query, index):
        w, d, s = np.split(np.tanh(query @ self.hidden[0] + self.hidden[1]) @ self.last[0] + self.last[1], 3)
        w, d, s = np.exp(w) / np.exp(w).sum(), softplus(d), softplus(s)
        self.means = self.means + d
        j = np.cumsum(self.mask)[:, None]
        return self.mask * (w * np.exp(-((j - self.means) ** 2) / (2 * s**2)) / np.sqrt(2 * np.pi * s**2)).sum(-1)


class Local:
    """Luong et al. 2015, local-m."""

    def __init__(self, alignment, h, mask, training):
        self.mask, self.size, self.j = mask, alignment.size, np.cumsum(mask) - 1
        self.alignment = alignment

    def align(self, e, query, index):
        return softmax(e, self.mask & (abs(self.j - index) <= self.size))


class Predicted(Local):
    """Luong et al. 2015, local-p."""

    def align(self, e, query, index):
        p = np.tanh(query @ array(self.alignment.hidden_projection.kernel)) @ array(
            self.alignment.position_projection.kernel
        )
        p = self.mask.sum() * sigmoid(p)
        spread = self.size / 2
        return super().align(e, query, p) * np.exp(-((self.j - p) ** 2) / (2 * spread**2))


SCORES = {
    "AdditiveScore": additive,
    "DotScore": dot,
    "MultiplicativeScore": general,
    "LocationSensitiveScore": location,
    "CoverageScore": coverage,
}
ALIGNMENTS = {
    "SoftmaxAlignment": Softmax,
    "Monotonic": Monotonic,
    "MonotonicChunkwise": Chunkwise,
    "ForwardAlignment": Forward,
    "GaussianMixture": Mixture,
    "LocalWindow": Local,
    "PredictedWindow": Predicted,
}


def decode(layer, inputs, memory, memory_mask, training=False):
    """The whole decoder around a `SimpleRNNCell`: outputs `[B, T, O]` and weights `[B, T, S]`."""
    kernel, recurrent, bias = (
        array(each) for each in (layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias)
    )
    luong = hasattr(layer, "output_projection")
    score = layer.score and SCORES[type(layer.score).__name__](layer.score)
    outputs, weights = [], []
    for x, h, mask in zip(inputs.astype("float64"), memory.astype("float64"), memory_mask, strict=True):
        h = h * mask[:, None]
        alignment = ALIGNMENTS[type(layer.alignment).__name__](layer.alignment, h, mask, training)
        s, summed, previous, fed = (
            np.zeros(len(recurrent)),
            np.zeros(len(h)),
            np.zeros(len(h)),
            np.zeros(layer.cell.units),
        )
        for index, each in enumerate(x):
            if luong:
                s = np.tanh(np.concatenate([each, fed]) @ kernel + s @ recurrent + bias)
            previous = alignment.align(score and score(s, h, previous, summed), s, index)
            summed = summed + previous
            c = previous @ h
            if luong:
                fed = np.tanh(np.concatenate([c, s]) @ array(layer.output_projection.kernel))
            else:
                s = np.tanh(np.concatenate([each, c]) @ kernel + s @ recurrent + bias)
            outputs.append(fed if luong else np.concatenate([s, c]))
            weights.append(previous)
    shape = inputs.shape[:2]
    return np.reshape(outputs, (*shape, -1)), np.reshape(weights, (*shape, -1))
