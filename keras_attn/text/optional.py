"""Packages that are only installed by those who want what stands on them."""

import importlib

import tensorflow as tf


@tf.autograph.experimental.do_not_convert
def optional_module(name):
    """Returns a module of a package that is not installed by default."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f'`{name}` is needed here: pip install "keras-attn[text]".') from error
