"""Every public layer and both recipes compile for TPU v5e, on one device and data-parallel on four."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.conformance.cases import CASES

missing = [name for name in ("jax", "libtpu") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing), reason=f"compiling for a TPU needs jax and libtpu; missing: {missing}"),
    pytest.mark.tensorflow,  # it runs JAX in a process of its own; once is enough
]


def compile_for_tpu(what):
    """Runs the compiler in a process of its own and returns its lines."""
    settings = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
    settings["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # another process may be compiling too
    script = pathlib.Path(__file__).parent / "tpu_compile.py"
    done = subprocess.run(
        [sys.executable, script, what], env={**os.environ, **settings}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_layers_compile_and_share_the_batch():
    lines = compile_for_tpu("layers")
    assert {line["name"] for line in lines} == {*(case.name for case in CASES), "Transformer", "RNNSeq2Seq"}
    flops = {(line["name"], line["devices"], line["training"]): line["flops"] for line in lines}
    for name, devices, training in flops:
        if devices == "one":
            # The lookup of learned positions has no batch: each device does all of it.
            most = 0.6 if name.split("-")[0] == "Learned" else 0.5
            assert flops[name, "four", training] < most * flops[name, "one", training]


def test_blockwise_memory_does_not_grow_with_the_square_of_the_length():
    used = {(line["length"], line["kernel"]): line["bytes"] for line in compile_for_tpu("kernels")}
    assert used[4096, "blockwise"] < 0.05 * used[4096, "dense"]
    assert used[4096, "blockwise"] < 2.5 * max(used[2048, "blockwise"], 1)
    assert used[4096, "dense"] > 3 * used[2048, "dense"]
