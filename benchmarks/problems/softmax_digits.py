"""Softmax regression on handwritten digits: mean cross-entropy of W x + b.

Source: the digits of Alpaydin and Kaynak (1998), 8 × 8 pixels, as shipped with
scikit-learn: 1437 for training in batches of 64, 360 held out.

Difficulty: only the noise of small batches. The problem is convex and well scaled,
with 650 parameters. The loss is evaluated on the held-out digits, so that fitting
noise is no advantage; its minimum is not known.

A seed draws the start, from a normal distribution with standard deviation 0.01, and
the batches.
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
from benchmarks.problem import Problem

BATCH_SIZE = 64
START_DEVIATION = 0.01


def _logits(params: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    return params["weights"] @ images + params["bias"][:, None]


def _init(key: jax.Array) -> dict[str, jax.Array]:
    weights = jax.random.normal(key, (10, 64), jnp.float32)
    return {
        "weights": START_DEVIATION * weights,
        "bias": jnp.zeros((10,), jnp.float32),
    }


def _loss(params: dict[str, jax.Array], batch: Labelled) -> jax.Array:
    return cross_entropy(_logits(params, batch.images), batch.labels)


def _evaluate(
    params: dict[str, jax.Array], data: dict[str, Labelled]
) -> dict[str, jax.Array]:
    return scores(_logits(params, data["test"].images), data["test"].labels)


def problem() -> Problem:
    """The regression, evaluated on the held-out digits."""
    return Problem(
        name="softmax_digits",
        summary="Convex classification of digits with the noise of small batches.",
        formula="f(W, b) = mean cross-entropy of softmax(W x + b), batches of 64",
        source="Alpaydin and Kaynak, handwritten digits (1998), via scikit-learn",
        tags=frozenset({"convex", "stochastic", "data"}),
        budget=1000,
        init=_init,
        loss=_loss,
        sample=sample_digits(BATCH_SIZE),
        full_batch=training_digits,
        data=digits(),
        evaluate=_evaluate,
    )
