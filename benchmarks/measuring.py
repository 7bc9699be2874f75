"""Shared code of the benchmarks: a separate process per case, the best of some calls, the rates of the machine."""

import json
import resource
import subprocess
import sys
import time


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
