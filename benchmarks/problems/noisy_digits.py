"""Perceptron 64-128-10 on digits with random labels for four in ten.

Source: symmetric label noise as in Foret, Kleiner, Mobahi and Neyshabur,
Sharpness-Aware Minimization (2020), section 3.3, on the digits of Alpaydin and Kaynak
(1998) as shipped with scikit-learn: 1297 for training in batches of 64, 500 held out.
Each training label is replaced, with probability 0.4, by one of the ten labels, drawn
once. The held-out labels are correct.

Difficulty: fitting the training data well is not the aim. An optimizer first learns
what the digits of a class have in common and then memorizes the wrong labels, so the
accuracy on correct labels rises and then falls. The final and the best accuracy
during training are both reported, because early stopping is the cheapest remedy.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.datasets.digits import (
    Labelled,
    cross_entropy,
    digits,
    sample_digits,
    scores,
    training_digits,
)
from benchmarks.models.layers import apply
from benchmarks.models.mlp import MLP
from benchmarks.problem import Problem, PyTree

TRAIN_SIZE = 1297
NOISE = 0.4
BATCH_SIZE = 64
_MODEL = MLP((128, 10))


def _init(key: jax.Array) -> PyTree:
    return _MODEL.init(key, jnp.zeros((64, 1), jnp.float32))


def _loss(params: PyTree, batch: Labelled) -> jax.Array:
    return cross_entropy(apply(_MODEL, params, batch.images), batch.labels)


def _evaluate(params: PyTree, data: dict[str, Labelled]) -> dict[str, jax.Array]:
    found = scores(apply(_MODEL, params, data["test"].images), data["test"].labels)
    accuracy = found["accuracy"]
    return {"loss": 1 - accuracy, "accuracy": accuracy}


def _noisy() -> dict[str, Labelled]:
    data = digits(TRAIN_SIZE)
    images, labels = data["train"]
    random = np.random.RandomState(1)
    replaced = random.random_sample(TRAIN_SIZE) < NOISE
    drawn = np.eye(10, dtype=np.float32)[random.randint(10, size=TRAIN_SIZE)].T
    return data | {"train": Labelled(images, np.where(replaced, drawn, labels))}


def problem() -> Problem:
    """The network, evaluated on held-out digits with correct labels."""
    return Problem(
        name="noisy_digits",
        summary="Network on images, 40 % of them with a random label.",
        formula="mean cross-entropy of a 64-128-10 ReLU network, batches of 64",
        source="Foret et al., Sharpness-Aware Minimization (2020), on digits",
        tags=frozenset({"nonconvex", "stochastic", "data", "network", "label noise"}),
        budget=3000,
        init=_init,
        loss=_loss,
        sample=sample_digits(BATCH_SIZE),
        full_batch=training_digits,
        data=_noisy(),
        evaluate=_evaluate,
        metric="clean test error",
        scored=False,
    )
