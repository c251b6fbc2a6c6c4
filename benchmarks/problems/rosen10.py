"""Chained Rosenbrock function in ten dimensions: Σ 100 (xᵢ₊₁ − xᵢ²)² + (1 − xᵢ)².

Source: Toint, Some numerical results using a sparse matrix updating formula in
unconstrained optimization, Mathematics of Computation 32 (1978).

Difficulty: each coordinate must follow the square of the one before it, so an error
in the first coordinate is squared nine times along the chain. In four and more
dimensions there is a second, local minimum near (−1, 1, …, 1); its value here is
3.9866.

The minimum is 0 at (1, …, 1). The start alternates, (−1.2, 1, −1.2, 1, …), as in the
literature, and is perturbed as in `rosen2`. The start (−1.2, 1, 1, …) would lie in
the basin of the local minimum, and almost every optimizer would end there.
"""

import numpy as np

from benchmarks.functions import rosenbrock
from benchmarks.problem import Problem, near

START = (-1.2, 1.0) * 5
SPREAD = 0.05


def problem() -> Problem:
    """The chain of ten coordinates."""
    return Problem(
        name="rosen10",
        summary="Curved valley in ten dimensions with a second, local minimum.",
        formula="f(x) = Σ 100 (xᵢ₊₁ − xᵢ²)² + (1 − xᵢ)², x ∈ R¹⁰",
        source="Toint, Mathematics of Computation 32 (1978)",
        tags=frozenset({"nonconvex", "deterministic", "analytic"}),
        budget=5000,
        init=lambda key: near(key, START, SPREAD),
        loss=rosenbrock.loss,
        evaluate_exact=rosenbrock.evaluate_exact,
        f_star=0.0,
        minimizer=np.ones(10),
    )
