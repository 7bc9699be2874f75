"""Each format: how a model is exported to it, and how its own runtime answers."""

import importlib

import pytest

NEEDS = {
    "onnx": ("tf2onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "litert": ("ai_edge_litert.interpreter",),
}
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite"}


def need(kind):
    """Skips the test where the converter or the runtime of a format is not installed."""
    for name in NEEDS[kind]:
        try:
            importlib.import_module(name)
        except ImportError:
            pytest.skip(f"{name} is not installed: pip install -r tests/exports/requirements.txt")


def export(model, kind, folder, **options):
    """Returns the path of the exported model."""
    path = str(folder / f"model{SUFFIXES[kind]}")
    model.export(path, format=kind, verbose=False, **options)
    return path


def answer(kind, path, arrays):
    """Returns the output of an exported model, run by the runtime of its format."""
    return {"onnx": run_onnx, "openvino": run_openvino, "litert": run_litert}[kind](path, arrays)


def run_onnx(path, arrays):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return session.run(None, by_name(arrays, [each.name for each in session.get_inputs()]))[0]


def run_openvino(path, arrays):
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(by_name(arrays, [each.get_any_name() for each in compiled.inputs]))[0]


def run_litert(path, arrays):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path, num_threads=1).get_signature_runner("serving_default")
    return next(iter(runner(**by_name(arrays, list(runner.get_input_details()))).values()))


def by_name(arrays, names):
    """Returns the arrays under the names that a format gave the inputs: they hold Keras' names, if there are two."""
    if len(arrays) == 1:
        return {names[0]: next(iter(arrays.values()))}
    return {name: next(array for key, array in arrays.items() if key in name) for name in names}
