"""Perceptron 64-128-10 on digits of which four in ten have a random label.

Source: symmetric label noise as in Foret, Kleiner, Mobahi and Neyshabur,
Sharpness-Aware Minimization (2020), section 3.3, on the digits of Alpaydin and Kaynak
(1998) as scikit-learn ships them: 1297 to train in batches of 64, 500 held out. Each
training label is replaced with probability 0.4 by one of the ten, drawn once and for
all; the held-out labels are right.

Hard about it: a good fit is a bad answer. Descent first finds what the digits have in
common and then learns the wrong labels by heart, so that clean accuracy rises and
falls again; the last value and the best one on the way are both reported, because
stopping early is the cheapest remedy of all.
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
)
from benchmarks.models.mlp import MLP
from benchmarks.problem import Problem, PyTree

TRAIN_SIZE = 1297
NOISE = 0.4
_MODEL = MLP((128, 10))


def _init(key: jax.Array) -> PyTree:
    return _MODEL.init(key, jnp.zeros((64, 1), jnp.float32))


def _loss(params: PyTree, batch: Labelled) -> jax.Array:
    return cross_entropy(_MODEL.apply(params, batch.images), batch.labels)


def _evaluate(params: PyTree, data: dict[str, Labelled]) -> dict[str, jax.Array]:
    found = scores(_MODEL.apply(params, data["test"].images), data["test"].labels)
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
    """The network, scored on held-out digits with the right labels."""
    return Problem(
        name="noisy_digits",
        summary="Network on images of which 40 % have a random label.",
        formula="mean cross-entropy of a 64-128-10 ReLU network, batches of 64",
        source="Foret et al., Sharpness-Aware Minimization (2020), on digits",
        tags=frozenset({"nonconvex", "stochastic", "data", "network", "label noise"}),
        budget=3000,
        init=_init,
        loss=_loss,
        sample=sample_digits,
        data=_noisy(),
        evaluate=_evaluate,
        metric="clean test error",
        scored=False,
    )
