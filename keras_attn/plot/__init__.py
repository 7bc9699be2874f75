"""Figures of attention: heat maps, alignments, heat maps of two texts, and a callback that draws during training."""

from keras_attn.plot.attention_maps import AttentionMaps
from keras_attn.plot.figures import alignment, heat_map
from keras_attn.plot.texts import text_attention

__all__ = ["AttentionMaps", "alignment", "heat_map", "text_attention"]
