"""Handwritten digits: the split, batches and scores that several problems share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

TRAIN_SIZE = 1437


class Labelled(NamedTuple):
    """Images in [0, 1], `[64, n]`, and one-hot labels, `[10, n]`, both float32.

    The labels are one-hot, because selecting the label's logit by index is a gather in
    each of the vectorized runs and several times as expensive as the sum that replaces
    it. `benchmarks/models/layers.py` explains why the batch is the last axis.
    """

    images: Any  # a NumPy array on the host, a jax.Array on the device
    labels: Any  # as images


def digits(train_size: int = TRAIN_SIZE) -> dict[str, Labelled]:
    """scikit-learn's 1797 digits of 8 × 8 pixels: `train` 1437, `test` 360.

    The first `train_size` digits of a random permutation are for training, the others
    for testing; the split is not stratified. The permutation is drawn from
    `RandomState(0)`, whose numbers are the same in every version of NumPy.
    """
    pixels, classes = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(pixels))
    images = np.ascontiguousarray(pixels[order].T / 16.0, np.float32)
    labels = np.ascontiguousarray(np.eye(10)[classes[order]].T, np.float32)
    return {
        "train": Labelled(images[:, :train_size], labels[:, :train_size]),
        "test": Labelled(images[:, train_size:], labels[:, train_size:]),
    }


def sample_digits(
    batch_size: int,
) -> Callable[[jax.Array, dict[str, Labelled]], Labelled]:
    """A `Problem.sample` that draws training digits with replacement.

    It takes 32 random bits modulo the number of digits, which changes the probability
    of a digit by less than 1e-6. An exactly uniform draw would account for a quarter of
    the compilation time of a small network.
    """

    def sample(key: jax.Array, data: dict[str, Labelled]) -> Labelled:
        images, labels = data["train"]
        index = jax.random.bits(key, (batch_size,)) % images.shape[1]
        return Labelled(images[:, index], labels[:, index])

    return sample


def training_digits(data: dict[str, Labelled]) -> Labelled:
    """All training digits in one batch, as `Problem.full_batch`."""
    return data["train"]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean of −log p(label) over the batch, in nats; both arguments `[10, n]`."""
    return jnp.mean(optax.softmax_cross_entropy(logits, labels, axis=0))


def scores(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """`loss`, the mean cross-entropy in nats, and `accuracy`, between 0 and 1."""
    right = jnp.argmax(logits, axis=0) == jnp.argmax(labels, axis=0)
    return {"loss": cross_entropy(logits, labels), "accuracy": jnp.mean(right)}
