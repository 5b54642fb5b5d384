"""Versions with something wrong: ``python make_versions.py KIND DIRECTORY``, with the signature of the example models.

``failing`` raises where the first pixel is above 0.97; ``slow`` takes about a second.
"""

from __future__ import annotations

import sys

import tensorflow as tf

SIDE, INPUT, OUTPUT = 28, sys.argv[3], sys.argv[4]


class Version(tf.Module):
    """Ten equal probabilities."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.scale = tf.Variable(1.0)

    def serve(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.shape(images)[0]
        scores = tf.fill([rows, 10], 0.1) * self.scale
        if self.kind == "failing":
            check = tf.debugging.Assert(tf.reduce_max(images[:, 0, 0, 0]) <= 0.97, ["a bright first pixel"])
            with tf.control_dependencies([check]):
                scores = tf.identity(scores)
        if self.kind == "slow":
            until = tf.timestamp() + 1.0
            _, waste = tf.while_loop(
                lambda now, _: now < until,
                lambda _, waste: (tf.timestamp(), tf.reduce_sum(tf.ones([64, 64]) * waste) / 4096.0),
                (tf.timestamp(), tf.constant(1.0)),
            )
            scores *= waste
        return {OUTPUT: scores}


module = Version(sys.argv[1])
spec = tf.TensorSpec((None, SIDE, SIDE, 1), tf.float32, name=INPUT)
tf.saved_model.save(module, sys.argv[2], signatures=tf.function(module.serve, input_signature=[spec]))
