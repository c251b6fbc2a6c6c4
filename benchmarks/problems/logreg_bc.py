"""Logistic regression on breast cancer data, with a small quadratic penalty.

    f(w, b) = mean log(1 + exp(−yᵢ(wᵀaᵢ + b))) + λ/2 ‖w‖²

Source: the Wisconsin diagnostic breast cancer data (Street, Wolberg and Mangasarian,
1993) as shipped with scikit-learn: 569 tumours, 30 features, standardized here. The
label y is 1 for benign and −1 for malignant tumours, λ = 1e-3, and the bias b has no
penalty.

Difficulty: smooth and strongly convex, but only because of the penalty. Many features
are correlated, the data barely determine the weights along these directions, and the
eigenvalues of the Hessian at the minimum range from 1.0e-3 to 0.14. Each step uses
all data, so conditioning is the only difficulty.

The standardized features are rounded to float32, and the problem is defined by the
rounded numbers, so that training in float32 and evaluation in float64 use the same
function. Newton's method finds the minimum in float64 when the problem is loaded.
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_breast_cancer

from benchmarks.problem import Problem

PENALTY = 1e-3
START_DEVIATION = 0.1


def _signed_features() -> np.ndarray:
    """Columns yᵢ (aᵢ, 1), float32 `[31, 569]`.

    With the examples on the last axis, a vectorized step is twice as fast on a CPU.
    """
    features, benign = map(np.asarray, load_breast_cancer(return_X_y=True))
    standardised = (features - features.mean(0)) / features.std(0)
    with_bias = np.column_stack([standardised, np.ones(len(benign))])
    return np.ascontiguousarray((2 * benign - 1) * with_bias.T, np.float32)


def _newton(columns: np.ndarray, iterations: int = 20) -> np.ndarray:
    """The minimizer, `[31]`; half as many iterations would suffice."""
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
        summary="Ill-conditioned logistic regression with a small quadratic penalty.",
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
