"""Settings for the whole process."""

from __future__ import annotations

import contextlib

from keras_attn.kernels.choice import check_kernel, pinned


def set_kernel(kernel: str) -> contextlib.AbstractContextManager[object]:
    """Sets the kernel of all attention layers and calls whose `kernel` is `"auto"`.

    If scores are requested, `"dense"` always runs, because no other kernel returns them. A compiled
    function keeps the kernel that was set when it was traced.

    Args:
        kernel: `"auto"`, `"dense"`, `"blockwise"` or `"fused"` (see `kernels.attention`).

    Returns:
        A context manager that restores the previous kernel on exit. Its use is optional.

    Raises:
        ValueError: If no kernel has this name.

    Example:
    >>> from keras_attn import config
    >>> with config.set_kernel("blockwise"):
    ...     config.kernel()
    'blockwise'
    >>> config.kernel()
    'auto'
    """
    before = pinned["kernel"]
    pinned["kernel"] = check_kernel(kernel)
    return _PinnedKernel(before)


def kernel() -> str:
    """Returns the kernel that `set_kernel` has set, or `"auto"`."""
    return pinned["kernel"]


class _PinnedKernel(contextlib.AbstractContextManager[object]):
    """Restores the kernel `before` on exit."""

    def __init__(self, before: str) -> None:
        self.before = before

    def __exit__(self, *exception: object) -> None:
        pinned["kernel"] = self.before
