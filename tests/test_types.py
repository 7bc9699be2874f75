"""The annotations for a user's type checker: a right script is clean, every mistake of a wrong one is found."""

import pathlib
import re
import sys

import pytest

api = pytest.importorskip("mypy.api", reason="mypy is among what `.[dev]` installs")
ROOT = pathlib.Path(__file__).parents[1]
pytestmark = pytest.mark.tensorflow  # once is enough

RIGHT = """
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_attn as ka
from keras_attn import decoding, models, serving


class HalfValues(ka.cache.Cache):
    def encode(self, key: object, value: object) -> dict[str, object]:
        return {"key": key, "value": keras.ops.cast(value, "float16")}

    def decode(self, kept: dict[str, object], dtype: str) -> tuple[object, object]:
        return kept["key"], keras.ops.cast(kept["value"], dtype)


class Scaled(ka.PreNorm):
    def after(self, x: Any, y: Any, norm: keras.layers.Layer) -> Any:
        return x + 0.5 * y


class Counter:
    vocabulary_size = 9

    def init_state(self, source: object, max_length: int) -> tuple[()]:
        return ()

    def step(self, tokens: object, state: tuple[()], index: object) -> tuple[object, tuple[()]]:
        return keras.ops.one_hot(tokens, 9), state


tokens = keras.Input((None,), dtype="int32")
x = keras.layers.Embedding(1000, 64, mask_zero=True)(tokens)
block = ka.EncoderBlock(
    num_heads=4,
    hidden_size=128,
    mask=ka.Causal() & ka.Window(8),
    position=ka.Rotary(),
    residual=Scaled(),
    activation="gelu",
    dtype="mixed_bfloat16",
)
x = ka.Encoder(num_layers=2, block=block, name="encoder")(x)
attention = ka.MultiHeadSelfAttention(4, score=ka.DotProduct(norm=ka.RMSNorm()), kernel_regularizer="l2")
state = attention.init_state(2, max_length=7, cache=HalfValues())
y, state = attention.extend(np.zeros((2, 3, 64)), state, 0)
places: int | None = state.static_places
classifier = keras.Model(tokens, ka.AttentionPooling(16)(x))
decoder = ka.AdditiveRNNAttention(16, score=ka.MultiplicativeScore(), return_state=True)

model = models.Transformer(50, 60, num_layers=1, size=16, num_heads=2, hidden_size=32, num_kv_heads=1)
found = model.generate(np.array([[5, 6, 2]]), decoding.Beam(4, length_penalty=0.6), max_length=7, end_id=[2, 3])
best = found.tokens[:, 0]
size: int = model.vocabulary_size
drawn = decoding.generate(Counter(), np.array([[1]]), decoding.Sample(num_samples=3), end_id=None)
lengths = drawn.lengths
path: Path = serving.export(model, "models/translator", strategy=decoding.Greedy(), max_length=20)
"""

# A mistake per line, and what the checker says of it.
WRONG = [
    ("ka.MultiHeadSelfAttention('four')", 'incompatible type "str"; expected "int"'),
    ("ka.MultiHeadSelfAttention(4, kernel_regulariser='l2')", 'Unexpected keyword argument "kernel_regulariser"'),
    ("ka.EncoderBlock(4, 128, mask=True)", 'incompatible type "bool"; expected "Pattern | None"'),
    ("ka.EncoderBlock(4, 128, residual='pre')", 'incompatible type "str"; expected "Residual"'),
    ("ka.EncoderBlock(4)", 'Missing positional argument "hidden_size"'),
    ("ka.Encoder(2, block=ka.Causal())", 'incompatible type "Causal"'),
    ("ka.cache.ExactCache(rewind='all')", 'incompatible type "str"; expected "int"'),
    ("ka.DotProduct(norm='rms')", 'incompatible type "str"; expected "Norm | None"'),
    ("decoding.Beam(width=2.5)", 'incompatible type "float"; expected "int"'),
    ("decoding.generate(object(), [[1]])", 'incompatible type "object"; expected "DecodingModel"'),
    ("models.Transformer(50, 60, special_ids=(0, 1, 2))", 'expected "SpecialIds | None"'),
    ("models.CausalTransformer(50).generate([[1]], 'beam')", 'No overload variant of "generate"'),
    ("decoding.generate(models.RNNSeq2Seq(50, 60), [[1]]).score", '"Generated" has no attribute "score"'),
    ("ka.MultiHeadSelfAttention(4).init_state(2, max_length=7).length", '"CacheState" has no attribute "length"'),
    (
        "serving.export(models.RNNSeq2Seq(50, 60), 'out', max_length='20')",
        'incompatible type "str"; expected "int | None"',
    ),
]


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """Returns a function from a script to what mypy says of it."""
    folder = tmp_path_factory.mktemp("types")

    def run(script):
        file = folder / "script.py"
        file.write_text(script)
        options = ["--strict", "--ignore-missing-imports", "--allow-subclassing-any", "--allow-any-generics"]
        options += ["--no-warn-return-any", "--cache-dir", str(folder / "cache"), "--follow-imports=silent"]
        options += [f"--python-executable={sys.executable}", str(file)]
        return api.run(options)[0]

    return run


@pytest.mark.slow
def test_a_right_script_is_clean(check):
    assert "Success: no issues found" in check(RIGHT)


@pytest.mark.slow
def test_every_mistake_of_a_wrong_script_is_found(check):
    head = "import keras_attn as ka\nfrom keras_attn import decoding, models, serving\n"
    said = check(head + "\n".join(line for line, _ in WRONG) + "\n")
    for number, (line, message) in enumerate(WRONG, start=3):
        errors = re.findall(rf"script\.py:{number}: error: (.*)", said)
        assert any(message in error for error in errors), f"{line}: {errors}"


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "keras_attn" / "py.typed").exists()
