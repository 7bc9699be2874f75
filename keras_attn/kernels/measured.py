"""What `python benchmarks/attention.py --tune` measured; written by it."""

BLOCKWISE_FROM = 1024 * 1024  # scores per head, T times S, from which blockwise is the faster
