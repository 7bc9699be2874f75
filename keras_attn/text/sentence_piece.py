"""A tokenizer with the pieces of a SentencePiece model, on TensorFlow Text."""

from __future__ import annotations

import io
import os
import pathlib
from typing import TYPE_CHECKING

import tensorflow as tf

from keras_attn.base.slot import register
from keras_attn.base.tensors import short_repr
from keras_attn.base.types import LayerArguments
from keras_attn.text.corpus import TextDataset, text_batches
from keras_attn.text.lookup import check_vocabulary_size
from keras_attn.text.optional import text_module
from keras_attn.text.tokenizer import NUM_SPECIAL_IDS, Tokenizer

if TYPE_CHECKING:
    import tensorflow_text
    from typing_extensions import Unpack

# Appended to a model file, in Protocol Buffers' wire format. The last value of a field counts, so this sets
# trainer_spec (field 2) . unk_surface (field 44), the text of the unknown id, to U+FFFD.
UNKNOWN_AS_REPLACEMENT = b"\x12\x06\xe2\x02\x03\xef\xbf\xbd"
WRONG_MODEL = (
    "`model` must be a SentencePiece model with the ids 0 padding, 1 start, 2 end, 3 unknown "
    "(trained with pad_id=0, bos_id=1, eos_id=2, unk_id=3)."
)


