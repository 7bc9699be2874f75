"""The model Unigram: the pieces of a word with the best sum of scores.

SentencePiece sums in single precision, `tokenizers` in double, and equal sums are frequent ("aaaa"). So the search
is a graph of core operations in double precision: all pieces from all places of all words first, by a trie, then
the best way to each place, in all words at once, and back.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_attn.text.tokenizer_json.byte_level import in_utf8
from keras_attn.text.tokenizer_json.byte_tokens import byte_ids
from keras_attn.text.tokenizer_json.fields import REQUIRED, Section, read, refuse
from keras_attn.text.tokenizer_json.pieces import Pieces
from keras_attn.text.tokenizer_json.segments import Segments, moved, row_numbers, spread
from keras_attn.text.tokenizer_json.sentence_pieces import copied

UNKNOWN_PENALTY = 10.0
BITS = 21  # of a code point


class Unigram(tf.Module):
    """The pieces of words.

    Args:
        section: The section `model` of a tokenizer.json.
        dtype: The dtype of sums of scores.
    """

    def __init__(self, section: Section, dtype: str = "float64") -> None:
        super().__init__()
        fields = read(section, "model", vocab=REQUIRED, unk_id=REQUIRED, byte_fallback=False)
        self.unknown: int | None = fields["unk_id"]
        if not isinstance(self.unknown, int):
            refuse("model.unk_id", self.unknown, "be given")
        self.vocabulary = {token: number for number, (token, _) in enumerate(fields["vocab"])}
        ids_of_bytes = byte_ids(self.vocabulary) if fields["byte_fallback"] else None
        self._bytes = None if ids_of_bytes is None else np.array(ids_of_bytes, "int32")
        scores = [float(score) for _, score in fields["vocab"]]
        steps, ids = trie(self.vocabulary)
        self._ids = np.array(ids, "int32")  # of each state of the trie
        self._scores = np.array([0.0 if number < 0 else scores[number] for number in ids], dtype)
        self._unknown_score = min(scores) - UNKNOWN_PENALTY
        keys = np.array(list(steps), "int64")
        values = np.array(list(steps.values()), "int32")
        self._steps = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1)

    def prepare(self, words: Segments) -> Segments:
        """Returns the words as they are."""
        return words

    def pieces(self, words: Segments, offsets: bool) -> Pieces:
        """Returns the pieces of each word, of equal words once; neighbours that are unknown are one piece, or bytes."""
        _, place = tf.unique(words.strings())
        number = tf.reduce_max(tf.concat([place, [-1]], 0)) + 1
        first = tf.math.unsorted_segment_min(tf.range(tf.size(place)), place, number)
        codes, splits = copied([words.codes], words.splits, first)
        ids, starts, piece_splits = self._best(codes, splits)
        rows = row_numbers(piece_splits, tf.size(ids))
        begins = starts - tf.gather(splits, rows)
        behind = tf.concat([starts[1:], [tf.size(codes)]], 0)
        ends = tf.minimum(behind, tf.gather(splits, rows + 1)) - tf.gather(splits, rows)
        if self._bytes is not None:
            ids, piece_splits, begins, ends = self._in_bytes(codes, starts, ids, piece_splits, begins, ends)
        ids, new_splits, begins, ends = copied([ids, begins, ends], piece_splits, place)
        return Pieces(ids, new_splits, begins, ends)

    def _in_bytes(
        self, codes: tf.Tensor, starts: tf.Tensor, ids: tf.Tensor, splits: tf.Tensor, begins: tf.Tensor, ends: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Returns ids, row splits and ranges after each unknown piece has become the tokens of its bytes."""
        counts = tf.where(tf.equal(ids, self.unknown), ends - begins, 1)
        source, place = spread(counts)
        unknown = tf.equal(tf.gather(ids, source), self.unknown)
        sizes, code, byte = in_utf8(tf.gather(codes, tf.gather(starts, source) + place), unknown)
        of_bytes = tf.gather(tf.constant(self._bytes), tf.where(tf.gather(unknown, code), byte, 0))
        piece = tf.gather(source, code)
        new = tf.where(tf.gather(unknown, code), of_bytes, tf.gather(ids, piece))
        splits = moved(moved(splits, counts), sizes)
        return new, splits, tf.gather(begins, piece), tf.gather(ends, piece)

    def _best(self, codes: tf.Tensor, splits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns of words the ids of their best pieces, where each starts among all code points, and row splits."""
        starts, sizes, ids, scores = self._edges(codes, splits)
        words = row_numbers(splits, tf.size(codes))
        word = tf.gather(words, starts)
        depth = starts + sizes - tf.gather(splits, word)  # the end of each in its word
        order = tf.argsort(tf.cast(depth, tf.int64) * (tf.size(codes, tf.int64) + 1) + tf.cast(starts, tf.int64))
        starts, sizes, ids, scores, word, depth = (
            tf.gather(each, order) for each in (starts, sizes, ids, scores, word, depth)
        )
        came_by = search(starts, scores, word, depth, splits)
        chosen = walked_back(starts, came_by, splits)
        at = tf.scatter_nd(tf.gather(starts, chosen)[:, None], chosen + 1, [tf.size(codes)])  # in the order of the text
        begins = tf.cast(tf.where(at > 0)[:, 0], tf.int32)
        ids = tf.gather(ids, tf.gather(at, begins) - 1)
        rows = tf.gather(words, begins)
        unknown = tf.equal(ids, self.unknown)
        again = tf.logical_and(unknown, tf.logical_and(tf.roll(unknown, 1, 0), tf.equal(rows, tf.roll(rows, 1, 0))))
        kept = tf.logical_or(tf.logical_not(again), tf.range(tf.size(ids)) < 1)
        ids, begins, rows = (tf.boolean_mask(each, kept) for each in (ids, begins, rows))
        return ids, begins, tf.searchsorted(begins, splits)

    def _edges(self, codes: tf.Tensor, splits: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns all pieces in words: where they start, their sizes, ids and scores."""
        limit = tf.gather(splits, row_numbers(splits, tf.size(codes)) + 1)
        places = tf.range(tf.size(codes))
        none = tf.zeros([0], tf.int32)

        def longer(size: tf.Tensor, at: tf.Tensor, state: tf.Tensor, *found: tf.Tensor) -> tuple[tf.Tensor, ...]:
            key = tf.bitwise.left_shift(tf.cast(state, tf.int64), BITS) + tf.cast(tf.gather(codes, at + size), tf.int64)
            state = self._steps.lookup(key)
            at, state = tf.boolean_mask(at, state >= 0), tf.boolean_mask(state, state >= 0)
            size += 1
            ends = tf.gather(tf.constant(self._ids), state) >= 0
            new = tf.boolean_mask(at, ends), tf.fill([tf.reduce_sum(tf.cast(ends, tf.int32))], size)
            joined = [tf.concat(pair, 0) for pair in zip(found, (*new, tf.boolean_mask(state, ends)), strict=True)]
            more = at + size < tf.gather(limit, at)
            return size, tf.boolean_mask(at, more), tf.boolean_mask(state, more), *joined

        _, _, _, starts, sizes, states = tf.while_loop(
            lambda size, at, *_: tf.size(at) > 0,
            longer,
            (tf.constant(0), places, tf.zeros_like(places), none, none, none),
            shape_invariants=(tf.TensorShape([]), *[tf.TensorShape([None])] * 5),
        )
        single = tf.scatter_nd(
            tf.boolean_mask(starts, tf.equal(sizes, 1))[:, None],
            tf.boolean_mask(tf.ones_like(starts), tf.equal(sizes, 1)),
            [tf.size(codes)],
        )
        lone = tf.boolean_mask(places, tf.equal(single, 0))
        ids, scores = tf.gather(tf.constant(self._ids), states), tf.gather(tf.constant(self._scores), states)
        return (
            tf.concat([starts, lone], 0),
            tf.concat([sizes, tf.ones_like(lone)], 0),
            tf.concat([ids, tf.fill(tf.shape(lone), self.unknown)], 0),
            tf.concat([scores, tf.fill(tf.shape(lone), tf.constant(self._unknown_score, self._scores.dtype))], 0),
        )


def trie(vocabulary: dict[str, int]) -> tuple[dict[int, int], list[int]]:
    """Returns the steps of a trie, by state and code point, and the id of the token that ends in each state, or -1."""
    steps: dict[int, int] = {}
    ids = [-1]
    for token, number in vocabulary.items():
        state = 0
        for character in token:
            key = (state << BITS) + ord(character)
            state = steps.setdefault(key, len(ids))
            if state == len(ids):
                ids.append(-1)
        if state:
            ids[state] = number
    return steps, ids


def search(starts: tf.Tensor, scores: tf.Tensor, word: tf.Tensor, depth: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
    """Returns the last piece of the best way to each end in words, `[C]` by the code point before the end.

    Pieces are sorted by their `depth`, the end in their word, then by their start; of equal ways the first counts.
    """
    num_words = tf.size(splits) - 1
    sizes = splits[1:] - splits[:-1]
    begins = tf.searchsorted(depth, tf.range(tf.reduce_max(tf.concat([sizes, [0]], 0)) + 2))

    def deeper(level: tf.Tensor, best: tf.Tensor, came_by: tf.Tensor) -> tuple[tf.Tensor, ...]:
        each = tf.range(begins[level], begins[level + 1])
        here, owner = tf.gather(starts, each), tf.gather(word, each)
        inside = here > tf.gather(splits, owner)
        before = tf.where(inside, tf.gather(best, tf.maximum(here - 1, 0)), tf.zeros([], scores.dtype))
        total = tf.gather(scores, each) + before
        most = tf.math.unsorted_segment_max(total, owner, num_words)
        ties = tf.where(tf.equal(total, tf.gather(most, owner)), each, tf.int32.max)
        first = tf.math.unsorted_segment_min(ties, owner, num_words)
        active = tf.cast(tf.where(sizes >= level)[:, 0], tf.int32)
        ends = (tf.gather(splits, active) + level - 1)[:, None]
        best = tf.tensor_scatter_nd_update(best, ends, tf.gather(most, active))
        return level + 1, best, tf.tensor_scatter_nd_update(came_by, ends, tf.gather(first, active))

    size = splits[-1]
    state = (tf.constant(1), tf.zeros([size], scores.dtype), tf.zeros([size], tf.int32))
    return tf.while_loop(lambda level, *_: level < tf.size(begins) - 1, deeper, state)[2]


def walked_back(starts: tf.Tensor, came_by: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
    """Returns the pieces of the best ways to the ends of all words."""

    def back(ends: tf.Tensor, least: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, ...]:
        piece = tf.gather(came_by, ends - 1)
        ends = tf.gather(starts, piece)
        more = ends > least
        return tf.boolean_mask(ends, more), tf.boolean_mask(least, more), tf.concat([found, piece], 0)

    full = splits[1:] > splits[:-1]
    state = (tf.boolean_mask(splits[1:], full), tf.boolean_mask(splits[:-1], full), tf.zeros([0], tf.int32))
    free = tf.TensorShape([None])
    return tf.while_loop(lambda ends, *_: tf.size(ends) > 0, back, state, shape_invariants=(free, free, free))[2]
