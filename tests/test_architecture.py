"""The house rules that a machine can check: floors, cycles, who may import TensorFlow, sizes."""

import ast
import inspect
import pathlib
import re

import keras
import pytest

import keras_attn as ka

ROOT = pathlib.Path(ka.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py"))
FLOORS = [  # from the ground up: a room imports from itself and from those before it
    "base",
    "backend",
    "layers",
    "masks",
    "kernels",
    "positions",
    "recurrent",
    "attention",
    "transformer",
    "decoding",
    "models",
    "convert",
    "training",
    "text",
    "data",
    "pretrained",
    "serving",
    "plot",
    "config",
]
TENSORFLOW_ROOMS = {"text", "data", "pretrained", "serving", "plot"}
TENSORFLOW_FILES = {"backend/tensorflow.py"}


def room(path):
    """The room of a file: its first part below the package."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module_name(path):
    """The dotted name of a file's module."""
    name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def run_time_nodes(tree):
    """The nodes of a tree, without what only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from run_time_nodes(node)


def imported(path):
    """The modules of `path`'s imports: those of the package, and the top names of all others."""
    for node in run_time_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = {module_name(file) for file in FILES}
            yield from (name if name in modules else node.module for name in names)


def own_imports(path):
    return {name for name in imported(path) if name.split(".")[0] == "keras_attn"}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_down(path):
    if path == ROOT / "__init__.py":
        pytest.skip("the roof sees everything")
    floor = FLOORS.index(room(path))
    for name in own_imports(path):
        assert FLOORS.index(name.split(".")[1]) <= floor, f"{module_name(path)} imports {name}"


def test_every_room_has_a_floor_of_its_own():
    assert sorted(FLOORS) == sorted({room(path) for path in FILES} - {"__init__"})


def test_no_cycles():
    graph = {module_name(path): own_imports(path) for path in FILES if path != ROOT / "__init__.py"}

    done = set()

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        for other in () if name in done else graph.get(name, ()):
            if other != name:
                visit(other, [*trail, name])
        done.add(name)

    for name in graph:
        visit(name, [])


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_tensorflow_only_where_allowed(path):
    tops = {name.split(".")[0] for name in imported(path)}
    allowed = path.relative_to(ROOT).as_posix() in TENSORFLOW_FILES or room(path) in TENSORFLOW_ROOMS
    assert allowed or "tensorflow" not in tops


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_every_file_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_asserts_no_hasattr_no_private_keras(path):
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}"
    assert not re.search(r"\bhasattr\(|type\(self\) is|keras\.src", text)


# What makes tensors in a dtype of Keras' choosing, which follows `keras.config.floatx()`: int64 or int16 for integers.
MAKERS = {"arange", "array", "cumprod", "cumsum", "empty", "eye", "full", "identity", "linspace", "logspace"}
MAKERS |= {"multi_hot", "one_hot", "ones", "tri", "vander", "zeros"}
DRAWS = {"beta", "binomial", "categorical", "gamma", "normal", "randint", "truncated_normal", "uniform"}
COUNTS = {"argmax", "argmin", "argsort", "bincount", "count_nonzero", "digitize", "nonzero", "searchsorted"}
REDUCTIONS = {"mean", "prod", "sum"}
PAIRS = {"add", "divide", "floor_divide", "maximum", "minimum", "mod", "multiply", "power", "subtract", "where"}
BOOLEAN = {"all", "any", "equal", "greater", "greater_equal", "isfinite", "isinf", "isnan", "less", "less_equal"}
BOOLEAN |= {"logical_and", "logical_not", "logical_or", "logical_xor", "not_equal"}


