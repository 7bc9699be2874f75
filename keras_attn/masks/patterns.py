"""Static patterns: masks that are functions of the query's and the key's index, and are saved with a layer."""

from keras_attn.base.checks import check_positive
from keras_attn.base.slot import register
from keras_attn.base.tensors import short_repr
from keras_attn.masks.algebra import Pattern


@register
class Causal(Pattern):
    """A query sees the keys up to its own index: `key <= query`.

    With fewer queries than keys the last query sees every key (bottom-right alignment).

    >>> from keras_attn import masks
    >>> masks.Causal()(2, 3)
    False
    """

    ahead = 0

    def __call__(self, query_index, key_index):
        return key_index <= query_index

    def spans(self, span):
        return span.key_low <= span.query_high, span.key_high <= span.query_low


@register
class Window(Pattern):
    """A query sees `left` keys back and `right` keys ahead, itself counted in both.

    `Window(n)` lets query i see the keys i-n+1 ... i+n-1; `Causal() & Window(n)` the last n
    (Beltagy et al. 2020, arXiv:2004.05150).

    Args:
        left: Number of keys at or before the query, at least 1.
        right: Number of keys at or after it, at least 1; None means as many as `left`.

    >>> from keras_attn import masks
    >>> [key for key in range(9) if masks.Window(2)(4, key)]
    [3, 4, 5]
    """

    def __init__(self, left, right=None):
        check_positive("left", left)
        check_positive("right", right, optional=True)
        self.left = left
        self.right = right

    @property
    def reach(self):
        return self.left

    @property
    def ahead(self):
        return (self.left if self.right is None else self.right) - 1

    def __call__(self, query_index, key_index):
        right = self.left if self.right is None else self.right
        distance = key_index - query_index
        return (distance > -self.left) & (distance < right)

    def spans(self, span):
        right = self.left if self.right is None else self.right
        nearest_back, furthest_back = span.key_high - span.query_low, span.key_low - span.query_high
        some = (nearest_back > -self.left) & (furthest_back < right)
        return some, (furthest_back > -self.left) & (nearest_back < right)


@register
class Prefix(Pattern):
    """Every query sees the first `length` keys; `Causal() | Prefix(n)` is the prefix language model.

    See Raffel et al. 2020, arXiv:1910.10683.

    Args:
        length: Number of keys of the prefix, at least 1.

    >>> from keras_attn import masks
    >>> (masks.Causal() | masks.Prefix(3))(0, 2)
    True
    """

    def __init__(self, length):
        check_positive("length", length)
        self.length = length

    @property
    def ahead(self):
        return self.length - 1

    def __call__(self, query_index, key_index):
        return key_index < self.length + 0 * query_index

    def spans(self, span):
        return span.key_low < self.length, span.key_high < self.length


@register
class Blocks(Pattern):
    """A query sees the keys of its own block of `size` positions.

    Args:
        size: Number of positions of a block, at least 1.

    >>> from keras_attn import masks
    >>> [key for key in range(9) if masks.Blocks(3)(4, key)]
    [3, 4, 5]
    """

    def __init__(self, size):
        check_positive("size", size)
        self.size = size

    @property
    def reach(self):
        return self.size

    @property
    def ahead(self):
        return self.size - 1

    def __call__(self, query_index, key_index):
        return query_index // self.size == key_index // self.size

    def spans(self, span):
        queries = span.query_low // self.size, span.query_high // self.size
        keys = span.key_low // self.size, span.key_high // self.size
        some = (keys[0] <= queries[1]) & (keys[1] >= queries[0])
        return some, (keys[0] == queries[1]) & (keys[1] == queries[0])


@register
class Dilated(Pattern):
    """A query sees every `step`-th key from itself on, back and ahead (Child et al. 2019, arXiv:1904.10509).

    Args:
        step: Distance of the keys seen, at least 1.

    >>> from keras_attn import masks
    >>> [key for key in range(9) if masks.Dilated(3)(4, key)]
    [1, 4, 7]
    """

    def __init__(self, step):
        check_positive("step", step)
        self.step = step

    def __call__(self, query_index, key_index):
        return (query_index - key_index) % self.step == 0


@register
class Where(Pattern):
    """A mask by a function of query and key index.

    Args:
        function: From integer arrays (query index, key index) to booleans. To be saved with a
            layer it must be registered with `keras.saving.register_keras_serializable`.

    How far back and ahead it sees is not known: to decode step by step, join it to `Causal()`, or
    it is probed (see `check_hides_the_future`).

    >>> from keras_attn import masks
    >>> masks.Where(lambda query, key: key != query)(4, 4)
    False
    """

    def __init__(self, function):
        if not callable(function):
            raise ValueError(
                f"`function` must be a function of query and key index. Received: function={short_repr(function)}."
            )
        self.function = function

    def __call__(self, query_index, key_index):
        return self.function(query_index, key_index)
