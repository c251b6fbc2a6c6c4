"""The chained Rosenbrock function: Σ 100 (xᵢ₊₁ − xᵢ²)² + (1 − xᵢ)².

Source: Toint, Some numerical results using a sparse matrix updating formula in
unconstrained optimization, Mathematics of Computation 32 (1978). In two dimensions it
is the function of Rosenbrock, An automatic method for finding the greatest or least
value of a function, The Computer Journal 3 (1960).
"""

import jax
import jax.numpy as jnp
import numpy as np


def loss(x: jax.Array, data: None) -> jax.Array:
    """The function at `x`, `[n]`, with n ≥ 2."""
    del data
    ahead, behind = x[1:], x[:-1]
    return jnp.sum(100.0 * (ahead - behind**2) ** 2 + (1.0 - behind) ** 2)


def evaluate_exact(x: np.ndarray) -> dict[str, np.ndarray]:
    """The function at `x`, float64 `[..., n]`, as the metric `"loss"`, `[...]`."""
    ahead, behind = x[..., 1:], x[..., :-1]
    terms = 100.0 * (ahead - behind**2) ** 2 + (1.0 - behind) ** 2
    return {"loss": terms.sum(axis=-1)}
