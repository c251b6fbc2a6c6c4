"""Perceptron 64-32-10 with ReLU on handwritten digits, mean cross-entropy.

Source: the digits of Alpaydin and Kaynak (1998), 8 × 8 pixels, as shipped with
scikit-learn: 1437 for training in batches of 64, 360 held out. The network is
initialized as in He et al., Delving Deep into Rectifiers (2015).

Difficulty: a small network that is hard in the same ways as larger ones. It is not
convex, and its 2410 parameters are enough to fit all training digits, so the held-out
loss, which is evaluated here, penalizes learning rates that are too large as well as
those that are too small.
"""

import jax
import jax.numpy as jnp

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

BATCH_SIZE = 64
_MODEL = MLP((32, 10))


def _init(key: jax.Array) -> PyTree:
    return _MODEL.init(key, jnp.zeros((64, 1), jnp.float32))


def _loss(params: PyTree, batch: Labelled) -> jax.Array:
    return cross_entropy(apply(_MODEL, params, batch.images), batch.labels)


def _evaluate(params: PyTree, data: dict[str, Labelled]) -> dict[str, jax.Array]:
    return scores(apply(_MODEL, params, data["test"].images), data["test"].labels)


def problem() -> Problem:
    """The network, evaluated on the held-out digits."""
    return Problem(
        name="mlp32_digits",
        summary="Small network on images, evaluated on held-out digits.",
        formula="mean cross-entropy of a 64-32-10 ReLU network, batches of 64",
        source="Alpaydin and Kaynak, handwritten digits (1998), via scikit-learn",
        tags=frozenset({"nonconvex", "stochastic", "data", "network"}),
        budget=600,
        init=_init,
        loss=_loss,
        sample=sample_digits(BATCH_SIZE),
        full_batch=training_digits,
        data=digits(),
        evaluate=_evaluate,
    )