def keras_calls(tree):
    """The calls of `ops.name(...)` and `keras.random.name(...)` in a tree: the node, its module and its name."""
    modules = {"ops": "ops", "keras.ops": "ops", "keras.random": "random"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            module = ast.unparse(node.func.value)
            if module in modules:
                yield node, modules[module], node.func.attr


def has_dtype(call, function):
    """Whether a call of a function of Keras names the dtype of what it makes."""
    names = list(inspect.signature(function).parameters)
    return "dtype" in [keyword.arg for keyword in call.keywords] or len(call.args) > names.index("dtype")


def is_integer(node):
    """Whether an expression is plainly one of integers or booleans."""
    if isinstance(node, ast.Compare):
        return True
    if not isinstance(node, ast.Call) or not ast.unparse(node.func).removeprefix("keras.").startswith("ops."):
        return False
    name = node.func.attr
    dtype = node.args[1] if name == "cast" and len(node.args) == 2 else None
    return name in BOOLEAN or (isinstance(dtype, ast.Constant) and dtype.value in ("bool", "int32"))


def is_number(node):
    """Whether an expression is plainly a number of Python, or may be one where a shape is static."""
    if isinstance(node, ast.BinOp):
        return is_number(node.left) and is_number(node.right)
    if isinstance(node, ast.UnaryOp):
        return is_number(node.operand)
    return isinstance(node, ast.Constant) or ast.unparse(node).removeprefix("keras.").startswith("ops.shape(")


def without_dtype(text):
    """The lines of a source in which Keras would choose a dtype by itself, and the calls there."""
    tree = ast.parse(text)
    cast = {  # what is cast at once may have any dtype before
        node.args[0] for node, module, name in keras_calls(tree) if (module, name) == ("ops", "cast") and node.args
    }
    for node, module, name in keras_calls(tree):
        if module == "random":
            wrong = name in DRAWS and not has_dtype(node, getattr(keras.random, name))
        elif name in MAKERS:
            wrong = not has_dtype(node, getattr(keras.ops, name))
        elif name == "convert_to_tensor":  # of a tensor or array it keeps the dtype
            lists = (ast.List, ast.Tuple, ast.ListComp)
            wrong = isinstance(node.args[0], lists) or is_number(node.args[0])
            wrong = wrong and not has_dtype(node, keras.ops.convert_to_tensor)
        elif name in PAIRS:  # of numbers alone makes a tensor
            wrong = bool(node.args[-2:]) and all(map(is_number, node.args[-2:]))
        else:
            wrong = name in COUNTS or (name in REDUCTIONS and is_integer(node.args[0]))
            wrong = wrong and node not in cast
        if wrong:
            yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_dtype_is_left_to_floatx(path):
    assert not list(without_dtype(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "line",
    [
        "ops.arange(3)",
        "keras.ops.zeros((2, 3))",
        "ops.full((2,), 1)",
        "ops.cumsum(ids, axis=1)",
        "ops.sum(ops.equal(ids, 0))",
        "ops.sum(ops.cast(ids, 'int32'), axis=-1)",
        "ops.mean(ids > 0)",
        "ops.argmax(logits)",
        "ops.convert_to_tensor([1, 2])",
        "ops.where(mask, 1.0, 0.0)",
        "ops.maximum(ops.shape(x)[1] - 1, 0)",
        "keras.random.uniform((3,))",
    ],
)
def test_dtypes_left_to_floatx_are_found(line):
    assert list(without_dtype(line)) == [(1, line)]


@pytest.mark.parametrize(
    "line",
    [
        "ops.arange(3, dtype='int32')",
        "ops.zeros((2, 3), 'int32')",
        "ops.zeros_like(x)",
        "ops.cast(ops.sum(ids > 0), 'int32')",
        "ops.cast(ops.argmax(logits), 'int32')",
        "ops.sum(weights, axis=-1)",
        "ops.convert_to_tensor(x)",
        "ops.where(mask, x, 0)",
        "ops.minimum(index, ops.shape(x)[1] - 1)",
        "np.arange(3)",
    ],
)
def test_dtypes_that_are_told_pass(line):
    assert not list(without_dtype(line))


def test_public_names_are_there():
    assert all(getattr(ka, name) is not None for name in ka.__all__)


def test_sizes_are_reported(capsys):
    """Prints the lines of each file and its longest function; a reader judges."""
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        longest = max(functions, key=lambda node: node.end_lineno - node.lineno, default=None)
        lines = longest.end_lineno - longest.lineno + 1 if longest else 0
        with capsys.disabled():
            print(f"\n{module_name(path):45} {text.count(chr(10)):4} lines, longest function {lines:3}", end="")
    assert FILES
