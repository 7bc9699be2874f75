"""The packages that some tokenizers need; tokenizers ask for them while TensorFlow traces a function, too."""

import tensorflow as tf

from keras_attn.base.optional import optional_module


@tf.autograph.experimental.do_not_convert  # AutoGraph would transform the import
def text_module(name):
    """Returns a module of one of the packages that the extra `text` installs."""
    return optional_module(name, "text")
