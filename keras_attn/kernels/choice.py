"""Which kernel runs: what the caller pinned, what the user pinned for all, or what was measured to be faster."""

import sys

import keras

from keras_attn.backend import device_kind, in_xla
from keras_attn.base.tensors import short_repr, static_shape, static_size
from keras_attn.kernels.measured import BLOCKWISE_FROM, FUSED_FROM
from keras_attn.masks import Span

FORMATS = ("onnx", "openvino", "litert")  # also the names of Keras' modules that export to them
CONVERTERS = ("tf2onnx.", "jax2onnx.", "openvino.", "tensorflow.lite.")
KERNELS = ("auto", "dense", "blockwise", "fused")
UNMEASURED_BLOCKWISE_FROM = 2048**2  # scores per head, see `fastest`
pinned = {"kernel": "auto"}


def check_kernel(kernel):
    """Returns `kernel` if it is the name of one, else raises a `ValueError`."""
    if not isinstance(kernel, str) or kernel not in KERNELS:
        raise ValueError(f"`kernel` must be one of {KERNELS}. Received: kernel={short_repr(kernel)}.")
    return kernel


def choose_kernel(kernel, query, key, mask, return_scores, fused_supported, fused_linear=False, rising=True):
    """Returns the name of the kernel for queries `[B, H, T, K]` and keys `[B, H_kv, S, K]`.

    Free lengths count as short: both kernels in a graph, and the choice in the run, was
    measured to make a Transformer's tracing 2.4 times as long and short steps a third slower.
    So do lengths while the model is exported to a format that cannot hold the other kernels.

    Args:
        kernel: The name that the caller gives.
        query, key, mask, return_scores: As `keras_attn.kernels.attention`.
        fused_supported: Whether the fused kernel does what was asked.
        fused_linear: Whether its memory is then linear in length.
        rising: Whether queries and keys stand in order of their indices, the last ones side by side.
            Elsewhere it is not known before the run which keys are far.

    Raises:
        ValueError: If there is no such kernel, or scores are asked of one that has none.
    """
    if check_kernel(kernel) in ("blockwise", "fused") and return_scores:
        raise ValueError(
            f'`kernel` must be "dense" or "auto" where the scores are asked for. Received: kernel={short_repr(kernel)}.'
        )
    if return_scores:
        return "dense"
    kernel = pinned["kernel"] if kernel == "auto" else kernel
    batch_size, _, target_length, _ = static_shape(query)
    sizes = target_length, static_size(key.shape[2])
    if 0 in (*sizes, batch_size):  # nothing to cut into blocks
        return "dense"
    if kernel in ("dense", "blockwise"):
        return kernel
    number = 0 if None in sizes else sizes[0] * sizes[1]
    far = "far hidden" if number and rising and hides_far_keys(mask, *sizes) else "all"
    if kernel == "auto" and (is_symbolic(query) or is_symbolic(key) or in_converter()):
        return "dense"
    if kernel == "fused" and fused_supported:
        return "fused"
    return fastest(number, far, device_kind(query), fused_supported, fused_linear)


def fastest(number, far, device, fused_supported, fused_linear):
    """Returns the name of the kernel that is presumably the fastest on a kind of device.

    Figures of one kind of device do not hold for another, and only the CPU's were measured. The rule for
    all others, GPUs and TPUs among them, is a cautious default without measurement: the fused kernel where
    the backend has one that does what was asked, unless it would build the scores of a long sequence;
    blockwise from 2,048 x 2,048 scores per head on, which with many heads fill an accelerator's memory
    fast; else dense.

    Args:
        number: Number of scores per head, T times S; 0 where it is not static.
        far: Key of the measured tables: `"far hidden"` or `"all"`.
        device: Kind of device.
        fused_supported: Whether the fused kernel does what was asked.
        fused_linear: Whether its memory is linear in length.
    """
    mode = keras.config.backend() + ("-xla" if in_xla() else "")
    if mode in BLOCKWISE_FROM.get(device, {}):
        blockwise = number >= BLOCKWISE_FROM[device][mode][far]
        fused = number >= FUSED_FROM[device][mode][far]
    else:
        blockwise = number >= UNMEASURED_BLOCKWISE_FROM
        fused = number > 0 and (fused_linear or not blockwise)
    if fused and fused_supported:
        return "fused"
    return "blockwise" if blockwise else "dense"


def is_symbolic(tensor):
    """Whether a size is symbolic: JAX exports the model, and cannot lower the blockwise kernel's gradient then."""
    return any(size is not None and static_size(size) is None for size in tensor.shape)


def in_converter():
    """Whether the model is being traced for ONNX, OpenVINO or LiteRT, by `model.export` or by their converters.

    These formats cannot hold the loops of the blockwise kernel. The stack is the only place
    where it can be seen that Keras exports.
    """
    frame = sys._getframe()
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name.startswith(CONVERTERS) or (name.startswith("keras.") and name.rpartition(".")[2] in FORMATS):
            return True
        frame = frame.f_back
    return False


def hides_far_keys(mask, target_length, source_length):
    """Whether the mask surely hides the last third of the keys from the first third of the queries."""
    if mask is None or min(target_length, source_length) < 3:
        return False
    first = source_length - target_length  # bottom-right alignment
    span = Span(first, first + target_length // 3 - 1, source_length - source_length // 3, source_length - 1)
    return mask.spans(span)[0] is False
