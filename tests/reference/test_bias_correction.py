"""Adam with eps before the bias correction, and Adam and AdaMax without one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import testing
from tests.reference import support
from tests.reference.support import run


def efficient_adam(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    eps: float,
    b1: float = 0.9,
    b2: float = 0.999,
    amsgrad: bool = False,
    decay: float = 0.0,
) -> np.ndarray:
    """Kingma and Ba, the end of Section 2, at a learning rate of 0.1."""
    x, m, v, largest = start, *(np.zeros_like(start) for _ in range(3))
    trajectory = []
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        largest = np.maximum(largest, v) if amsgrad else v
        rate = 0.1 * np.sqrt(1 - b2**t) / (1 - b1**t)
        x = x - 0.1 * decay * x - rate * m / (np.sqrt(largest) + eps)
        trajectory.append(x)
    return np.stack(trajectory)


def uncorrected(
    start: np.ndarray, gradients: np.ndarray, *, eps: float, maximum: bool
) -> np.ndarray:
    """Adam or AdaMax without bias correction, with decay, at a learning rate of 0.1."""
    x, m, v = start, np.zeros_like(start), np.zeros_like(start)
    trajectory = []
    for g in gradients:
        m = 0.8 * m + (1 - 0.8) * g
        v = np.maximum(0.95 * v, np.abs(g)) if maximum else 0.95 * v + 0.05 * g**2
        x = x - 0.1 * (m / ((v if maximum else np.sqrt(v)) + eps) + 0.01 * x)
        trajectory.append(x)
    return np.stack(trajectory)


@pytest.mark.parametrize(
    "options",
    [{"eps": 1e-7}, {"eps": 1e-3, "b1": 0.5, "b2": 0.7}, {"eps": 1e-3, "decay": 0.1}],
    ids=str,
)
def test_eps_before_the_correction(options: dict[str, float]) -> None:
    arguments: dict[str, Any] = options.copy()
    eps, b2 = arguments.pop("eps"), arguments.get("b2", 0.999)
    arguments["weight_decay"] = arguments.pop("decay", 0.0)
    testing.assert_matches_reference(
        optimizers.adamw(0.1, eps=optimizers.epsilon_hat(eps, b2), **arguments),
        lambda x, g: efficient_adam(x, g, **options),
    )


def test_eps_before_the_correction_of_the_maximum() -> None:
    eps = optimizers.epsilon_hat(1e-3, b2=0.9)
    testing.assert_matches_reference(
        optimizers.amsgrad(0.1, b2=0.9, eps=eps, variant="torch"),
        lambda x, g: efficient_adam(x, g, b2=0.9, eps=1e-3, amsgrad=True),
    )


@pytest.mark.parametrize("maximum", [False, True], ids=["adam", "adamax"])
def test_without_bias_correction(maximum: bool) -> None:
    if maximum:
        core = optimizers.scale_by_adamax(0.8, 0.95, 1e-3, variant="keras")
        factor = optimizers.no_bias_correction(b1=0.8, b2=0.0)
    else:
        core = optimizers.scale_by_adam(0.8, 0.95, optimizers.epsilon_hat(1e-3, 0.95))
        factor = optimizers.no_bias_correction(b1=0.8, b2=0.95)
    testing.assert_matches_reference(
        optax.chain(
            core,
            optax.scale_by_schedule(factor),
            optax.add_decayed_weights(0.01),
            optax.scale_by_learning_rate(0.1),
        ),
        lambda x, g: uncorrected(x, g, eps=1e-3, maximum=maximum),
    )


def test_first_steps(x64: None) -> None:
    """Of a gradient of 1e-12 at a learning rate of 1e-3."""
    tiny = support.Sequence(np.zeros(1), np.full((1, 1), 1e-12))
    hat = optimizers.epsilon_hat(1e-7, b2=0.999)
    for eps, denominator in ((1e-8, 1e-8), (hat, 1e-7 / np.sqrt(1 - 0.999))):
        params, _ = run(optimizers.adam(1e-3, eps=eps), tiny)
        step = -1e-3 * 1e-12 / (1e-12 + denominator)
        np.testing.assert_allclose(params[0], step, rtol=1e-12)


def test_any_schedule_of_eps(x64: None) -> None:
    """It is called with the step count, starting at 0."""
    sequence = support.Sequence(np.zeros(1), np.ones((3, 1)))
    params, _ = run(
        optimizers.adam(0.1, eps=lambda count: 1.0 + count.astype(float)), sequence
    )
    steps = np.diff(params[:, 0], prepend=0.0)
    np.testing.assert_allclose(steps, [-0.1 / 2, -0.1 / 3, -0.1 / 4], rtol=1e-12)


def test_values(x64: None) -> None:
    """For one count, Python's or traced, and for an array of them, as in a plot."""
    t = np.arange(1, 6)
    for schedule, expected in (
        (optimizers.epsilon_hat(1e-7, 0.99), 1e-7 / np.sqrt(1 - 0.99**t)),
        (optimizers.no_bias_correction(0.9, 0.0), 1 - 0.9**t),
        (
            optimizers.no_bias_correction(0.9, 0.99),
            (1 - 0.9**t) / np.sqrt(1 - 0.99**t),
        ),
    ):
        np.testing.assert_allclose(schedule(jnp.arange(5)), expected, rtol=1e-12)
        np.testing.assert_allclose(schedule(4), expected[4], rtol=1e-12)
        count = jnp.asarray(4, jnp.int32)
        np.testing.assert_allclose(jax.jit(schedule)(count), expected[4], rtol=1e-12)


def test_is_injected_as_any_schedule(x64: None) -> None:
    sequence = support.random_sequence(5, seed=0)
    eps = optimizers.epsilon_hat(1e-3, b2=0.999)
    expected, _ = run(optimizers.adam(0.1, eps=eps), sequence)
    injected = optax.inject_hyperparams(optimizers.adam)(0.1, eps=eps)
    support.assert_close(run(injected, sequence)[0], expected, 1e-12)
