"""Shared code of the benchmarks: a process per case, the best of some calls, the rates of the machine, files."""

import datetime
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROCESSES = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
BEGIN = time.perf_counter()
PACKAGES = (
    "tensorflow",
    "keras",
    "keras-hub",
    "ctranslate2",
    "torch",
    "jax",
    "flax",
    "transformers",
    "sentence-transformers",
)


def run(script, **case):
    """Runs one case of a script in a separate process (`script --one JSON`) and returns its figures."""
    done = subprocess.run([sys.executable, script, "--one", json.dumps(case)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{case} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def best_of(call, repeats=10, seconds=0.0):
    """Returns the shortest time of at least `repeats` calls, of up to 200 within `seconds`, after one to warm up."""
    call()
    found, begin = [], time.perf_counter()
    while len(found) < repeats or (time.perf_counter() - begin < seconds and len(found) < 200):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def is_installed(package):
    """Returns whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def ratio(figure, other):
    """Returns the ratio of two figures, or None if one of them is None."""
    return None if figure is None or other is None else figure / other


def shown(figure, digits=2):
    """Returns a figure as text, empty for None."""
    return "" if figure is None else f"{figure:.{digits}f}"


def peak_megabytes():
    """Returns the peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def product_rate(size=2048):
    """Returns the floating-point operations per second of a large matrix product."""
    import tensorflow as tf

    matrix = tf.random.normal((size, size))
    product = tf.function(lambda m: tf.matmul(m, m)[0, 0])
    return 2 * size**3 / best_of(lambda: product(matrix).numpy())


def stream_rate(megabytes=256):
    """Returns the bytes per second that a sum over a large array reads."""
    import tensorflow as tf

    array = tf.zeros((megabytes * 2**18,))
    total = tf.function(tf.reduce_sum)
    return megabytes * 2**20 / best_of(lambda: total(array).numpy())


def write_figures(path, rows, **facts):
    """Writes the rows of figures as JSON, with the machine, the versions, the date, the commit, and what the run took.

    Args:
        path: Where to write, or None for nowhere.
        rows: A list of dictionaries.
        **facts: What else was measured, for instance the rate of matrix products.
    """
    if path is None:
        return
    figures = {
        "machine": machine(),
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "seconds": round(time.perf_counter() - BEGIN),
        "megabytes": round(
            max(resource.getrusage(who).ru_maxrss for who in PROCESSES) / 1024
        ),  # the most of one process
        **facts,
        "rows": rows,
    }
    pathlib.Path(path).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def machine():
    """Returns the name of the processor, the number of cores, and the memory in GB."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gb": round(memory / 2**30, 1)}


def versions():
    """Returns the versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit():
    """Returns the commit of the repository, "-dirty" if the library differs from it, or None outside of one."""

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--", "keras_attn")
        return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None
