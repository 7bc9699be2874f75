"""Pictures of attention: heat maps, alignments, and a callback that draws them while a model trains."""

from keras_attn.plot.attention_maps import AttentionMaps
from keras_attn.plot.figures import alignment, heat_map

__all__ = ["AttentionMaps", "alignment", "heat_map"]
