"""Training on one device, on several, or on several machines that `TF_CONFIG` names."""

import json
import os

import quiet

# isort: split

import tensorflow as tf

from keras_attn import data


def place_among_workers():
    """Returns the number of workers in `TF_CONFIG` and the index of this one; worker 0 writes and reports."""
    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    chiefs, workers = (len(config.get("cluster", {}).get(kind, ())) for kind in ("chief", "worker"))
    task = config.get("task", {"type": "worker", "index": 0})
    return max(1, chiefs + workers), int(task["index"]) + (chiefs if task["type"] == "worker" else 0)


def new_strategy(devices, num_workers):
    """Returns the strategy for several machines, several devices of one machine, or one device."""
    if num_workers > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = [f"GPU:{i}" for i in range(len(tf.config.list_physical_devices("GPU")))]
    devices = devices or (gpus if len(gpus) > 1 else None)
    return tf.distribute.MirroredStrategy(devices) if devices else tf.distribute.get_strategy()


def fit(model, strategy, batches, validation, callbacks, **named):
    """Trains a model on this worker's part of the batches; named arguments are those of Keras' `fit`."""
    follow = data.FollowEpochs(batches)
    datasets = follow.dataset, validation.epoch(0)
    if strategy.num_replicas_in_sync > 1:
        # Keras would read a batch before the first epoch to build the built model, and fail at the mean of its ids.
        model._maybe_symbolic_build = lambda *_, **__: None
    if batches.num_shards > 1:
        mend_for_workers(model)
        datasets = [dealt(each, strategy, strategy.num_replicas_in_sync // batches.num_shards) for each in datasets]
    return model.fit(
        datasets[0],
        validation_data=datasets[1],
        callbacks=[follow, *callbacks],
        shuffle=False,
        verbose=quiet.VERBOSE if batches.shard_index == 0 else 0,
        **named,
    )


def dealt(dataset, strategy, num_replicas):
    """Returns a worker's batches, with rows divided among its own replicas; Keras would divide them among all."""

    def deal(*batch):
        return tf.nest.map_structure(lambda rows: tf.stack(tf.split(rows, num_replicas)), batch)

    parts = dataset.map(deal).unbatch()
    parts = parts.apply(tf.data.experimental.assert_cardinality(dataset.cardinality() * num_replicas))
    return strategy.distribute_datasets_from_function(lambda context: parts)


def mend_for_workers(model):
    """Makes `fit` run on several workers, where Keras 3 fails: https://github.com/keras-team/keras/issues/20585.

    Keras averages the metrics of the replicas over a first axis, so this adds that axis.
    """
    for name in ("train_step", "test_step"):
        step = getattr(model, name)
        setattr(model, name, lambda batch, step=step: {key: value[None] for key, value in step(batch).items()})
