"""Two quadratics: a main loss that is flat on half of the space, and an auxiliary loss.

    main(x) = ½ (x − a)ᵀ H (x − a), rank 10 of 20        aux(x) = ½ ‖x − c‖²

Source: the simple bilevel problem of Hsieh, Thornton, Ndiaye, Klein, Cuturi and
Ablin, Careful with that Scalpel: Improving Gradient Surgery with an EMA (2024): among
all minimizers of the main loss, find the one with the smallest auxiliary loss.

Difficulty: the gradient of the main loss has noise with covariance proportional to H,
as in least squares, so the direction of the main gradient is known only on average.
The minimizer of main + λ aux, with a fixed weight λ > 0, is not a minimizer of the
main loss.

The solution is known in closed form, a + N (c − a), where N projects onto the null
space of H. So is the Pareto front, which consists of x(λ) = (H + λI)⁻¹ (H a + λ c).
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import FrontSpec, Problem

SIZE, RANK = 20, 10
SMALLEST = 0.1
NOISE = 0.3
DISTANCE = 1.0

Arrays = dict[str, jax.Array | np.ndarray]


def _rotation(random: np.random.RandomState) -> np.ndarray:
    q, r = np.linalg.qr(random.standard_normal((SIZE, SIZE)))
    return q * np.sign(np.diag(r))


def _sample(key: jax.Array, data: Arrays) -> Arrays:
    """The data with a random linear term, its covariance proportional to H."""
    draw = jax.random.normal(key, (RANK,), jnp.float32)
    return data | {"tilt": NOISE * jnp.matmul(data["root"], draw, precision="highest")}


def _loss(x: jax.Array, batch: Arrays) -> jax.Array:
    offset = x - jnp.asarray(batch["main"], x.dtype)
    # With H = R Rᵀ: (x − a)ᵀ R Rᵀ (x − a).
    image = jnp.matmul(offset, batch["root"], precision="highest")
    return 0.5 * jnp.sum(image**2) + jnp.sum(batch["tilt"] * offset)


def _aux_loss(x: jax.Array, batch: Arrays) -> jax.Array:
    return 0.5 * jnp.sum((x - jnp.asarray(batch["aux"], x.dtype)) ** 2)


def problem() -> Problem:
    """The two quadratics, started at a standard normal point."""
    random = np.random.RandomState(0)
    axes = _rotation(random)
    eigenvalues = np.geomspace(1.0, SMALLEST, RANK)
    root = (axes[:, :RANK] * np.sqrt(eigenvalues)).astype(np.float32)
    main, aux = DISTANCE * random.standard_normal((2, SIZE))
    exact = root.astype(np.float64)
    hessian = exact @ exact.T

    def evaluate_exact(x: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "loss": 0.5 * (((x - main) @ exact) ** 2).sum(axis=-1),
            "aux": 0.5 * ((x - aux) ** 2).sum(axis=-1),
        }

    def trade_off(weight: float) -> np.ndarray:
        tilted = hessian @ main + weight * aux
        return np.linalg.solve(hessian + weight * np.eye(SIZE), tilted)

    onto_range = exact @ np.linalg.pinv(exact)
    solution = aux + onto_range @ (main - aux)
    ends = [evaluate_exact(x) for x in (solution, aux)]
    middle = [evaluate_exact(trade_off(w)) for w in np.geomspace(1e-5, 1e4, 181)]
    front = np.array([[v["loss"], v["aux"]] for v in (ends[0], *middle, ends[1])])
    return Problem(
        name="bilevel_quad",
        summary="Quadratic with many minimizers; another one selects among them.",
        formula="main: ½ (x − a)ᵀ H (x − a), rank 10; aux: ½ ‖x − c‖²; x ∈ R²⁰",
        source="Hsieh et al., Careful with that Scalpel (2024)",
        tags=frozenset({"convex", "stochastic", "analytic", "two objectives"}),
        budget=20_000,
        init=lambda key: jax.random.normal(key, (SIZE,), jnp.float32),
        loss=_loss,
        sample=_sample,
        data={
            "root": root,
            "main": main,
            "aux": aux,
            "tilt": np.zeros(SIZE, np.float32),
        },
        evaluate_exact=evaluate_exact,
        f_star=0.0,
        minimizer=solution,
        metric="main loss",
        scored=False,
        aux_loss=_aux_loss,
        front=FrontSpec(
            reference=(float(ends[1]["loss"]), float(1.1 * ends[0]["aux"])),
            level=float(0.9 * ends[0]["aux"]),
            points=front,
        ),
    )
