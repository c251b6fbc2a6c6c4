"""Network on digits with a second wish: small spectral norms of its kernels.

Source: the second experiment of Hsieh, Thornton, Ndiaye, Klein, Cuturi and Ablin,
Careful with that Scalpel: Improving Gradient Surgery with an EMA (2024), section 5.1,
on smaller images: the digits of Alpaydin and Kaynak (1998) as scikit-learn ships
them, 1437 to train in batches of 128, each pixel standardised; perceptron 64-64-32-10
with ReLU.

Hard about it: the auxiliary loss, the sum over layers of log ‖W‖₂, bounds how fast the
network's output can change (it is the logarithm of a Lipschitz constant), and has no
minimum: kernels may shrink for ever. How much cross-entropy a method pays for smooth
outputs is read from its front and not from one weight.

Both losses are scored on the training digits, where the trade is made; held-out loss
and accuracy are reported beside them. The norm comes from squaring the Gram matrix ten
times, which leaves its leading eigenvector: matrix products of all lanes at once, where
singular values would be found lane by lane.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.datasets.digits import Labelled, cross_entropy, digits, scores
from benchmarks.models.mlp import MLP
from benchmarks.problem import Front, Problem, PyTree

BATCH_SIZE = 128
_SQUARINGS = 10
_MODEL = MLP((64, 32, 10))


def _init(key: jax.Array) -> PyTree:
    return _MODEL.init(key, jnp.zeros((64, 1), jnp.float32))


def _kernels(params: PyTree) -> list[jax.Array]:
    return [layer["kernel"] for layer in params["params"].values()]


def _sample(key: jax.Array, data: dict[str, Labelled]) -> Labelled:
    images, labels = data["train"]
    index = jax.random.bits(key, (BATCH_SIZE,)) % images.shape[1]
    return Labelled(images[:, index], labels[:, index])


def _loss(params: PyTree, batch: Labelled) -> jax.Array:
    return cross_entropy(_MODEL.apply(params, batch.images), batch.labels)


def _spectral_norm(kernel: jax.Array) -> jax.Array:
    """‖W‖₂, its gradient the outer product of the leading singular vectors."""
    fixed = jax.lax.stop_gradient(kernel)
    power = fixed @ fixed.T
    for _ in range(_SQUARINGS):
        power = power / jnp.max(jnp.abs(power))
        power = power @ power
    # By now the projector on the leading vector; its longest column is never 0.
    diagonal = jnp.sum(power * jnp.eye(len(power), dtype=power.dtype), axis=1)
    left = power @ (diagonal == jnp.max(diagonal)).astype(power.dtype)
    left = left / jnp.sqrt(jnp.sum(left**2))
    right = left @ fixed
    right = right / jnp.sqrt(jnp.sum(right**2))
    return left @ (kernel @ right)


def _aux_loss(params: PyTree, batch: Labelled) -> jax.Array:
    del batch
    return sum(jnp.log(_spectral_norm(kernel)) for kernel in _kernels(params))


def _evaluate(params: PyTree, data: dict[str, Labelled]) -> dict[str, jax.Array]:
    train, test = data["train"], data["test"]
    held_out = scores(_MODEL.apply(params, test.images), test.labels)
    return {
        "loss": cross_entropy(_MODEL.apply(params, train.images), train.labels),
        "aux": _aux_loss(params, train),
        "test_loss": held_out["loss"],
        "accuracy": held_out["accuracy"],
    }


def _standardised() -> dict[str, Labelled]:
    data = digits()
    mean = data["train"].images.mean(axis=1, keepdims=True)
    spread = data["train"].images.std(axis=1, keepdims=True)
    spread = np.where(spread > 0, spread, 1)  # pixels that are blank in all images
    return {
        name: Labelled(np.float32((part.images - mean) / spread), part.labels)
        for name, part in data.items()
    }


def problem() -> Problem:
    """The network and its two losses."""
    return Problem(
        name="smooth_mlp",
        summary="Network on images that is also to have small spectral norms.",
        formula="main: cross-entropy of a 64-64-32-10 ReLU network; aux: Σ log ‖W‖₂",
        source="Hsieh et al., Careful with that Scalpel (2024), on digits",
        tags=frozenset(
            {"nonconvex", "stochastic", "data", "network", "two objectives"}
        ),
        budget=2200,
        init=_init,
        loss=_loss,
        sample=_sample,
        data=_standardised(),
        evaluate=_evaluate,
        metric="training cross-entropy",
        scored=False,
        aux_loss=_aux_loss,
        front=Front(reference=(0.2, float(np.log(8))), level=float(np.log(3.8))),
    )
