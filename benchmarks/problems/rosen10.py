"""Chained Rosenbrock function in ten dimensions: Σ 100 (xᵢ₊₁ − xᵢ²)² + (1 − xᵢ)².

Source: `rosen2`, chained as by Toint, Some numerical results using a sparse matrix
updating formula in unconstrained optimization, Mathematics of Computation 32
(1978).

Hard about it: the valley of `rosen2` in which every coordinate is the bed of the
next, so that an error made early is squared nine times. For four and more
dimensions a second, local minimum lies near (−1, 1, …, 1), with f = 3.9866 here.

The start alternates, (−1.2, 1, −1.2, 1, …), as in the literature, moved by the seed
as in `rosen2`. (−1.2, 1, 1, …) would lie in the basin of the local minimum, and
almost every sound method would end there.
"""

import numpy as np

from benchmarks.problem import Problem
from benchmarks.problems import rosen2


def problem() -> Problem:
    """The chain of ten."""
    return Problem(
        name="rosen10",
        summary="Curved valley in ten dimensions with a second, local minimum.",
        formula="f(x) = Σ 100 (xᵢ₊₁ − xᵢ²)² + (1 − xᵢ)², x ∈ R¹⁰",
        source="Toint, Mathematics of Computation 32 (1978)",
        tags=frozenset({"nonconvex", "deterministic", "analytic"}),
        budget=5000,
        init=lambda key: rosen2.near((-1.2, 1.0) * 5, key),
        loss=rosen2.rosenbrock_loss,
        evaluate_exact=rosen2.rosenbrock_exact,
        f_star=0.0,
        minimizer=np.ones(10),
    )
