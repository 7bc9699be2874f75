"""The model that the tests of the client ask: strings and numbers of every kind that signatures have."""

import socket

import tensorflow as tf

NAME = "texts"
NOT_UTF8 = b"caf\xe9 \xff"


class Texts(tf.Module):
    """Strings and numbers of every kind that signatures have."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def describe(self, text):
        lengths = tf.strings.length(text)  # [B]
        return {
            "upper": tf.strings.upper(text),
            "length": lengths,
            "score": 1 / tf.cast(lengths, tf.float32),  # infinite for the empty string
            "long": tf.cast(lengths, tf.int64) * 2**53 + 1,
            "empty": tf.equal(text, ""),
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32, name="ids"),
            tf.TensorSpec([None], tf.float32, name="weights"),
        ]
    )
    def weigh(self, ids, weights):
        with tf.control_dependencies([tf.debugging.assert_non_negative(ids)]):
            return {"weighed": tf.cast(ids, tf.float32) * weights[:, None]}  # [B, S]

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.string, name="pairs")])
    def echo(self, pairs):
        return {"pairs": pairs, "pairs_bytes": pairs}


def save(directory):
    """Writes two versions of the model."""
    model = Texts()
    signatures = {"serving_default": model.describe, "weigh": model.weigh, "echo": model.echo}
    for version in (3, 11):
        tf.saved_model.save(model, str(directory / str(version)), signatures=signatures)


def addresses_of(double):
    """Returns the addresses of a server by protocol."""
    return {"grpc": double.grpc_address, "rest": double.rest_address}


def free_port():
    """Returns a port at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
