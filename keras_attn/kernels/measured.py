"""What `python benchmarks/attention.py --tune` measured; written by it.

Scores per head, T times S, from which blockwise is the faster in a training step: where the
mask hides half of the tiles or more, and where it does not.
"""

BLOCKWISE_FROM_HALF_HIDDEN = 1536 * 1536
BLOCKWISE_FROM = 4096 * 4096
