"""Examples that print what they have to say: TensorFlow starts without its remarks, bars are for terminals.

To be imported before anything that imports TensorFlow.
TensorFlow writes some remarks before a log level can be set. They are held back here; what else is written to stderr
meanwhile is written after it. Its later remarks are left out by `TF_CPP_MIN_LOG_LEVEL`, and on machines without a GPU
its error lines too, which are there about missing drivers and instructions: what fails raises in Python.
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
    """Holds back what is written to stderr, also by libraries, and then writes all of it but remarks."""
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
# The same of what has no lines: a bar in a terminal, nothing in a file.
BARS = int(sys.stdout.isatty())


def prepare(builder):
    """Makes a data set of TensorFlow Datasets that downloads nothing, and says so in one line."""
    import tensorflow_datasets as tfds

    if (pathlib.Path(builder.data_dir) / "dataset_info.json").exists():
        return
    print(f"making the data set {builder.info.full_name} in {builder.data_dir}", flush=True)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # where it says that it downloads something of unknown size
        builder.download_and_prepare()
