"""Perceptron 64-32-10 with ReLU on handwritten digits, mean cross-entropy.

Source: the digits of Alpaydin and Kaynak (1998), 8 × 8 pixels, as scikit-learn
ships them: 1437 to train in batches of 64, 360 held out; weights drawn as by He et
al., Delving Deep into Rectifiers (2015).

Hard about it: the smallest network that behaves like one: not convex, 2410
parameters, enough of them to fit every training digit, so that the held-out loss,
which is the score, also tells a rate that is too large from one that is too small.
"""

import jax
import jax.numpy as jnp

from benchmarks.datasets.digits import (
    Labelled,
    cross_entropy,
    digits,
    sample_digits,
    scores,
)
from benchmarks.models.mlp import MLP
from benchmarks.problem import Problem, PyTree

_MODEL = MLP((32, 10))


def _init(key: jax.Array) -> PyTree:
    return _MODEL.init(key, jnp.zeros((64, 1), jnp.float32))


def _loss(params: PyTree, batch: Labelled) -> jax.Array:
    return cross_entropy(_MODEL.apply(params, batch.images), batch.labels)


def _evaluate(params: PyTree, data: dict[str, Labelled]) -> dict[str, jax.Array]:
    return scores(_MODEL.apply(params, data["test"].images), data["test"].labels)


def problem() -> Problem:
    """The network, scored on the held-out digits."""
    return Problem(
        name="mlp32_digits",
        summary="Smallest network on images, scored on held-out digits.",
        formula="mean cross-entropy of a 64-32-10 ReLU network, batches of 64",
        source="Alpaydin and Kaynak, handwritten digits (1998), via scikit-learn",
        tags=frozenset({"nonconvex", "stochastic", "data", "network"}),
        budget=600,
        init=_init,
        loss=_loss,
        sample=sample_digits,
        data=digits(),
        evaluate=_evaluate,
    )
