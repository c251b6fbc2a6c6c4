"""Logistic regression on breast cancer data, with a small quadratic penalty.

    f(w, b) = mean log(1 + exp(−yᵢ(wᵀaᵢ + b))) + λ/2 ‖w‖²

Source: the Wisconsin diagnostic breast cancer data (Street, Wolberg, Mangasarian,
1993) as scikit-learn ships them: 569 tumours, 30 features, standardised here; label
y = 1 for benign and −1 for malignant, λ = 1e-3, the bias b free.

Hard about it: smooth and strongly convex, but only by the penalty: along many
correlated features the data say nothing, and the Hessian at the minimum reaches
from 1.0e-3 to 0.14. Full batch, so that conditioning is all there is.

The standardised features are rounded to float32 and those numbers are the problem:
float32 training and float64 evaluation see one and the same function. The minimum
is found by Newton's method in float64 when the problem is loaded.
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_breast_cancer

from benchmarks.problem import Problem

PENALTY = 1e-3
START_DEVIATION = 0.1


def _signed_features() -> np.ndarray:
    """Columns yᵢ (aᵢ, 1) in float32, `[31, 569]`: the label is the column's sign.

    Examples last, which makes a vectorised step twice as fast on a CPU.
    """
    features, benign = load_breast_cancer(return_X_y=True)
    standardised = (features - features.mean(0)) / features.std(0)
    with_bias = np.column_stack([standardised, np.ones(len(benign))])
    return np.ascontiguousarray((2 * benign - 1) * with_bias.T, np.float32)


def _newton(columns: np.ndarray, iterations: int = 20) -> np.ndarray:
    """The minimizer `[31]`; from 0 the iteration settles in half the iterations."""
    curvature = PENALTY * np.diag(np.append(np.ones(len(columns) - 1), 0.0))
    x = np.zeros(len(columns))
    for _ in range(iterations):
        misfit = 1.0 / (1.0 + np.exp(x @ columns))
        gradient = curvature @ x - columns @ misfit / columns.shape[1]
        weighted = columns * (misfit * (1.0 - misfit) / columns.shape[1])
        hessian = weighted @ columns.T + curvature
        x -= np.linalg.solve(hessian, gradient)
    return x


def problem() -> Problem:
    """The regression, started near 0."""
    signed_features = _signed_features()
    columns = signed_features.astype(np.float64)

    def loss(x: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        margins = jnp.matmul(x, data["signed_features"], precision="highest")
        penalty = 0.5 * PENALTY * jnp.sum(x[:-1] ** 2)
        return jnp.mean(jax.nn.softplus(-margins)) + penalty

    def evaluate_exact(x: np.ndarray) -> dict[str, np.ndarray]:
        penalty = 0.5 * PENALTY * np.sum(x[..., :-1] ** 2, axis=-1)
        return {"loss": np.logaddexp(0.0, -x @ columns).mean(axis=-1) + penalty}

    minimizer = _newton(columns)
    return Problem(
        name="logreg_bc",
        summary="Convex classification of real data that barely determine the answer.",
        formula="f(w, b) = mean log(1 + exp(−yᵢ(wᵀaᵢ + b))) + 5e-4 ‖w‖², w ∈ R³⁰",
        source="Wisconsin diagnostic breast cancer data (1993), via scikit-learn",
        tags=frozenset({"convex", "deterministic", "data"}),
        budget=2000,
        init=lambda key: START_DEVIATION * jax.random.normal(key, (31,), jnp.float32),
        loss=loss,
        data={"signed_features": signed_features},
        evaluate_exact=evaluate_exact,
        f_star=float(evaluate_exact(minimizer)["loss"]),
        minimizer=minimizer,
    )
