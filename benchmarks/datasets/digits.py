"""The handwritten digits as several problems use them: split, batches, scores."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

BATCH_SIZE = 64
TRAIN_SIZE = 1437


class Labelled(NamedTuple):
    """Images in [0, 1], `[64, n]`, and one-hot labels, `[10, n]`, both float32.

    One-hot, because picking the label's logit by index is a gather for each lane
    of a vectorised run, several times the cost of the sum that replaces it. Batch
    last, as `benchmarks/models/layers.py` explains.
    """

    images: jax.Array | np.ndarray
    labels: jax.Array | np.ndarray


def digits(train_size: int = TRAIN_SIZE) -> dict[str, Labelled]:
    """scikit-learn's 1797 digits of 8 × 8 pixels: `train` 1437, `test` 360.

    One permutation of all digits, not stratified, drawn from `RandomState(0)`,
    whose stream NumPy keeps for good: its first `train_size` train, the others test.
    """
    pixels, classes = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(pixels))
    images = np.ascontiguousarray(pixels[order].T / 16.0, np.float32)
    labels = np.ascontiguousarray(np.eye(10)[classes[order]].T, np.float32)
    return {
        "train": Labelled(images[:, :train_size], labels[:, :train_size]),
        "test": Labelled(images[:, train_size:], labels[:, train_size:]),
    }


def sample_digits(key: jax.Array, data: dict[str, Labelled]) -> Labelled:
    """A batch of 64 training digits, drawn with replacement.

    The remainder of 32 random bits favours some digits by less than 1e-6; an unbiased
    draw would take a quarter of the time to compile a small network.
    """
    images, labels = data["train"]
    index = jax.random.bits(key, (BATCH_SIZE,)) % images.shape[1]
    return Labelled(images[:, index], labels[:, index])


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over the batch of −log p(label), in nats; both arguments `[10, n]`."""
    return jnp.mean(optax.softmax_cross_entropy(logits, labels, axis=0))


def scores(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """`loss`, the mean cross-entropy in nats, and `accuracy`, a share of 1."""
    right = jnp.argmax(logits, axis=0) == jnp.argmax(labels, axis=0)
    return {"loss": cross_entropy(logits, labels), "accuracy": jnp.mean(right)}
