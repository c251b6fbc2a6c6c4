"""AdaMax's forms against NumPy, worked numbers, optax and the sharp bound."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import testing
from tests.reference import support
from tests.reference.support import T5, assert_close, assert_worked_numbers, run


def reference(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    learning_rate: float,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    variant: str = "optax",
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Kingma and Ba, Algorithm 2, with the eps of the releases where each has it."""
    x, m, u = start, np.zeros_like(start), np.zeros_like(start)
    trajectory = []
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        if variant == "keras":
            u = np.maximum(b2 * u, np.abs(g))
            denominator = u + eps
        elif variant == "paddle":
            u = denominator = np.maximum(np.abs(g), b2 * u + eps)
        else:
            u = denominator = np.maximum(b2 * u, np.abs(g) + eps)
        x = x - learning_rate / (1 - b1**t) * m / denominator
        trajectory.append(x)
    return np.stack(trajectory), {"mu": m, "nu": u}


FIRST = [0.900000001, 0.928947369276, 0.937997009277, 0.912124662729, 0.898661589179]
SECOND = (-2.0999999999, -2.1946964546)


def test_worked_numbers(x64: None) -> None:
    assert_worked_numbers(reference(*T5, learning_rate=0.1)[0], FIRST, SECOND)
    params, _ = run(optimizers.adamax(0.1), T5)
    assert_worked_numbers(params, FIRST, SECOND)


def test_worked_state(x64: None) -> None:
    _, state = run(optimizers.scale_by_adamax(), T5)
    np.testing.assert_allclose(state.nu, [3.99600001, 9.96005997], rtol=1e-9)
    assert_close(
        {"mu": state.mu, "nu": state.nu}, reference(*T5, learning_rate=0.1)[1], 1e-14
    )
    assert state.count == 5


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"b1": 0.0},
        {"b1": 0.5, "b2": 0.7, "eps": 1e-3},
        {"variant": "keras"},
        {"variant": "keras", "b1": 0.5, "b2": 0.7, "eps": 1e-3},
        {"variant": "paddle"},
        {"variant": "paddle", "b1": 0.5, "b2": 0.7, "eps": 1e-3},
    ],
    ids=str,
)
def test_follows_the_equations(options: dict[str, Any]) -> None:
    testing.assert_matches_reference(
        optimizers.adamax(0.1, **options),
        lambda x, g: reference(x, g, learning_rate=0.1, **options)[0],
    )


def test_equals_optax(x64: None) -> None:
    sequence = support.random_sequence(60, seed=4)
    params, _ = run(optimizers.adamax(0.01), sequence)
    assert_close(params, support.run_optax(optax.adamax(0.01), sequence)[0], 1e-12)


def test_equals_optax_in_float32() -> None:
    sequence = support.cast(support.random_sequence(60, seed=4), jnp.float32)
    params, _ = run(optimizers.adamax(0.01), sequence)
    assert_close(params, support.run_optax(optax.adamax(0.01), sequence)[0], 1e-6)


def test_first_step(x64: None) -> None:
    sequence = support.Sequence(np.zeros(3), np.array([[5.0, -1e-8, 0.0]]))
    params, _ = run(optimizers.adamax(0.1), sequence)
    np.testing.assert_allclose(params[0], [-0.1, 0.05, 0.0], rtol=1e-8)


@pytest.mark.parametrize(
    ("variant", "steps"),
    [("optax", [-0.05, 0.0]), ("keras", [-0.05, 0.0]), ("paddle", [-0.1, 0.0])],
)
def test_the_place_of_eps(variant: str, steps: list[float], x64: None) -> None:
    """A first gradient of the size of eps moves half a step, or a whole one."""
    sequence = support.Sequence(np.zeros(2), np.array([[1e-3, 0.0]]))
    params, _ = run(optimizers.adamax(0.1, eps=1e-3, variant=variant), sequence)
    np.testing.assert_allclose(params[0], steps, rtol=1e-14)


def test_eps_of_the_paddle_form_accumulates(x64: None) -> None:
    sequence = support.Sequence(np.zeros(1), np.zeros((200, 1)))
    tx = optimizers.scale_by_adamax(b2=0.9, eps=1e-3, variant="paddle")
    np.testing.assert_allclose(run(tx, sequence)[1].nu, 1e-3 / (1 - 0.9), rtol=1e-8)


@pytest.mark.parametrize("variant", ["optax", "keras", "paddle"])
def test_zero_eps_is_the_paper_without_its_zero_by_zero(
    variant: str, x64: None
) -> None:
    sequence = support.Sequence(np.zeros(2), np.array([[0.0, 2.0], [3.0, 0.0]]))
    params, _ = run(optimizers.adamax(0.1, eps=0.0, variant=variant), sequence)
    np.testing.assert_allclose(params[0], [0.0, -0.1], rtol=1e-14)
    np.testing.assert_allclose(params[1, 0], -0.1 * 0.1 / 0.19, rtol=1e-14)


def test_largest_step_is_above_the_rate(x64: None) -> None:
    """The paper bounds a step by the learning rate; the sharp bound is 1.0091 of it."""
    gradients = 1e6 * 0.999 ** np.arange(500)[:, None]  # u stays at the first one
    params, _ = run(
        optimizers.scale_by_adamax(), support.Sequence(np.zeros(1), gradients)
    )
    directions = np.diff(params[:, 0], prepend=0.0)
    limit = (1 - 0.9) / (1 - 0.9 / 0.999)
    np.testing.assert_allclose(directions[1], 1.0004742, rtol=1e-7)
    np.testing.assert_allclose(directions[9], 1.0036590, rtol=1e-7)
    np.testing.assert_allclose(directions[-1], limit, rtol=1e-7)
    assert directions.max() <= limit <= 1.0091


def test_no_step_exceeds_the_bound(x64: None) -> None:
    rng = np.random.default_rng(0)
    spread = np.linspace(0.0, 10.0, 200)  # from equal to wildly different sizes
    gradients = rng.normal(size=(100, 200)) * np.exp(spread * rng.random((100, 200)))
    params, _ = run(
        optimizers.scale_by_adamax(), support.Sequence(np.zeros(200), gradients)
    )
    directions = np.diff(params, axis=0, prepend=0.0)
    assert np.abs(directions).max() <= (1 - 0.9) / (1 - 0.9 / 0.999) * (1 + 1e-12)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="adamax: variant must be one of 'optax', 'k"):
        optimizers.adamax(0.1, variant="mxnet")
