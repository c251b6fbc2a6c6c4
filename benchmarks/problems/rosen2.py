"""Rosenbrock's valley in the plane: 100 (x₂ − x₁²)² + (1 − x₁)².

Source: Rosenbrock, An automatic method for finding the greatest or least value of a
function, The Computer Journal 3 (1960); start as in Moré, Garbow and Hillstrom,
Testing Unconstrained Optimization Software (1981), problem 1.

Difficulty: an optimizer reaches the floor of the curved valley within a few steps and
must then follow it, although the gradient points almost across the valley. The
Hessian at the minimum has condition number 2508.

The minimum is 0 at (1, 1). The classic start (−1.2, 1) is perturbed by normal noise
with standard deviation 0.05, which keeps it on the far side of the bend.
"""

import numpy as np

from benchmarks.functions import rosenbrock
from benchmarks.problem import Problem, near

START = (-1.2, 1.0)
SPREAD = 0.05


def problem() -> Problem:
    """The valley in the plane, where the paths of optimizers can be drawn."""
    return Problem(
        name="rosen2",
        summary="Curved valley in the plane: quick to enter, slow to follow.",
        formula="f(x) = 100 (x₂ − x₁²)² + (1 − x₁)², x ∈ R²",
        source="Rosenbrock, The Computer Journal 3 (1960)",
        tags=frozenset({"nonconvex", "deterministic", "analytic", "plane"}),
        budget=5000,
        init=lambda key: near(key, START, SPREAD),
        loss=rosenbrock.loss,
        evaluate_exact=rosenbrock.evaluate_exact,
        f_star=0.0,
        minimizer=np.ones(2),
    )