@register
class SentencePiece(Tokenizer):
    """Pieces of a SentencePiece model, which reads raw text of any language, including spaces.

    `adapt` trains a unigram model: the segmentation of a text is the most probable one,
    `argmax_x sum_i log p(x_i)`, over the pieces `x` that form the text when joined. Texts are
    normalized as the model specifies (NFKC by default), so `detokenize` returns normalized texts.

    Args:
        model: Path of a trained `.model` file, or its bytes, with the ids 0 padding, 1 start, 2 end and
            3 unknown; None to train one by `adapt(dataset)`.
        max_length: Maximum number of ids in a row, including the end id; longer texts are truncated.
            None for no limit.
        lowercase: Whether to convert texts to lower case first.

    Call arguments:
        texts: Strings `[B]` in UTF-8, or a list of `str`.

    Returns:
        int32 `[B, S]`: ids, the end id 2, then 0 up to the longest row. An empty text is `[2]`, a run of
        unknown characters is 3; bytes that are not UTF-8 are read as U+FFFD, by default a space.

    Raises:
        ValueError: If `model` is not a model with these ids; if `texts` are not strings `[B]`; if
            there is no model yet.
        ImportError: Without TensorFlow Text, or in `adapt` without `sentencepiece`.

    Example:
    >>> from keras_attn.text import SentencePiece
    >>> tokenizer = SentencePiece()
    >>> tokenizer.adapt(["the cat sat on the mat", "the dog sat on the log"], vocabulary_size=40, verbose=0)
    >>> ids = tokenizer(["the dog on the mat", ""])
    >>> tokenizer.detokenize(ids).numpy().tolist()
    [b'the dog on the mat', b'']

    A program that loads the SavedModel must `import tensorflow_text`; TF Serving has its operations.

    References:
        Kudo & Richardson 2018, SentencePiece: A simple and language independent subword tokenizer and
        detokenizer for Neural Text Processing, arXiv:1808.06226.
    """

    asset_name = "sentencepiece.model"

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | None = None,
        max_length: int | None = 512,
        lowercase: bool = False,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(max_length, lowercase, **kwargs)
        if model is not None:
            self._fill(model_bytes(model))

    def adapt(self, dataset: TextDataset, vocabulary_size: int = 8000, verbose: int = 1) -> None:
        """Trains a model, which replaces the current one.

        Args:
            dataset: A `tf.data.Dataset` of string scalars or of strings `[B]`, or an iterable of `str`.
            vocabulary_size: Maximum number of ids, including the special ids; often fewer are learned.
            verbose: 1 shows a progress bar, 0 shows none.

        Raises:
            ValueError: If the dataset has no text, or `vocabulary_size` is too small for its characters.
        """
        check_vocabulary_size(vocabulary_size)
        trainer = text_module("sentencepiece").SentencePieceTrainer
        batches = map(self._clean, text_batches(dataset, verbose))
        texts = [text for batch in batches for text in batch.numpy().tolist() if text.strip()]
        if not texts:
            raise ValueError("`dataset` must have at least one text that is not empty. Received: none.")
        model = io.BytesIO()
        try:
            trainer.train(
                sentence_iterator=iter(texts),
                model_writer=model,
                vocab_size=vocabulary_size,
                hard_vocab_limit=False,
                max_sentence_length=2**30,  # the trainer skips longer texts
                pad_id=self.special_ids.padding,
                bos_id=self.special_ids.start,
                eos_id=self.special_ids.end,
                unk_id=self.special_ids.unknown,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise ValueError(f"No model can be trained: {error} Received: {vocabulary_size=}.") from error
        self._fill(model.getvalue())

    @property
    def tokens(self) -> list[str]:
        self._filled_path()
        tokens = processor(self._model).id_to_string(tf.range(NUM_SPECIAL_IDS, self._num_ids))
        return [token.decode() for token in tokens.numpy().tolist()]

    def _open(self, path: str) -> None:
        model = pathlib.Path(path).read_bytes() + UNKNOWN_AS_REPLACEMENT
        try:
            ends = processor(model, add_bos=True, add_eos=True).tokenize([""]).numpy()[0].tolist()
            surfaces = processor(model).detokenize(tf.range(NUM_SPECIAL_IDS)[:, None]).numpy().tolist()
        except tf.errors.OpError as error:
            raise ValueError(f"{WRONG_MODEL} Received something else: {error.__class__.__name__}.") from error
        if ends != [self.special_ids.start, self.special_ids.end] or surfaces != [b"", b"", b"", "\ufffd".encode()]:
            raise ValueError(f"{WRONG_MODEL} Received: start and end {ends}, ids 0 to 3 read as {surfaces}.")
        self._model = model
        self._num_ids = int(processor(model).vocab_size())
        self._file = AssetFile(path)

    def _encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        return processor(self._model).tokenize(texts)

    def _decode(self, ids: tf.RaggedTensor) -> tf.Tensor:
        known = tf.logical_and(ids.flat_values >= 0, ids.flat_values < self._num_ids)
        ids = ids.with_flat_values(tf.where(known, ids.flat_values, self.special_ids.unknown))
        return processor(self._model).detokenize(tf.cast(ids, tf.int32))


def processor(model: bytes, out_type: tf.DType = tf.int32, **options: bool) -> tensorflow_text.SentencepieceTokenizer:
    """Returns the operations of a model, for the current graph.

    Call this before each use: TensorFlow drops the model's resource when it clears its caches, for
    instance when a random seed is set. The operation then creates the resource again.
    """
    return text_module("tensorflow_text").SentencepieceTokenizer(model, out_type, **options)


class AssetFile(tf.saved_model.experimental.TrackableResource):
    """A file that a SavedModel exports as an asset. Keras exports assets of resources only, so this is an empty one."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._track_trackable(tf.saved_model.Asset(path), "file")

    def _create_resource(self) -> tf.Tensor:
        return tf.raw_ops.VarHandleOp(dtype=tf.string, shape=[])


def model_bytes(model: str | os.PathLike[str] | bytes) -> bytes:
    """Returns the bytes of a model given as bytes or as a path."""
    if isinstance(model, bytes):
        return model
    if not isinstance(model, (str, os.PathLike)) or not pathlib.Path(model).is_file():
        raise ValueError(
            f"`model` must be the path of a SentencePiece model or its bytes. Received: {short_repr(model)}."
        )
    return pathlib.Path(model).read_bytes()
