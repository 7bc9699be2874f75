"""Training batches from pairs of texts or ids: reading, encoding, layout in rows, shuffling, sharding."""

from keras_attn.data.batches import Batches
from keras_attn.data.buckets import boundaries
from keras_attn.data.encoding import encode
from keras_attn.data.following import FollowEpochs
from keras_attn.data.layouts import Bucketed, Layout, Packed, Padded
from keras_attn.data.limits import CutLonger, DropLonger
from keras_attn.data.pairs import Pairs
from keras_attn.data.readers import Ids, Tsv
from keras_attn.data.report import Report
from keras_attn.data.statistics import Stats, stats
from keras_attn.data.teacher_forcing import teacher_forcing

__all__ = [
    "Batches",
    "Bucketed",
    "CutLonger",
    "DropLonger",
    "FollowEpochs",
    "Ids",
    "Layout",
    "Packed",
    "Padded",
    "Pairs",
    "Report",
    "Stats",
    "Tsv",
    "boundaries",
    "encode",
    "stats",
    "teacher_forcing",
]
