"""Builds and runs `loader.cc`: the SavedModel loader of TF Serving, outside of Python."""

import hashlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.named_tensor_pb2 import NamedTensorProto

from keras_attn.serving.replay import differences
from keras_attn.serving.warmup import Request, read_warmup

SOURCE = pathlib.Path(__file__).with_name("loader.cc")


def loader():
    """Returns the program, built once for all workers; skips where there is no compiler."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ on the PATH to build the C++ loader with")
    root = tf.sysconfig.get_lib()
    key = hashlib.sha256(SOURCE.read_bytes() + root.encode() + tf.__version__.encode()).hexdigest()[:16]
    program = pathlib.Path(tempfile.gettempdir()) / f"keras_attn_loader_{key}"
    if not program.exists():
        draft = program.with_suffix(f".{os.getpid()}")
        options = ["-O1", "-w", "-std=c++17", "-D_GLIBCXX_USE_CXX11_ABI=1", "-DEIGEN_MAX_ALIGN_BYTES=64"]
        options.append("-Wl,--no-as-needed")
        libraries = ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", f"-Wl,-rpath,{root}"]
        command = [compiler, *options, f"-I{root}/include", str(SOURCE), "-o", str(draft), f"-L{root}", *libraries]
        subprocess.run(command, check=True, capture_output=True, text=True)
        os.replace(draft, program)
    return program


def text_libraries():
    """Returns the libraries of TF Text's ops, which TF Serving links, where they are installed."""
    found = importlib.util.find_spec("tensorflow_text")
    folder = pathlib.Path(found.origin).parent / "python" / "ops" if found else pathlib.Path()
    return sorted(map(str, folder.glob("*.so"))) if found else []


def ask(model, requests):
    """Returns the answer of each `Request`: arrays by name, or `{"error": message}`."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = (os.path.join(folder, name) for name in ("requests", "replies"))
        with tf.io.TFRecordWriter(asked) as writer:
            for signature, inputs in requests:
                for name, value in {"signature": signature, **inputs}.items():
                    named = NamedTensorProto(name=name, tensor=tf.make_tensor_proto(value))
                    writer.write(named.SerializeToString())
                writer.write(b"")
        command = [loader(), str(model), asked, answered, *text_libraries()]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            raise AssertionError(run.stderr[-2000:])
        return list(read(answered))


def read(path):
    """Yields the answers from the program's file."""
    answer = {}
    for record in tf.data.TFRecordDataset(path):
        if not record.numpy():
            yield answer
            answer = {}
            continue
        named = NamedTensorProto.FromString(record.numpy())
        answer[named.name] = tf.make_ndarray(named.tensor)


def check_in_loader(model):
    """Replays the warm-up requests of a SavedModel in the program; returns how many there were."""
    logged = list(read_warmup(model))
    answers = ask(model, [Request(request.signature, request.inputs) for request, _ in logged])
    for (request, wanted), answer in zip(logged, answers, strict=True):
        assert "error" not in answer, (request.signature, answer)
        assert not list(differences(answer, wanted)), request.signature
    return len(answers)
