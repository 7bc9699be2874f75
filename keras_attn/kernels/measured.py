"""What `python benchmarks/attention.py --tune` measured; written by it.

Scores per head, T times S, from which blockwise is the faster in a training step: where the
mask hides far keys (causal, windows), and where it does not.
"""

BLOCKWISE_FROM_FAR_HIDDEN = 1536 * 1536
BLOCKWISE_FROM = 4096 * 4096
