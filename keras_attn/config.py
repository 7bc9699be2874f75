"""Settings for the whole process."""

from __future__ import annotations

import contextlib

from keras_attn.kernels.choice import check_kernel, pinned


def set_kernel(kernel: str) -> contextlib.AbstractContextManager[object]:
    """Sets the kernel of all attention whose layer or call leaves it at `"auto"`.

    Where scores are requested, `"dense"` runs in any case, as no other kernel returns them. A compiled
    function keeps the kernel that was set when it was traced.

    Args:
        kernel: `"auto"`, `"dense"`, `"blockwise"` or `"fused"` (see `kernels.attention`).

    Returns:
        A context manager that restores the previous kernel on exit; it need not be used.

    Raises:
        ValueError: If there is no kernel of this name.

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
