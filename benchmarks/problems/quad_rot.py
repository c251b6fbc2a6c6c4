"""Rotated quadratic: ½ Σ λᵢ (Q(x − c))ᵢ², the spectrum of `quad_diag` off its axes.

Source: `quad_diag` behind a fixed rotation, as the ill-conditioned ellipsoid of
the COCO suite (Hansen et al., 2009, function f10) stands to its separable twin.

Hard about it: curvatures differ by 1e4 along directions that no coordinate shows,
so a method that scales coordinates one by one has nothing left to gain from it.
What an optimizer loses between `quad_diag` and here is its debt to the axes.

Q is the orthogonal factor of a fixed normal matrix, rounded to float32. The
function is defined with the rounded matrix, whose deviation from a rotation (1e-7)
moves neither the minimum 0 nor the minimizer c; c itself is no float32 vector.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import Problem

DIMENSION = 100
CONDITION = 1e4


def _rotation(random: np.random.RandomState) -> np.ndarray:
    q, r = np.linalg.qr(random.standard_normal((DIMENSION, DIMENSION)))
    # The signs of a QR factorisation are the library's choice; positive diagonals
    # of R make it unique.
    return (q * np.sign(np.diag(r))).astype(np.float32)


def problem() -> Problem:
    """The quadratic, started from standard normal points."""
    random = np.random.RandomState(0)
    center = random.standard_normal(DIMENSION)
    rotation = _rotation(random)
    eigenvalues = np.geomspace(1.0, 1.0 / CONDITION, DIMENSION).astype(np.float32)

    def loss(x: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        offset = x - jnp.asarray(data["center"], x.dtype)
        # An accelerator's short floats would round the small curvatures away.
        principal = jnp.matmul(data["rotation"], offset, precision="highest")
        return 0.5 * jnp.sum(data["eigenvalues"] * principal**2)

    def evaluate_exact(x: np.ndarray) -> dict[str, np.ndarray]:
        principal = (x - center) @ rotation.T.astype(np.float64)
        return {"loss": 0.5 * (principal**2 @ eigenvalues.astype(np.float64))}

    return Problem(
        name="quad_rot",
        summary="Quadratic with curvatures over four decades, off the axes.",
        formula="f(x) = ½ Σ λᵢ (Q(x − c))ᵢ², λ log-spaced in [1e-4, 1], x ∈ R¹⁰⁰",
        source="quad_diag rotated; compare f10 of the BBOB suite, Hansen et al. (2009)",
        tags=frozenset({"convex", "deterministic", "analytic"}),
        budget=2000,
        init=lambda key: jax.random.normal(key, (DIMENSION,), jnp.float32),
        loss=loss,
        data={"eigenvalues": eigenvalues, "center": center, "rotation": rotation},
        evaluate_exact=evaluate_exact,
        f_star=0.0,
        minimizer=center,
    )
