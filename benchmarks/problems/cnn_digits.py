"""Convolutional network on handwritten digits, mean cross-entropy.

Source: the digits of Alpaydin and Kaynak (1998), 8 × 8 pixels, as shipped with
scikit-learn: 1437 for training in batches of 64, 360 held out. The network has two 3
× 3 convolutions with stride 2, with 8 and 16 features, and a dense layer. It is
initialized as in He et al., Delving Deep into Rectifiers (2015).

Difficulty: weight sharing gives the layers gradients of different scale, with only
1898 parameters and 500 steps. Seeds differ more than optimizers do: about thirty
seeds are needed to detect a difference of 10 %.
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
from benchmarks.models.cnn import CNN
from benchmarks.models.layers import apply
from benchmarks.problem import Problem, PyTree

BATCH_SIZE = 64
_MODEL = CNN((8, 16), 10)


def _logits(params: PyTree, images: jax.Array) -> jax.Array:
    return apply(_MODEL, params, images.reshape(1, 8, 8, -1))


def _init(key: jax.Array) -> PyTree:
    return _MODEL.init(key, jnp.zeros((1, 8, 8, 1), jnp.float32))


def _loss(params: PyTree, batch: Labelled) -> jax.Array:
    return cross_entropy(_logits(params, batch.images), batch.labels)


def _evaluate(params: PyTree, data: dict[str, Labelled]) -> dict[str, jax.Array]:
    return scores(_logits(params, data["test"].images), data["test"].labels)


def problem() -> Problem:
    """The network, evaluated on the held-out digits."""
    return Problem(
        name="cnn_digits",
        summary="Small convolutional network, evaluated on held-out digits.",
        formula="mean cross-entropy of conv 8, conv 16, dense 10, batches of 64",
        source="Alpaydin and Kaynak, handwritten digits (1998), via scikit-learn",
        tags=frozenset({"nonconvex", "stochastic", "data", "network"}),
        budget=500,
        init=_init,
        loss=_loss,
        sample=sample_digits(BATCH_SIZE),
        full_batch=training_digits,
        data=digits(),
        evaluate=_evaluate,
    )
