"""Diagonal quadratic: ½ Σ λᵢ (xᵢ − cᵢ)², 100 eigenvalues λ log-spaced from 1 to 1e-4.

Source: the strongly convex model problem of Nesterov, Introductory Lectures on Convex
Optimization (2004), section 2.1, with condition number κ = 1e4.

Difficulty: one learning rate must serve curvatures that differ by a factor of 1e4, so
gradient descent needs on the order of κ steps. The eigenvectors are the coordinate
axes: a method that rescales each coordinate is not affected by the conditioning.
`quad_rot` takes this advantage away.

The centre c is drawn once from a normal distribution, in float64. Its coordinates are
not float32 numbers, so no optimizer reaches the minimizer exactly by chance.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import Problem

DIMENSION = 100
CONDITION = 1e4


def problem() -> Problem:
    """The quadratic, started at a standard normal point."""
    eigenvalues = np.geomspace(1.0, 1.0 / CONDITION, DIMENSION).astype(np.float32)
    center = np.random.RandomState(0).standard_normal(DIMENSION)

    def loss(x: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        offset = x - jnp.asarray(data["center"], x.dtype)
        return 0.5 * jnp.sum(data["eigenvalues"] * offset**2)

    def evaluate_exact(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"loss": 0.5 * ((x - center) ** 2 @ eigenvalues.astype(np.float64))}

    return Problem(
        name="quad_diag",
        summary="Axis-aligned quadratic with curvatures over four orders of magnitude.",
        formula="f(x) = ½ Σ λᵢ (xᵢ − cᵢ)², λ log-spaced in [1e-4, 1], x ∈ R¹⁰⁰",
        source="Nesterov, Introductory Lectures on Convex Optimization (2004), §2.1",
        tags=frozenset({"convex", "deterministic", "analytic"}),
        budget=2000,
        init=lambda key: jax.random.normal(key, (DIMENSION,), jnp.float32),
        loss=loss,
        data={"eigenvalues": eigenvalues, "center": center},
        evaluate_exact=evaluate_exact,
        f_star=0.0,
        minimizer=center,
    )
