"""Settings for the whole process."""

import contextlib

from keras_attn.kernels.choice import check_kernel, pinned


def set_kernel(kernel):
    """Pins the kernel of all attention whose layer or call leaves it at `"auto"`.

    Where scores are asked for, `"dense"` runs all the same: no other kernel has them. A compiled
    function keeps the kernel that was pinned when it was traced.

    Args:
        kernel: `"auto"`, `"dense"`, `"blockwise"` or `"fused"` (see `kernels.attention`).

    Returns:
        A context manager, to be used or not: on exit it pins again what was pinned before the call.

    Raises:
        ValueError: If there is no such kernel.

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


def kernel():
    """Returns the kernel that `set_kernel` pinned, or `"auto"`."""
    return pinned["kernel"]


class _PinnedKernel(contextlib.AbstractContextManager):
    """Pins the kernel `before` on exit."""

    def __init__(self, before):
        self.before = before

    def __exit__(self, *exception):
        pinned["kernel"] = self.before
