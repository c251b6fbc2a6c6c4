"""Softmax regression on handwritten digits: mean cross-entropy of W x + b.

Source: the digits of Alpaydin and Kaynak (1998), 8 × 8 pixels, as scikit-learn
ships them: 1437 to train in batches of 64, 360 held out.

Hard about it: little, and that is its use: convex, 650 parameters, well scaled.
What is measured is how an optimizer settles under the noise of small batches. The
loss is that of the held-out digits, so that fitting noise is no gain, and has no
known minimum.

A seed draws the start, normal with deviation 0.01 around 0, and the batches.
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
from benchmarks.problem import Problem

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
    """The regression, scored on the held-out digits."""
    return Problem(
        name="softmax_digits",
        summary="Convex classification of digits under the noise of small batches.",
        formula="f(W, b) = mean cross-entropy of softmax(W x + b), batches of 64",
        source="Alpaydin and Kaynak, handwritten digits (1998), via scikit-learn",
        tags=frozenset({"convex", "stochastic", "data"}),
        budget=1000,
        init=_init,
        loss=_loss,
        sample=sample_digits,
        data=digits(),
        evaluate=_evaluate,
    )
