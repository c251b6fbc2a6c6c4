"""Rotated quadratic: ½ Σ λᵢ (Q(x − c))ᵢ², the spectrum of `quad_diag` off the axes.

Source: `quad_diag` with a fixed rotation. The ill-conditioned ellipsoid of the COCO
suite (Hansen et al., 2009, function f10) is related to its separable version in the
same way.

Difficulty: curvatures differ by a factor of 1e4 along directions that are not
coordinate axes, so rescaling coordinates does not help. The difference between the
results on `quad_diag` and here shows how much an optimizer depends on the choice of
coordinates.

Q is the orthogonal factor of a fixed normal matrix, rounded to float32. The function
is defined by the rounded matrix, which deviates from a rotation by 1e-7; the minimum
is still 0 at c. The coordinates of c are not float32 numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import Problem

DIMENSION = 100
CONDITION = 1e4


def _rotation(random: np.random.RandomState) -> np.ndarray:
    q, r = np.linalg.qr(random.standard_normal((DIMENSION, DIMENSION)))
    # A QR factorization is unique only with a positive diagonal of R.
    return (q * np.sign(np.diag(r))).astype(np.float32)


def problem() -> Problem:
    """The quadratic, started at a standard normal point."""
    random = np.random.RandomState(0)
    center = random.standard_normal(DIMENSION)
    rotation = _rotation(random)
    eigenvalues = np.geomspace(1.0, 1.0 / CONDITION, DIMENSION).astype(np.float32)

    def loss(x: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        offset = x - jnp.asarray(data["center"], x.dtype)
        # The reduced precision of accelerators would lose the small curvatures.
        principal = jnp.matmul(data["rotation"], offset, precision="highest")
        return 0.5 * jnp.sum(data["eigenvalues"] * principal**2)

    def evaluate_exact(x: np.ndarray) -> dict[str, np.ndarray]:
        principal = (x - center) @ rotation.T.astype(np.float64)
        return {"loss": 0.5 * (principal**2 @ eigenvalues.astype(np.float64))}

    return Problem(
        name="quad_rot",
        summary="Rotated quadratic with curvatures over four orders of magnitude.",
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
