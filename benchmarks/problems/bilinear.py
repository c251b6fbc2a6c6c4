"""Bilinear game: one player wants (x − a)ᵀ A (y − b) small, the other wants it large.

Source: the game on which Daskalakis, Ilyas, Syrgkanis and Zeng, Training GANs with
Optimism (2018), section 3, show that the last iterate of gradient descent moves away
from the equilibrium and that of optimistic descent converges to it.

Hard about it: there is no loss to descend. The field turns around the equilibrium
(a, b), and every step along it, however small, leads outwards; with singular values
of A from 1 to 0.2 the five rotations have different speeds. Only a method that looks
ahead, or averages what it passes through, comes closer.

The field that a step descends is A (y − b) for x, the minimising player, and
−Aᵀ (x − a) for y, the maximising one. What is measured is the squared distance to the
equilibrium, on float64; A and the equilibrium are fixed draws.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import Problem

SIZE = 5
SMALLEST = 0.2


def _orthogonal(random: np.random.RandomState) -> np.ndarray:
    q, r = np.linalg.qr(random.standard_normal((SIZE, SIZE)))
    return q * np.sign(np.diag(r))


def problem() -> Problem:
    """The game of two players with five numbers each."""
    random = np.random.RandomState(0)
    singular = np.linspace(1.0, SMALLEST, SIZE)
    matrix = (_orthogonal(random) * singular) @ _orthogonal(random)
    equilibrium = random.standard_normal(2 * SIZE)
    data = {"matrix": np.float32(matrix), "equilibrium": equilibrium}

    def players(z: jax.Array, data: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        offset = z - jnp.asarray(data["equilibrium"], z.dtype)
        return offset[:SIZE], offset[SIZE:]

    def loss(z: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        x, y = players(z, data)
        return jnp.sum(x * jnp.matmul(data["matrix"], y, precision="highest"))

    def gradient(z: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
        x, y = players(z, batch)
        matrix = batch["matrix"]
        minimise = jnp.matmul(matrix, y, precision="highest")
        maximise = -jnp.matmul(x, matrix, precision="highest")
        return jnp.concatenate([minimise, maximise])

    def evaluate_exact(z: np.ndarray) -> dict[str, np.ndarray]:
        return {"loss": ((z - equilibrium) ** 2).sum(axis=-1)}

    return Problem(
        name="bilinear",
        summary="Game whose field turns around the equilibrium and never points to it.",
        formula="min over x, max over y of (x − a)ᵀ A (y − b), x, y ∈ R⁵",
        source="Daskalakis, Ilyas, Syrgkanis and Zeng, Training GANs with Optimism "
        "(2018)",
        tags=frozenset({"game", "deterministic", "analytic"}),
        budget=5000,
        init=lambda key: jax.random.normal(key, (2 * SIZE,), jnp.float32),
        loss=loss,
        data=data,
        evaluate_exact=evaluate_exact,
        f_star=0.0,
        minimizer=equilibrium,
        metric="squared distance",
        gradient=gradient,
    )
