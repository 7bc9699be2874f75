"""Layers of Keras whose arithmetic is that of the backend: norms and dropout."""
