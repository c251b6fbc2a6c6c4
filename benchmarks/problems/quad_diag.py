"""Diagonal quadratic: ½ Σ λᵢ (xᵢ − cᵢ)², 100 eigenvalues λ log-spaced from 1 to 1e-4.

Source: the strongly convex model problem of Nesterov, Introductory Lectures on
Convex Optimization (2004), section 2.1, with condition number κ = 1e4.

Hard about it: one learning rate must serve curvatures that differ by 1e4, so
gradient descent needs of the order of κ steps. The axes are the eigenvectors: a
method that scales every coordinate by itself sees no conditioning at all, and is
denied that in `quad_rot`.

The centre c is a fixed normal draw in float64: the minimizer is neither the
origin nor any float32 vector, so no method can land on it by luck.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import Problem

DIMENSION = 100
CONDITION = 1e4


def problem() -> Problem:
    """The quadratic, started from standard normal points."""
    eigenvalues = np.geomspace(1.0, 1.0 / CONDITION, DIMENSION).astype(np.float32)
    center = np.random.RandomState(0).standard_normal(DIMENSION)

    def loss(x: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        offset = x - jnp.asarray(data["center"], x.dtype)
        return 0.5 * jnp.sum(data["eigenvalues"] * offset**2)

    def evaluate_exact(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"loss": 0.5 * ((x - center) ** 2 @ eigenvalues.astype(np.float64))}

    return Problem(
        name="quad_diag",
        summary="Axis-aligned quadratic whose curvatures span four decades.",
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
