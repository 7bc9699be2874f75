"""Batches under `tf.distribute`: each replica has pairs of its own, and `fit` trains on all of them."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.tensorflow

SCRIPT = """
import keras
import numpy as np
import tensorflow as tf
from keras_attn import data, models, training

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
pairs = data.encode([([4 + i], [30 - i, 5]) for i in range(20)], data.Ids(40), data.Ids(40))
batches = data.Batches(pairs, data.Packed(4, 6, batch_size=4))
firsts = [[], []]
for inputs, labels in strategy.experimental_distribute_dataset(batches.epoch(0)):
    for replica, part in enumerate(strategy.experimental_local_results(inputs["source"])):
        ids = part.numpy()
        assert ids.shape == (2, 4), ids.shape
        firsts[replica] += ids[ids > 2].tolist()
assert not set(firsts[0]) & set(firsts[1])
assert sorted(firsts[0] + firsts[1]) == list(range(4, 24)), firsts
with strategy.scope():
    model = models.Transformer(40, 40, 1, 8, 2, 8)
    loss, metrics = training.MaskedCrossentropy(label_smoothing=0.1), [training.TokenAccuracy()]
    model.compile(keras.optimizers.Adam(0.03), loss, weighted_metrics=metrics)
follow = data.FollowEpochs(batches)
losses = model.fit(follow.dataset, epochs=3, callbacks=[follow], shuffle=False, verbose=0).history["loss"]
assert losses[-1] < losses[0], losses
print("distributed")
"""


@pytest.mark.slow
def test_replicas_see_disjoint_pairs_and_fit_trains():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout.endswith("distributed\n"), done.stderr[-2000:]
