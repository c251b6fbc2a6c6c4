"""Bilinear game: one player minimizes (x − a)ᵀ A (y − b), the other maximizes it.

Source: Daskalakis, Ilyas, Syrgkanis and Zeng, Training GANs with Optimism (2018),
section 3. In this game the last iterate of gradient descent moves away from the
equilibrium, and that of optimistic gradient descent converges to it.

Difficulty: there is no loss to descend. The vector field rotates around the
equilibrium (a, b), and each step along it, however small, leads away from it. The
singular values of A, from 1 to 0.2, give five rotations with different speeds. Only
methods that look ahead or average their iterates come closer.

A step descends A (y − b) in x, the minimizing player, and −Aᵀ (x − a) in y, the
maximizing player. The metric is the squared distance to the equilibrium, in float64.
A, a and b are drawn once.
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
    """The game of two players with five variables each."""
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
        for_x = jnp.matmul(matrix, y, precision="highest")
        for_y = -jnp.matmul(x, matrix, precision="highest")
        return jnp.concatenate([for_x, for_y])

    def evaluate_exact(z: np.ndarray) -> dict[str, np.ndarray]:
        return {"loss": ((z - equilibrium) ** 2).sum(axis=-1)}

    return Problem(
        name="bilinear",
        summary="Game whose vector field rotates around the equilibrium.",
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
