"""What `python benchmarks/attention.py --tune` measured; written by it.

Numbers of scores per head, T times S, from which a kernel is the faster one in a training
step, by kind of device, by backend (under XLA or not) and by what the mask hides: far keys
(causal, windows), or not that.
"""

NEVER = float("inf")
BLOCKWISE_FROM = {
    "cpu": {
        "tensorflow": {"far hidden": 1024**2, "all": 3072**2},
        "tensorflow-xla": {"far hidden": 1024**2, "all": 4096**2},
        "jax-xla": {"far hidden": 768**2, "all": 256**2},
        "torch": {"far hidden": 1024**2, "all": 2048**2},
    },
}
FUSED_FROM = {
    "cpu": {
        "tensorflow": {"far hidden": NEVER, "all": NEVER},
        "tensorflow-xla": {"far hidden": NEVER, "all": NEVER},
        "jax-xla": {"far hidden": NEVER, "all": NEVER},
        "torch": {"far hidden": 512**2, "all": 2048**2},
    },
}
