"""Simplified AdEMAMix against NumPy, worked numbers, optax and Adam."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from packaging.version import Version

import optimizers
from optimizers import testing
from tests.reference import support
from tests.reference.support import T5, assert_close, assert_worked_numbers, run


def reference(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    learning_rate: float,
    b1: float = 0.99,
    b2: float = 0.95,
    alpha: float = 0.0,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Morwani et al.: a sum of gradients, and a corrected second moment."""
    x, m, v = start, np.zeros_like(start), np.zeros_like(start)
    trajectory = []
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + g
        v = b2 * v + (1 - b2) * g**2
        direction = (m + alpha * g) / (np.sqrt(v / (1 - b2**t)) + eps)
        x = x - learning_rate * (direction + weight_decay * x)
        trajectory.append(x)
    return np.stack(trajectory), {"mu": m, "nu": v}


OPTIONS = {"b1": 0.9, "b2": 0.95, "alpha": 2.0}
FIRST = [0.700000003, 1.02009941737, 0.981394088912, 0.492107182629, 0.482605004797]
SECOND = (-2.2999999997, -2.7275813683)


def test_worked_numbers(x64: None) -> None:
    expected, _ = reference(*T5, learning_rate=0.1, **OPTIONS)
    assert_worked_numbers(expected, FIRST, SECOND)
    params, _ = run(optimizers.simplified_ademamix(0.1, **OPTIONS), T5)
    assert_worked_numbers(params, FIRST, SECOND)


@pytest.mark.parametrize(
    "options", [{}, OPTIONS, {"b1": 0.0, "eps": 1e-3, "weight_decay": 0.1}], ids=str
)
def test_follows_the_equations(options: dict[str, float]) -> None:
    testing.assert_matches_reference(
        optimizers.simplified_ademamix(0.1, **options),
        lambda x, g: reference(x, g, learning_rate=0.1, **options)[0],
    )


@pytest.mark.parametrize(
    "alpha",
    [
        2.0,
        pytest.param(
            optax.linear_schedule(2.0, 0.5, 40),
            marks=pytest.mark.skipif(
                Version(optax.__version__) < Version("0.2.8"),
                reason="optax 0.2.7 accepts a schedule and multiplies by the function",
            ),
        ),
    ],
    ids=["number", "schedule"],
)
def test_equals_optax(x64: None, alpha: optax.ScalarOrSchedule) -> None:
    sequence = support.random_sequence(60, seed=4)
    options = {
        "b1": 0.9,
        "alpha": alpha,
        "eps_root": 1e-2,
        "weight_decay": 0.1,
        "mask": lambda params: jax.tree.map(lambda _: True, params),
    }
    params, _ = run(optimizers.simplified_ademamix(0.01, **options), sequence)
    theirs = optax.contrib.simplified_ademamix(0.01, **options)
    assert_close(params, support.run_optax(theirs, sequence)[0], 1e-12)


def test_without_alpha_it_is_adam_with_a_sum(x64: None) -> None:
    """Adam without correction of m, at rate lr/(1 − b1)."""
    sequence = support.random_sequence(30, seed=5)
    params, _ = run(optimizers.simplified_ademamix(0.1, 0.9), sequence)

    def adam(x: np.ndarray, gradients: np.ndarray) -> tuple[np.ndarray, dict]:
        m, v, path = np.zeros_like(x), np.zeros_like(x), []
        for t, g in enumerate(gradients, start=1):
            m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
            x = x - 0.1 / (1 - 0.9) * m / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
            path.append(x)
        return np.stack(path), {}

    assert_close(params, support.run_reference(adam, sequence), 1e-12)


def test_first_step(x64: None) -> None:
    sequence = support.Sequence(np.zeros(3), np.array([[5.0, -1e-3, 0.0]]))
    params, _ = run(optimizers.simplified_ademamix(0.1, alpha=2.0), sequence)
    np.testing.assert_allclose(params[0], [-0.3, 0.3, 0.0], rtol=1e-4)


def test_sum_does_not_stall_in_bfloat16() -> None:
    _, state = run(
        optimizers.scale_by_simplified_ademamix(),
        support.Sequence(jnp.zeros(1, jnp.bfloat16), jnp.ones((1000, 1), jnp.bfloat16)),
    )
    np.testing.assert_allclose(state.mu, 100 * (1 - 0.99**1000), rtol=1e-4)
