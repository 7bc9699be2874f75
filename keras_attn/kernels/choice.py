"""Chooses the kernel: the one passed by the caller, the one set for all calls, or the one measured to be faster."""

from __future__ import annotations

import sys
from types import FrameType

import keras

from keras_attn.backend import device_kind, in_xla
from keras_attn.base.tensors import short_repr, static_shape, static_size
from keras_attn.base.types import Tensor
from keras_attn.kernels.measured import BLOCKWISE_FROM, FUSED_FROM
from keras_attn.masks import Mask, Rectangle

FORMATS = ("onnx", "openvino", "litert")  # also the names of Keras' modules that export to them
CONVERTERS = ("tf2onnx.", "jax2onnx.", "openvino.", "tensorflow.lite.")
KERNELS = ("auto", "dense", "blockwise", "fused")
UNMEASURED_BLOCKWISE_FROM = 2048**2  # scores per head, see `fastest`
pinned = {"kernel": "auto"}


def check_kernel(kernel: str) -> str:
    """Returns `kernel` if it is the name of a kernel, else raises a `ValueError`."""
    if not isinstance(kernel, str) or kernel not in KERNELS:
        raise ValueError(f"`kernel` must be one of {KERNELS}. Received: kernel={short_repr(kernel)}.")
    return kernel


def choose_kernel(
    kernel: str,
    query: Tensor,
    key: Tensor,
    mask: Mask | None,
    return_scores: bool,
    fused_supported: bool,
    fused_linear: bool = False,
    rising: bool = True,
) -> str:
    """Returns the name of the kernel for queries `[B, H, T, K]` and keys `[B, H_kv, S, K]`.

    Lengths that are not static count as short. A graph that contains both kernels and chooses at run time was
    measured: tracing a Transformer took 2.4 times as long, and short steps were a third slower. All lengths
    count as short while the model is exported to a format that does not support the other kernels.

    Args:
        kernel: The name passed by the caller.
        query, key, mask, return_scores: As for `keras_attn.kernels.attention`.
        fused_supported: Whether the fused kernel supports the options of the call.
        fused_linear: Whether the fused kernel's memory is linear in length for this call.
        rising: Whether the indices of queries and keys increase, and the last query has the index of the last
            key. Otherwise it is not known before run time which keys are far.

    Raises:
        ValueError: For an unknown kernel, or a kernel that cannot return the scores.
    """
    if check_kernel(kernel) in ("blockwise", "fused") and return_scores:
        raise ValueError(
            f'`kernel` must be "dense" or "auto" if the scores are returned. Received: kernel={short_repr(kernel)}.'
        )
    if return_scores:
        return "dense"
    kernel = pinned["kernel"] if kernel == "auto" else kernel
    batch_size, _, target_length, _ = static_shape(query)
    source_length = static_size(key.shape[2])
    if 0 in (batch_size, target_length, source_length):  # nothing to cut into blocks
        return "dense"
    if kernel in ("dense", "blockwise"):
        return kernel
    number, far = 0, "all"
    if target_length is not None and source_length is not None:
        number = target_length * source_length
        far = "far hidden" if rising and hides_far_keys(mask, target_length, source_length) else "all"
    if kernel == "auto" and (is_symbolic(query) or is_symbolic(key) or in_converter()):
        return "dense"
    if kernel == "fused" and fused_supported:
        return "fused"
    return fastest(number, far, device_kind(query), fused_supported, fused_linear)


def fastest(number: int, far: str, device: str, fused_supported: bool, fused_linear: bool) -> str:
    """Returns the name of the kernel that is expected to be the fastest on a kind of device.

    Measurements on one kind of device do not apply to another, and only the CPU was measured. The rule for
    all others, such as GPUs and TPUs, is a cautious default without measurement: the fused kernel if the
    backend has one that supports the options, unless it would build the scores of a long sequence;
    blockwise from 2,048 x 2,048 scores per head on, which with many heads soon fill an accelerator's
    memory; otherwise dense.

    Args:
        number: Number of scores per head, T times S; 0 if it is not static.
        far: Key of the measured tables: `"far hidden"` or `"all"`.
        device: Kind of device.
        fused_supported: Whether the fused kernel supports the options of the call.
        fused_linear: Whether the fused kernel's memory is linear in length.
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


def is_symbolic(tensor: Tensor) -> bool:
    """Returns whether a size is symbolic, as in JAX exports, which cannot lower the blockwise kernel's gradient."""
    return any(size is not None and static_size(size) is None for size in tensor.shape)


def in_converter() -> bool:
    """Returns whether `model.export` or a converter traces the model for ONNX, OpenVINO or LiteRT.

    These formats do not support the loops of the blockwise kernel. Only the call stack shows
    that Keras is exporting.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name.startswith(CONVERTERS) or (name.startswith("keras.") and name.rpartition(".")[2] in FORMATS):
            return True
        frame = frame.f_back
    return False


def hides_far_keys(mask: Mask | None, target_length: int, source_length: int) -> bool:
    """Returns whether the mask is known to hide the last third of the keys from the first third of the queries."""
    if mask is None or min(target_length, source_length) < 3:
        return False
    first = source_length - target_length  # bottom-right alignment
    last = first + target_length // 3 - 1
    any_visible, _ = mask.coverage(Rectangle(first, last, source_length - source_length // 3, source_length - 1))
    return any_visible is False
