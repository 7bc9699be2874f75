"""Measured thresholds for the choice of a kernel, written by `python benchmarks/attention.py --tune`.

A threshold is the smallest number of scores per head, T times S, at which a kernel is faster than the dense one in
a training step. The keys are the kind of device, the backend (with or without XLA), and whether the mask hides far
keys, as causal masks and windows do.
"""

from __future__ import annotations

from typing import TypeAlias

Thresholds: TypeAlias = dict[str, dict[str, dict[str, float]]]

NEVER = float("inf")
BLOCKWISE_FROM: Thresholds = {
    "cpu": {
        "tensorflow": {"far hidden": 1024**2, "all": 3072**2},
        "tensorflow-xla": {"far hidden": 1024**2, "all": 4096**2},
        "jax-xla": {"far hidden": 768**2, "all": 256**2},
        "torch": {"far hidden": 1024**2, "all": 2048**2},
    },
}
FUSED_FROM: Thresholds = {
    "cpu": {
        "tensorflow": {"far hidden": NEVER, "all": NEVER},
        "tensorflow-xla": {"far hidden": NEVER, "all": NEVER},
        "jax-xla": {"far hidden": NEVER, "all": NEVER},
        "torch": {"far hidden": 512**2, "all": 2048**2},
    },
}
