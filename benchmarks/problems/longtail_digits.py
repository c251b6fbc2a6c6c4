"""Perceptron 64-128-128-10 on digits of which some classes are rare.

Source: Zhou, Qu, Xu and Shen, ImbSAM: A Closer Look at Sharpness-Aware Minimization in
Class-Imbalanced Recognition (2023), on the digits of Alpaydin and Kaynak (1998) as
scikit-learn ships them: 100 zeros, 72 ones and so on down to 5 nines to train in
batches of 32, all others held out.

Hard about it: the five rare classes, those with fewer than 20 training digits, have
one batch example in six, and the network learns them by heart. Accuracy is the mean
over classes, so that rare ones weigh as much as others; for the rare ones alone it
stands beside it.

`tail_loss` is the part of the loss that rare classes contribute, divided by the size
of the whole batch: head and tail add up to the loss.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.datasets.digits import Labelled, cross_entropy, digits
from benchmarks.models.mlp import MLP
from benchmarks.problem import Problem, PyTree

BATCH_SIZE = 32
COUNTS = (100, 72, 51, 37, 26, 19, 14, 10, 7, 5)
RARE = 20
_TAIL = np.array([[count < RARE] for count in COUNTS], np.float32)
_MODEL = MLP((128, 128, 10))


def _init(key: jax.Array) -> PyTree:
    return _MODEL.init(key, jnp.zeros((64, 1), jnp.float32))


def _sample(key: jax.Array, data: dict[str, Labelled]) -> Labelled:
    images, labels = data["train"]
    index = jax.random.bits(key, (BATCH_SIZE,)) % images.shape[1]
    return Labelled(images[:, index], labels[:, index])


def _loss(params: PyTree, batch: Labelled) -> jax.Array:
    return cross_entropy(_MODEL.apply(params, batch.images), batch.labels)


def _tail_loss(params: PyTree, batch: Labelled) -> jax.Array:
    logits = _MODEL.apply(params, batch.images)
    losses = optax.softmax_cross_entropy(logits, batch.labels, axis=0)
    rare = jnp.sum(batch.labels * _TAIL, axis=0)
    return jnp.mean(losses * rare)


def _evaluate(params: PyTree, data: dict[str, Labelled]) -> dict[str, jax.Array]:
    images, labels = data["test"]
    guessed = jnp.argmax(_MODEL.apply(params, images), axis=0)
    right = (guessed == jnp.argmax(labels, axis=0)).astype(labels.dtype)
    by_class = labels @ right / jnp.sum(labels, axis=1)
    rare = _TAIL[:, 0]
    accuracy = jnp.mean(by_class)
    return {
        "loss": 1 - accuracy,
        "accuracy": accuracy,
        "accuracy of common classes": jnp.sum(by_class * (1 - rare)) / sum(1 - rare),
        "accuracy of rare classes": jnp.sum(by_class * rare) / sum(rare),
    }


def _long_tailed() -> dict[str, Labelled]:
    """The first digits of each class train, as many as `COUNTS` says."""
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
    """The network, scored by its mean accuracy over classes."""
    return Problem(
        name="longtail_digits",
        summary="Network on images of which some classes are rare.",
        formula="mean cross-entropy of a 64-128-128-10 ReLU network, batches of 32",
        source="Zhou, Qu, Xu and Shen, ImbSAM (2023), on digits",
        tags=frozenset({"nonconvex", "stochastic", "data", "network", "long tail"}),
        budget=2200,
        init=_init,
        loss=_loss,
        sample=_sample,
        data=_long_tailed(),
        evaluate=_evaluate,
        metric="clean test error",
        scored=False,
        tail_loss=_tail_loss,
    )
