"""Compiles for TPU v5e with the real TPU compiler, without a TPU; prints what came out as JSON lines.

Run as a script in a process of its own, under JAX on the CPU:

    KERAS_BACKEND=jax JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 python tests/tpu_compile.py layers
"""

import json
import pathlib
import sys

import jax
import keras
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from keras import ops

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import keras_attn as ka
from tests.conformance.cases import CASES

BATCH = 8


def meshes():
    """One device, and four that share a batch."""
    devices = np.array(topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices)
    return {"one": Mesh(devices[:1], ("batch",)), "four": Mesh(devices, ("batch",))}


def compiled(layer, inputs, mesh, training):
    """Compiles the forward pass, or a step of training, with the batch shared by the mesh's devices."""
    whole, shared = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))

    def abstract(array, sharding):
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    weights = [abstract(variable.value, whole) for variable in layer.trainable_variables]
    state = [abstract(variable.value, whole) for variable in layer.non_trainable_variables]
    inputs = {name: abstract(np.asarray(array), shared) for name, array in inputs.items()}

    def forward(weights, state, inputs):
        arguments = (inputs,) if isinstance(layer, keras.Model) else ()
        named = {} if arguments else inputs
        return layer.stateless_call(weights, state, *arguments, training=training, **named)

    def loss(weights, state, inputs):
        outputs, state = forward(weights, state, inputs)
        return ops.mean(ops.sin(ops.cast(outputs, "float32"))), state

    def step(weights, state, inputs):
        (_, state), gradients = jax.value_and_grad(loss, has_aux=True)(weights, state, inputs)
        return [w - 0.1 * gradient for w, gradient in zip(weights, gradients)], state

    return jax.jit(step if training else forward).lower(weights, state, inputs).compile()


def compile_layers():
    """Every case of the conformance suite and both recipes, forward and training, on one device and on four."""
    rng = np.random.default_rng(0)
    cases = {case.name: (case.make(), {**case.arguments(rng, B=BATCH), **case.padding(rng, B=BATCH)}) for case in CASES}
    ids = {"source": np.ones((BATCH, 7), "int32"), "target": np.ones((BATCH, 5), "int32")}
    sizes = {"num_layers": 2, "size": 16, "num_heads": 2, "hidden_size": 32}
    cases["Transformer"] = (ka.models.Transformer(11, 13, **sizes), ids)
    cases["RNNSeq2Seq"] = (ka.models.RNNSeq2Seq(11, 13, size=8), ids)
    for name, (layer, inputs) in cases.items():
        if not isinstance(layer, keras.Model):
            layer(**inputs)
        for devices, mesh in meshes().items():
            for training in (False, True) if layer.trainable_variables else (False,):
                cost = compiled(layer, inputs, mesh, training).cost_analysis()
                print(json.dumps({"name": name, "devices": devices, "training": training, "flops": cost["flops"]}))


def compile_kernels():
    """The memory that a step of training takes beside its arguments, by kernel and length."""
    mesh = meshes()["one"]
    for length in (1024, 2048, 4096):
        for kernel in ("dense", "blockwise"):
            layer = ka.MultiHeadSelfAttention(8, mask=ka.Causal(), kernel=kernel)
            layer.build((1, length, 256))
            memory = compiled(layer, {"inputs": np.zeros((1, length, 256), "float32")}, mesh, True).memory_analysis()
            print(json.dumps({"length": length, "kernel": kernel, "bytes": memory.temp_size_in_bytes}))


if __name__ == "__main__":
    {"layers": compile_layers, "kernels": compile_kernels}[sys.argv[1]]()
