"""Rosenbrock's valley in the plane: 100 (x₂ − x₁²)² + (1 − x₁)².

Source: Rosenbrock, An automatic method for finding the greatest or least value of
a function, The Computer Journal 3 (1960); start as in Moré, Garbow and Hillstrom,
Testing Unconstrained Optimization Software (1981), problem 1.

Hard about it: a method falls to the floor of the curved valley at once and must
then follow it, where the gradient points almost across: the Hessian at the
minimum has condition number 2508.

The minimum 0 at (1, 1) is the definition and stays where it is. A seed moves the
classic start (−1.2, 1) by 0.05 per coordinate, which keeps it on the far side of
the bend.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import Problem

SPREAD = 0.05


def rosenbrock_loss(x: jax.Array, data: None) -> jax.Array:
    """The chained Rosenbrock function of a vector."""
    del data
    ahead, behind = x[1:], x[:-1]
    return jnp.sum(100.0 * (ahead - behind**2) ** 2 + (1.0 - behind) ** 2)


def rosenbrock_exact(x: np.ndarray) -> dict[str, np.ndarray]:
    """The same for `[..., n]` in float64, as the metric `loss` of shape `[...]`."""
    ahead, behind = x[..., 1:], x[..., :-1]
    terms = 100.0 * (ahead - behind**2) ** 2 + (1.0 - behind) ** 2
    return {"loss": terms.sum(axis=-1)}


def near(start: tuple[float, ...], key: jax.Array) -> jax.Array:
    """The classic start, moved by the seed: normal with deviation `SPREAD`."""
    noise = jax.random.normal(key, (len(start),), jnp.float32)
    return jnp.asarray(start, jnp.float32) + SPREAD * noise


def problem() -> Problem:
    """The valley in the plane, where every path can be drawn."""
    return Problem(
        name="rosen2",
        summary="Curved valley in the plane: quick to enter, slow to follow.",
        formula="f(x) = 100 (x₂ − x₁²)² + (1 − x₁)², x ∈ R²",
        source="Rosenbrock, The Computer Journal 3 (1960)",
        tags=frozenset({"nonconvex", "deterministic", "analytic", "plane"}),
        budget=5000,
        init=lambda key: near((-1.2, 1.0), key),
        loss=rosenbrock_loss,
        evaluate_exact=rosenbrock_exact,
        f_star=0.0,
        minimizer=np.ones(2),
    )
