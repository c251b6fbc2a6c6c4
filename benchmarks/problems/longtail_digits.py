"""Perceptron 64-128-128-10 on digits with rare classes.

Source: Zhou, Qu, Xu and Shen, ImbSAM: A Closer Look at Sharpness-Aware Minimization
in Class-Imbalanced Recognition (2023), on the digits of Alpaydin and Kaynak (1998) as
shipped with scikit-learn. The training set has 100 zeros, 72 ones and so on down to 5
nines, in batches of 32; all other digits are held out.

Difficulty: the five rare classes, those with fewer than 20 training digits,
contribute only one example in six, and the network memorizes them. The accuracy is
the mean over classes, so that all classes have equal weight; the accuracies of common
and of rare classes are reported beside it.

`tail_loss` is the sum of the losses of rare examples divided by the size of the whole
batch, so that the losses of common and rare examples add up to `loss`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.datasets.digits import (
    Labelled,
    cross_entropy,
    digits,
    sample_digits,
    training_digits,
)
from benchmarks.models.layers import apply
from benchmarks.models.mlp import MLP
from benchmarks.problem import Problem, PyTree

BATCH_SIZE = 32
COUNTS = (100, 72, 51, 37, 26, 19, 14, 10, 7, 5)
RARE = 20
_TAIL = np.array([[count < RARE] for count in COUNTS], np.float32)
_MODEL = MLP((128, 128, 10))


def _init(key: jax.Array) -> PyTree:
    return _MODEL.init(key, jnp.zeros((64, 1), jnp.float32))


def _loss(params: PyTree, batch: Labelled) -> jax.Array:
    return cross_entropy(apply(_MODEL, params, batch.images), batch.labels)


def _tail_loss(params: PyTree, batch: Labelled) -> jax.Array:
    logits = apply(_MODEL, params, batch.images)
    losses = optax.softmax_cross_entropy(logits, batch.labels, axis=0)
    rare = jnp.sum(batch.labels * _TAIL, axis=0)
    return jnp.mean(losses * rare)


def _evaluate(params: PyTree, data: dict[str, Labelled]) -> dict[str, jax.Array]:
    images, labels = data["test"]
    predicted = jnp.argmax(apply(_MODEL, params, images), axis=0)
    correct = (predicted == jnp.argmax(labels, axis=0)).astype(labels.dtype)
    by_class = labels @ correct / jnp.sum(labels, axis=1)
    rare = _TAIL[:, 0]
    accuracy = jnp.mean(by_class)
    return {
        "loss": 1 - accuracy,
        "accuracy": accuracy,
        "accuracy of common classes": jnp.sum(by_class * (1 - rare)) / sum(1 - rare),
        "accuracy of rare classes": jnp.sum(by_class * rare) / sum(rare),
    }


def _long_tailed() -> dict[str, Labelled]:
    """The first `COUNTS` digits of each class for training, the others for testing."""
    whole = digits()
    images, labels = (
        np.concatenate(parts, 1) for parts in zip(*whole.values(), strict=True)
    )
    classes = labels.argmax(axis=0)
    place = np.zeros(len(classes), int)
    for digit in range(10):
        place[classes == digit] = np.arange((classes == digit).sum())
    train = place < np.array(COUNTS)[classes]
    return {
        "train": Labelled(images[:, train], labels[:, train]),
        "test": Labelled(images[:, ~train], labels[:, ~train]),
    }


def problem() -> Problem:
    """The network, evaluated by its mean accuracy over classes."""
    return Problem(
        name="longtail_digits",
        summary="Network on images with rare classes.",
        formula="mean cross-entropy of a 64-128-128-10 ReLU network, batches of 32",
        source="Zhou, Qu, Xu and Shen, ImbSAM (2023), on digits",
        tags=frozenset({"nonconvex", "stochastic", "data", "network", "long tail"}),
        budget=2200,
        init=_init,
        loss=_loss,
        sample=sample_digits(BATCH_SIZE),
        full_batch=training_digits,
        data=_long_tailed(),
        evaluate=_evaluate,
        metric="clean test error",
        scored=False,
        tail_loss=_tail_loss,
    )
