"""Settings for the whole process."""

from keras_attn.kernels.choice import check_kernel, pinned


def set_kernel(kernel):
    """Pins the kernel of all attention whose layer or call leaves it at `"auto"`.

    Where scores are asked for, `"dense"` runs all the same: no other kernel has them.

    Args:
        kernel: `"auto"`, `"dense"`, `"blockwise"` or `"fused"` (see `kernels.attention`).

    Raises:
        ValueError: If there is no such kernel.

    Example:
    >>> from keras_attn import config
    >>> config.set_kernel("blockwise")
    >>> config.kernel()
    'blockwise'
    >>> config.set_kernel("auto")
    """
    pinned["kernel"] = check_kernel(kernel)


def kernel():
    """Returns the kernel that `set_kernel` pinned, or `"auto"`."""
    return pinned["kernel"]
