"""Network on digits with an auxiliary loss: the spectral norms of its kernels.

Source: the second experiment of Hsieh, Thornton, Ndiaye, Klein, Cuturi and Ablin,
Careful with that Scalpel: Improving Gradient Surgery with an EMA (2024), section 5.1,
on smaller images: the digits of Alpaydin and Kaynak (1998) as shipped with
scikit-learn, 1437 for training in batches of 128, each pixel standardized. The
network is a perceptron 64-64-32-10 with ReLU.

Difficulty: the auxiliary loss, the sum of log ‖W‖₂ over layers, is the logarithm of a
Lipschitz constant of the network. It has no minimum, because kernels can shrink
without bound. The increase in cross-entropy that a method accepts for a smoother
network is therefore read from its Pareto front, not from a single weight.

Both losses are evaluated on the training digits, on which the two are traded off. The
held-out loss and accuracy are reported as well. The spectral norm is computed by
squaring the Gram matrix ten times, which leaves the leading eigenvector. This uses
matrix products of all runs at once; singular value decompositions would run one after
the other.
"""

import functools
import operator

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
from benchmarks.problem import FrontSpec, Problem, PyTree

BATCH_SIZE = 128
_SQUARINGS = 10
_MODEL = MLP((64, 32, 10))


def _init(key: jax.Array) -> PyTree:
    return _MODEL.init(key, jnp.zeros((64, 1), jnp.float32))


def _kernels(params: PyTree) -> list[jax.Array]:
    return [layer["kernel"] for layer in params["params"].values()]


def _loss(params: PyTree, batch: Labelled) -> jax.Array:
    return cross_entropy(apply(_MODEL, params, batch.images), batch.labels)


def _spectral_norm(kernel: jax.Array) -> jax.Array:
    """‖W‖₂; its gradient is the outer product of the leading singular vectors."""
    fixed = jax.lax.stop_gradient(kernel)
    power = fixed @ fixed.T
    for _ in range(_SQUARINGS):
        power = power / jnp.max(jnp.abs(power))
        power = power @ power
    # Now a multiple of the projector onto the leading vector; its column with the
    # largest diagonal entry is not 0.
    diagonal = jnp.sum(power * jnp.eye(len(power), dtype=power.dtype), axis=1)
    left = power @ (diagonal == jnp.max(diagonal)).astype(power.dtype)
    left = left / jnp.sqrt(jnp.sum(left**2))
    right = left @ fixed
    right = right / jnp.sqrt(jnp.sum(right**2))
    return left @ (kernel @ right)


def _aux_loss(params: PyTree, batch: Labelled) -> jax.Array:
    del batch
    logs = [jnp.log(_spectral_norm(kernel)) for kernel in _kernels(params)]
    return functools.reduce(operator.add, logs)


def _evaluate(params: PyTree, data: dict[str, Labelled]) -> dict[str, jax.Array]:
    train, test = data["train"], data["test"]
    held_out = scores(apply(_MODEL, params, test.images), test.labels)
    return {
        "loss": cross_entropy(apply(_MODEL, params, train.images), train.labels),
        "aux": _aux_loss(params, train),
        "test_loss": held_out["loss"],
        "accuracy": held_out["accuracy"],
    }


def _standardized() -> dict[str, Labelled]:
    data = digits()
    mean = data["train"].images.mean(axis=1, keepdims=True)
    spread = data["train"].images.std(axis=1, keepdims=True)
    spread = np.where(spread > 0, spread, 1)  # pixels that are constant
    return {
        name: Labelled(((part.images - mean) / spread).astype(np.float32), part.labels)
        for name, part in data.items()
    }


def problem() -> Problem:
    """The network and its two losses."""
    return Problem(
        name="smooth_mlp",
        summary="Network on images, with its spectral norms as the second objective.",
        formula="main: cross-entropy of a 64-64-32-10 ReLU network; aux: Σ log ‖W‖₂",
        source="Hsieh et al., Careful with that Scalpel (2024), on digits",
        tags=frozenset(
            {"nonconvex", "stochastic", "data", "network", "two objectives"}
        ),
        budget=2200,
        init=_init,
        loss=_loss,
        sample=sample_digits(BATCH_SIZE),
        full_batch=training_digits,
        data=_standardized(),
        evaluate=_evaluate,
        metric="training cross-entropy",
        scored=False,
        aux_loss=_aux_loss,
        front=FrontSpec(reference=(0.2, float(np.log(8))), level=float(np.log(3.8))),
    )
