"""Makes the examples print only their own lines: no remarks of TensorFlow, and progress bars only in terminals.

Import it before anything that imports TensorFlow.
TensorFlow writes some remarks before a log level can be set. This module removes them; other output to stderr at that
time is written afterwards. `TF_CPP_MIN_LOG_LEVEL` removes later remarks. On machines without a GPU it also removes
error lines: there they are about missing drivers and instructions, and real errors raise in Python.
"""

import contextlib
import io
import os
import pathlib
import re
import shutil
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if shutil.which("nvidia-smi") else "3")
REMARK = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog|I\d{4} |E\d{4} .*cuInit: .*UNKNOWN ERROR \(303\)"
)


@contextlib.contextmanager
def without_remarks():
    """Collects all output to stderr, also of libraries, and then writes it without the remarks."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            log.seek(0)
            for line in log:
                if not REMARK.match(line):
                    os.write(2, line)


with without_remarks():
    import tensorflow  # noqa: F401

# How `fit` shows its progress: a bar in a terminal, a line after each epoch in a file.
VERBOSE = "auto" if sys.stdout.isatty() else 2
# The same for progress without lines: a bar in a terminal, nothing in a file.
BARS = int(sys.stdout.isatty())


def prepare(builder):
    """Builds a data set of TensorFlow Datasets that downloads nothing, and prints one line about it."""
    import tensorflow_datasets as tfds

    if (pathlib.Path(builder.data_dir) / "dataset_info.json").exists():
        return
    print(f"making the data set {builder.info.full_name} in {builder.data_dir}", flush=True)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints that it downloads something of unknown size
        builder.download_and_prepare()
