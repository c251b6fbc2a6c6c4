"""Small Wasserstein GAN: a shift θ and a linear critic w, clipped to [−1, 1].

    min over θ, max over |w| ≤ 1 of mean(w · real) − mean(w · (latent + θ))

Source: Arjovsky, Chintala and Bottou, Wasserstein GAN (2017), which clips the critic
after each step, with the linear critic and the learned mean of Daskalakis, Ilyas,
Syrgkanis and Zeng, Training GANs with Optimism (2018), section 4.

Difficulty: far from the equilibrium (mean(real) − mean(latent), 0) the critic is at
its bound and the generator moves at constant speed. Near it, the two rotate around
it, and gradient descent reaches the bound again and again without converging.

Each step uses all 256 real and all 256 latent numbers. The metric is the squared
distance to the equilibrium, in float64.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import Problem, near

SAMPLES = 256
MEAN = 2.0
BOUND = 1.0
START = (0.0, 0.5)
SPREAD = 0.2


def _loss(params: jax.Array, samples: dict[str, jax.Array]) -> jax.Array:
    shift, critic = params
    fake = samples["latent"] + shift
    return jnp.mean(critic * samples["real"]) - jnp.mean(critic * fake)


def _gradient(params: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    """The gradient for the shift, and the negative gradient for the critic."""
    return jax.grad(_loss)(params, batch) * jnp.array([1.0, -1.0], params.dtype)


def _project(params: jax.Array) -> jax.Array:
    return params.at[1].set(jnp.clip(params[1], -BOUND, BOUND))


def problem() -> Problem:
    """The game in the plane, where the paths of optimizers can be drawn."""
    random = np.random.RandomState(0)
    samples = {
        "real": np.float32(MEAN + random.standard_normal(SAMPLES)),
        "latent": np.float32(random.standard_normal(SAMPLES)),
    }
    means = {name: values.astype(np.float64).mean() for name, values in samples.items()}
    equilibrium = np.array([means["real"] - means["latent"], 0.0])

    def evaluate_exact(params: np.ndarray) -> dict[str, np.ndarray]:
        return {"loss": ((params - equilibrium) ** 2).sum(axis=-1)}

    return Problem(
        name="wgan_toy",
        summary="Generator and critic with one parameter each, the critic clipped.",
        formula="min over θ, max over |w| ≤ 1 of mean(w · real) − mean(w · (z + θ))",
        source="Arjovsky, Chintala and Bottou, Wasserstein GAN (2017)",
        tags=frozenset({"game", "deterministic", "analytic", "plane"}),
        budget=5000,
        init=lambda key: near(key, START, SPREAD),
        loss=_loss,
        data=samples,
        evaluate_exact=evaluate_exact,
        f_star=0.0,
        minimizer=equilibrium,
        metric="squared distance",
        gradient=_gradient,
        project=_project,
    )
