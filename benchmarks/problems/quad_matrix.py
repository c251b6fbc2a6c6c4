"""Quadratic in a matrix: ½ Σ (P (X − C) R)ᵢⱼ² λᵢ μⱼ, rotated rows and columns.

Source: `quad_rot` for a matrix. The Hessian is the Kronecker product of two matrices,
the model in which Shampoo (Gupta, Koren and Singer, 2018, arXiv:1802.09568) and its
relatives approximate curvature.

Difficulty: curvatures λᵢ μⱼ differ by a factor of 1e4 along directions that are no
coordinate axes, as in `quad_rot`, and the parameters are one matrix. Optimizers with a
rule for matrices, such as Muon, use it here; on the problems whose parameters are
vectors they fall back to another method. Rescaling rows and columns in the right bases
removes the conditioning; rescaling single coordinates does not.

P and R are the orthogonal factors of fixed normal matrices, rounded to float32. The
function is defined by the rounded matrices; the minimum is still 0 at C. The entries
of C are not float32 numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import Problem

SIZE = 10
CONDITION = 1e4


def _rotation(random: np.random.RandomState) -> np.ndarray:
    q, r = np.linalg.qr(random.standard_normal((SIZE, SIZE)))
    # A QR factorization is unique only with a positive diagonal of R.
    return (q * np.sign(np.diag(r))).astype(np.float32)


def problem() -> Problem:
    """The quadratic, started at a standard normal matrix."""
    random = np.random.RandomState(0)
    center = random.standard_normal((SIZE, SIZE))
    rows, columns = _rotation(random), _rotation(random)
    # Half of the condition number, in logarithms, from each side.
    scales = np.geomspace(1.0, CONDITION**-0.5, SIZE)
    curvatures = np.outer(scales, scales).astype(np.float32)

    def loss(x: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        offset = x - jnp.asarray(data["center"], x.dtype)
        # The reduced precision of accelerators would lose the small curvatures.
        principal = jnp.matmul(data["rows"], offset, precision="highest")
        principal = jnp.matmul(principal, data["columns"], precision="highest")
        return 0.5 * jnp.sum(data["curvatures"] * principal**2)

    def evaluate_exact(x: np.ndarray) -> dict[str, np.ndarray]:
        principal = rows.astype(np.float64) @ (x - center) @ columns.astype(np.float64)
        return {"loss": 0.5 * (curvatures * principal**2).sum(axis=(-2, -1))}

    return Problem(
        name="quad_matrix",
        summary="Rotated quadratic in a matrix, with a Kronecker product as Hessian.",
        formula="f(X) = ½ Σ λᵢ μⱼ (P (X − C) R)ᵢⱼ², λ μ in [1e-4, 1], X ∈ R¹⁰ˣ¹⁰",
        source="quad_rot for a matrix; the model of curvature of Gupta et al. (2018)",
        tags=frozenset({"convex", "deterministic", "analytic"}),
        budget=2000,
        init=lambda key: jax.random.normal(key, (SIZE, SIZE), jnp.float32),
        loss=loss,
        data={
            "curvatures": curvatures,
            "center": center,
            "rows": rows,
            "columns": columns,
        },
        evaluate_exact=evaluate_exact,
        f_star=0.0,
        minimizer=center,
    )
