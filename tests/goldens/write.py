"""Writes the goldens: models saved by one version that all later versions must load with the same numbers.

A golden is a `.keras` file, config and weights, with one more member, `golden.npz`: inputs and the outputs
that were computed from them. Beside them stands one SavedModel. Run as a script

    python -m tests.goldens.write

it writes what is missing, for instance after a line was added to `tests/conformance/cases.py`. It never
writes over a file: a golden that fails tells that a change breaks the saved files of users.
"""

import io
import pathlib
import zipfile

import keras
import numpy as np

import keras_attn as ka
from tests.conformance.cases import CASES

FOLDER = pathlib.Path(__file__).parent / ka.__version__
MEMBER = "golden.npz"


def recipes():
    """The recipes, and one of them with 8-bit weights, each as a function that returns a new model."""
    sizes = {"num_layers": 1, "size": 12, "num_heads": 2, "hidden_size": 17}

    def quantized():
        model = ka.models.Transformer(11, 13, **sizes)
        model.quantize("int8", filters=None)
        return model

    return {
        "Transformer": lambda: ka.models.Transformer(11, 13, **sizes, residual=ka.PreNorm()),
        "Transformer-int8": quantized,
        "RNNSeq2Seq": lambda: ka.models.RNNSeq2Seq(11, 13, size=7),
        "TextEncoder": lambda: ka.models.TextEncoder(
            11, **sizes, num_segments=2, head=ka.models.heads.Classification(3), count_padding=False
        ),
        "CausalTransformer": lambda: ka.models.CausalTransformer(13, **sizes, position=ka.Rotary()),
    }


def layer_golden(case, rng):
    """Returns the functional model of a conformance case, and random inputs with padding."""
    model = case.model(case.make(), scores=bool(case.scores))
    return model, {**case.arguments(rng), **case.padding(rng)}


def recipe_golden(make, rng):
    """Returns a recipe, and random ids with padding."""
    model = make()
    ids = {name: rng.integers(3, 11, size).astype("int32") for name, size in (("source", (3, 7)), ("target", (3, 5)))}
    ids["segments"] = (ids["source"] > 6).astype("int32")
    ids["source"][1, 4:] = ids["target"][2, 3:] = 0
    return model, {name: ids[name] for name in model.input}


def randomize(model, rng):
    """Gives every floating weight random values, so that no two of them can be mistaken for each other."""
    for variable in model.variables:
        if keras.backend.is_float_dtype(variable.dtype) and "seed" not in variable.path:
            scale = 0.01 if variable.path.endswith("_scale") else 0.3
            variable.assign(np.abs(rng.normal(1.0, 0.1, variable.shape)) * scale)
            if scale > 0.1:
                variable.assign(rng.normal(0.0, scale, variable.shape))


def write(path, model, inputs):
    """Writes one golden."""
    outputs = [keras.ops.convert_to_numpy(tensor) for tensor in keras.tree.flatten(model(inputs))]
    arrays = {f"inputs/{name}": array for name, array in inputs.items()}
    arrays |= {f"outputs/{number}": array for number, array in enumerate(outputs)}
    draft = path.with_name(f"draft-{path.name}")
    model.save(draft)
    with zipfile.ZipFile(draft) as saved, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as golden:
        for name in saved.namelist():
            golden.writestr(name, saved.read(name))
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        golden.writestr(MEMBER, content.getvalue())
    draft.unlink()


def read(path):
    """Returns the inputs by name, and the outputs as a list, of a golden."""
    with zipfile.ZipFile(path) as golden, np.load(io.BytesIO(golden.read(MEMBER))) as arrays:
        inputs = {name.removeprefix("inputs/"): arrays[name] for name in arrays if name.startswith("inputs/")}
        outputs = [arrays[f"outputs/{number}"] for number in range(len(arrays.files) - len(inputs))]
    return inputs, outputs


def write_saved_model(folder, rng):
    """Writes a SavedModel of a small classifier of token sequences, its inputs and outputs beside it."""
    from keras_attn import serving

    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(11, 14, mask_zero=True)(tokens)
    x = ka.EncoderBlock(2, 17, mask=ka.Window(3), position=ka.RelativeBias(8, 4))(ka.Sinusoidal()(x))
    model = keras.Model(tokens, {"logits": keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(x))})
    randomize(model, rng)
    ids = rng.integers(1, 11, (3, 7)).astype("int32")
    ids[1, 4:] = 0
    path = serving.export(model, folder, version=1)
    np.savez_compressed(path / MEMBER, tokens=ids, logits=model(ids)["logits"])


def main():
    FOLDER.mkdir(exist_ok=True)
    makers = {case.name: lambda rng, case=case: layer_golden(case, rng) for case in CASES}
    makers |= {name: lambda rng, make=make: recipe_golden(make, rng) for name, make in recipes().items()}
    for name, make in makers.items():
        path = FOLDER / f"{name}.keras"
        if path.exists():
            continue
        keras.utils.set_random_seed(0)
        rng = np.random.default_rng(0)
        model, inputs = make(rng)
        randomize(model, rng)
        write(path, model, inputs)
        print(f"{path.name}: {path.stat().st_size:,} bytes")
    if not (FOLDER / "saved_model").exists():
        write_saved_model(FOLDER / "saved_model", np.random.default_rng(0))


if __name__ == "__main__":
    main()
