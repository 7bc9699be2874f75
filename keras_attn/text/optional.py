"""The optional packages of some tokenizers, which may be imported while TensorFlow traces a function."""

from __future__ import annotations

from types import ModuleType

import tensorflow as tf

from keras_attn.base.optional import optional_module


@tf.autograph.experimental.do_not_convert  # AutoGraph would transform the import
def text_module(name: str) -> ModuleType:
    """Returns a module of a package that the extra `text` installs."""
    return optional_module(name, "text")
