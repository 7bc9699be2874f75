"""Pretrained models from local folders."""

from keras_attn.pretrained.loading import Pretrained, load

__all__ = ["Pretrained", "load"]
