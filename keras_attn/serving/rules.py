"""Rules that a SavedModel must follow for TF Serving's default flags, checked without running it."""

from __future__ import annotations

import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef
from tensorflow.python.framework import op_def_registry

from keras_attn.base.types import Tensor

XLA_SIGNATURES = "_xla"  # suffix of the signatures for servers started with XLA
JSON_TYPES = {
    "float",
    "double",
    "bool",
    "string",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
INITIALISATION = "__saved_model_init_op"
PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
# Ops of tensorflow-text 2.21, which TF Serving links, in addition to its ops named `TFText>...`.
TEXT_OPS = {
    "CaseFoldUTF8",
    "ConstrainedSequence",
    "FastBertNormalize",
    "FastWordpieceTokenizeWithOffsets",
    "FindSourceOffsets",
    "MaxSpanningTree",
    "NormalizeUTF8",
    "NormalizeUTF8WithOffsetsMap",
    "PhraseTokenize",
    "RegexSplitWithOffsets",
    "RougeL",
    "SentenceFragments",
    "SentenceFragmentsV2",
    "SentencepieceDetokenizeOp",
    "SentencepieceIdToStringOp",
    "SentencepieceOp",
    "SentencepieceStringToIdOp",
    "SentencepieceTokenizeOp",
    "SentencepieceTokenizeWithOffsetsOp",
    "SentencepieceVocabSizeOp",
    "SplitMergeTokenizeWithOffsets",
    "TokenizerFromLogits",
    "UnicodeScriptTokenizeWithOffsets",
    "WhitespaceTokenizeWithOffsets",
    "WordpieceTokenizeWithOffsets",
}
JAX_PROGRAM = (
    " (an export of Keras' JAX backend is a program for XLA: a server runs it only if it is started with "
    "`--xla_cpu_compilation_enabled`)"
)


class Finding(NamedTuple):
    """One rule and its violations.

    Attributes:
        rule: What must hold.
        problems: A sentence per violation.
        notes: Sentences with advice for serving the model; these are not violations.
    """

    rule: str
    problems: list[str]
    notes: list[str] = []


def findings(folder: str | os.PathLike[str]) -> list[Finding]:
    """Returns a `Finding` per rule for the SavedModel in a folder."""
    folder = pathlib.Path(folder)
    try:
        saved_model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        return [Finding("saved_model.pb can be read", [f"{folder / 'saved_model.pb'}: {error}"])]
    graphs = [graph for graph in saved_model.meta_graphs if "serve" in graph.meta_info_def.tags]
    if not graphs:
        return [Finding("there is a graph with the tag `serve`", ["no graph has the tag `serve`"])]
    graph = graphs[0]
    signatures = {name: signature for name, signature in graph.signature_def.items() if name != INITIALISATION}
    default = [name for name in graph.signature_def if not name.endswith(XLA_SIGNATURES)]
    return [
        Finding("`serving_default` is there", [] if "serving_default" in signatures else ["it is missing"]),
        Finding("inputs and outputs have a free first axis", each(shape_problems, signatures)),
        Finding("outputs can be written as JSON", each(type_problems, signatures)),
        Finding("no op needs XLA", [p for name in default for p in xla_problems(graph, name)]),
        Finding("TF Serving links all ops", [p for name in default for p in unknown_ops(graph, name)]),
        Finding("variables and assets are there", missing_files(graph, folder)),
        Finding("a server cannot fill short rows, or the model ignores the filler", [], filling_notes(signatures)),
    ]


def each(problems: Callable[[str, SignatureDef], Iterable[str]], signatures: Mapping[str, SignatureDef]) -> list[str]:
    """Returns the problems of all signatures."""
    return [problem for name, signature in signatures.items() for problem in problems(name, signature)]


def shape_problems(name: str, signature: SignatureDef) -> Iterator[str]:
    """Yields inputs and outputs that cannot be batched: of rank 0, or with a fixed first axis."""
    for kind in ("inputs", "outputs"):
        for key, info in getattr(signature, kind).items():
            shape = info.tensor_shape
            if not shape.unknown_rank and (not shape.dim or shape.dim[0].size != -1):
                sizes = [dim.size for dim in shape.dim]
                yield f"{name}: {kind[:-1]} `{key}` has the shape {sizes}, its first axis must be free"


def type_problems(name: str, signature: SignatureDef) -> Iterator[str]:
    """Yields outputs that TF Serving's REST handler cannot write."""
    for key, info in signature.outputs.items():
        dtype = tf.as_dtype(info.dtype).name
        if dtype.replace("float32", "float").replace("float64", "double") not in JSON_TYPES:
            yield f"{name}: output `{key}` is {dtype}, which cannot be written as JSON"


def filling_notes(signatures: Mapping[str, SignatureDef]) -> list[str]:
    """Returns notes on inputs of free sizes whose rows a server may fill, if the model cannot recognize the filler."""
    if reads_filled_rows(signatures):
        return []
    return [
        f"{name}: {filling_note(free)}"
        for name, signature in signatures.items()
        if (free := [key for key, info in signature.inputs.items() if is_fillable(info.tensor_shape)])
    ]


def is_fillable(shape: TensorShapeProto) -> bool:
    """Whether the rows of an input of this shape may differ in a size."""
    return shape.unknown_rank or any(dim.size == -1 for dim in shape.dim[1:])


def reads_filled_rows(signatures: Mapping[str, SignatureDef]) -> bool:
    """Whether the signatures are those of a model with steps, which reads its ids with `without_filler`."""
    wanted = {"source", "max_length", "temperature"}
    return "generate" in signatures and set(signatures["generate"].inputs) - {"source_length"} == wanted


def filling_note(names: Iterable[str]) -> str:
    """Returns the note on inputs that a server may fill."""
    named = ", ".join(f"`{name}`" for name in sorted(names))
    return (
        f"{named} with a free size after the first axis: a server with `pad_variable_length_inputs` fills short rows "
        "with their first element, which changes this model's answers. Serve it without this flag, or with inputs of "
        "fixed sizes, or with texts as inputs (`source_text=`)"
    )


def warn_of_filling(inputs: Mapping[str, Tensor]) -> None:
    """Warns of symbolic inputs by name whose short rows a server may fill: the model cannot tell the filler."""
    free = [name for name, tensor in inputs.items() if None in tensor.shape[1:]]
    if free:
        warnings.warn(f"`model` has inputs {filling_note(free)}.", stacklevel=4)


def xla_problems(graph: MetaGraphDef, name: str) -> Iterator[str]:
    """Yields ops that a server without XLA refuses."""
    nodes = list(reachable(graph, name))
    ops = sorted({node.op for node in nodes if node.op.startswith("Xla")})
    if ops:
        yield f"{name}: uses {', '.join(ops)}{JAX_PROGRAM if 'XlaCallModule' in ops else ''}"
    if any(node.attr["_XlaMustCompile"].b for node in nodes if "_XlaMustCompile" in node.attr):
        yield f"{name}: holds a function with jit_compile=True"


def unknown_ops(graph: MetaGraphDef, name: str) -> Iterator[str]:
    """Yields ops that are in neither TensorFlow nor TF Text, or that run Python."""
    functions = {function.signature.name for function in graph.graph_def.library.function}
    for op in sorted({node.op for node in reachable(graph, name)} - functions):
        if op in PYTHON_OPS:
            yield f"{name}: `{op}` runs Python, which a server does not"
        elif op_def_registry.get(op) is None and op not in TEXT_OPS and not op.startswith("TFText>"):
            yield f"{name}: `{op}` is an op of neither TensorFlow nor TF Text"


def draws(graph: MetaGraphDef, name: str) -> bool:
    """Whether a signature contains operations that draw random numbers."""
    return any("Random" in node.op or node.op.endswith("Multinomial") for node in reachable(graph, name))


def reachable(graph: MetaGraphDef, name: str) -> Iterator[NodeDef]:
    """Yields every node that a signature's outputs depend on, also inside functions."""
    nodes = {node.name: node for node in graph.graph_def.node}
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    waiting = [node_name(info.name) for info in graph.signature_def[name].outputs.values()]
    seen: set[str] = set()
    called: list[str] = []
    while waiting:
        at = waiting.pop()
        if at in seen or at not in nodes:
            continue
        seen.add(at)
        waiting += [node_name(source) for source in nodes[at].input]
        yield nodes[at]
        called += called_functions(nodes[at])
    entered: set[str] = set()
    while called:
        at = called.pop()
        if at in entered or at not in functions:
            continue
        entered.add(at)
        for node in functions[at].node_def:
            yield node
            called += called_functions(node)


def called_functions(node: NodeDef) -> list[str]:
    """Returns the names of the functions that a node calls."""
    named = [value.func.name for value in node.attr.values() if value.WhichOneof("value") == "func"]
    listed = [func.name for value in node.attr.values() for func in value.list.func]
    return [node.op, *named, *listed]


def node_name(tensor_name: str) -> str:
    """Returns the name of the node that computes a tensor, or at which a control edge starts."""
    return tensor_name.lstrip("^").split(":")[0]


def missing_files(graph: MetaGraphDef, folder: pathlib.Path) -> list[str]:
    """Returns the files that the graph names and the folder does not have."""
    wanted = [folder / "assets" / name for name in sorted({asset.filename for asset in graph.asset_file_def})]
    wanted += [folder / "variables" / "variables.index"] if graph.HasField("saver_def") else []
    return [f"{path} is missing" for path in wanted if not path.exists()]
