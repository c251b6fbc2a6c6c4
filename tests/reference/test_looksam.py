"""LookSAM against NumPy, worked numbers and its geometry."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optimizers._looksam import looksam, looksam_gradient
from optimizers._sharpness_aware import sam
from tests.reference import landscapes
from tests.reference.landscapes import Q, Z, run
from tests.reference.support import TWELVE_DIGITS

WORKED = [
    [0.899502481405, -0.0497518595105],
    [0.881149874038, -0.00715976407736],
    [0.788051311197, 0.00404939334852],
    [0.71371965594, 0.0550549242991],
]


def reference(
    landscape: landscapes.Landscape,
    steps: int,
    rate: float,
    rho: float = 0.05,
    period: int = 5,
    alpha: float = 0.7,
) -> np.ndarray:
    count, v = 0, np.zeros(0)

    def direction(x: np.ndarray, gradient: Callable) -> np.ndarray:
        nonlocal count, v
        g, turn = gradient(x), count % period == 0
        count += 1
        if turn:
            higher = gradient(x + rho * g / np.linalg.norm(g))
            v = higher - (higher @ g) / (g @ g) * g
            return higher
        return g + alpha * np.linalg.norm(g) / np.linalg.norm(v) * v

    return landscapes.descend(direction, landscape, steps, rate)


def test_worked_numbers(x64: None) -> None:
    actual = run(looksam(optax.sgd(0.1), period=2), Q, 4)
    np.testing.assert_allclose(actual, WORKED, rtol=TWELVE_DIGITS)
    np.testing.assert_allclose(
        reference(Q, 4, 0.1, period=2), WORKED, rtol=TWELVE_DIGITS
    )


def test_follows_the_equations(x64: None) -> None:
    transform = looksam_gradient(0.1, 4, 0.3)
    actual = run(optax.chain(transform, optax.sgd(0.5)), Z, 25)
    expected = reference(Z, 25, 0.5, 0.1, 4, 0.3)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def test_with_period_one_it_is_sam() -> None:
    ours = run(looksam(optax.sgd(0.1), period=1), Q, 10)
    np.testing.assert_array_equal(ours, run(sam(optax.sgd(0.1)), Q, 10))


def test_radius_zero_equals_the_base_exactly() -> None:
    ours = run(looksam(optax.sgd(0.1), 0.0, period=2), Q, 10)
    np.testing.assert_array_equal(ours, run(optax.sgd(0.1), Q, 10))


def test_second_gradient_is_computed_once_per_period() -> None:
    calls = []

    def gradient(x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: calls.append(1))
        return x * jnp.array([1.0, 10.0])

    transform = looksam_gradient(period=3)
    params = jnp.array([1.0, 1.0])
    step = jax.jit(lambda g, s: transform.update(g, s, params, grad_fn=gradient))
    state = transform.init(params)
    counts = []
    for _ in range(7):
        _, state = step(params, state)
        jax.effects_barrier()
        counts.append(len(calls))
    assert counts == [1, 1, 1, 2, 2, 2, 3]


def test_without_jit_the_second_gradient_is_computed_once_per_period() -> None:
    calls = []

    def gradient(x: jax.Array) -> jax.Array:
        calls.append(x)
        return x * jnp.array([1.0, 10.0])

    transform = looksam_gradient(period=3)
    params = jnp.array([1.0, 1.0])
    state = transform.init(params)
    counts = []
    for _ in range(7):
        _, state = transform.update(params, state, params, grad_fn=gradient)
        counts.append(len(calls))
    assert counts == [1, 1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e15])
def test_stored_direction_is_orthogonal_to_the_gradient(scale: float) -> None:
    rng = np.random.default_rng(0)
    draw = lambda: jnp.asarray(scale * rng.normal(size=50), jnp.bfloat16)  # noqa: E731
    g, higher = draw(), draw()
    transform = looksam_gradient()
    state = transform.init(g)
    found, state = transform.update(g, state, g, grad_fn=lambda x: higher)
    np.testing.assert_array_equal(found, higher)
    assert state.across.dtype == jnp.float32
    v, g = np.asarray(state.across, np.float64), np.asarray(g, np.float64) / scale
    np.testing.assert_allclose(np.linalg.norm(v), 1.0, rtol=1e-6)
    assert abs(v @ g) < 1e-5 * np.linalg.norm(g)
    # The next step goes across by alpha |g|.
    g = jnp.asarray(scale * g, jnp.float32)
    found, _ = transform.update(g, state, g, grad_fn=lambda x: higher)
    added = (np.asarray(found, np.float64) - np.asarray(g, np.float64)) / scale
    length = 0.7 * np.linalg.norm(np.asarray(g, np.float64) / scale)
    np.testing.assert_allclose(np.linalg.norm(added), length, rtol=1e-5)


def test_rounding_errors_are_not_amplified() -> None:
    """On a sphere both gradients are parallel: there is nothing to remember."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=100), jnp.float32)
    transform = looksam_gradient(0.1)
    _, state = transform.update(x, transform.init(x), x, grad_fn=lambda x: x)
    np.testing.assert_array_equal(state.across, np.zeros(100))
    found, _ = transform.update(x, state, x, grad_fn=lambda x: x)
    np.testing.assert_array_equal(found, x)


def test_leaves_without_gradients_are_unchanged() -> None:
    params = {
        "i": jnp.arange(2),
        "k": jax.random.key(0),
        "n": None,
        "w": jnp.array([1.0, 2.0]),
    }
    loss = lambda p: p["w"][0] ** 2 + 3 * p["w"][1] ** 2  # noqa: E731
    transform = looksam_gradient(period=2)
    state: Any = transform.init(params)
    assert jax.tree.leaves(state.across)[0].shape == (2,)
    grads = jax.grad(loss, allow_int=True)(params)
    for _ in range(2):
        found, state = transform.update(grads, state, params, value_fn=loss)
        assert found["i"] is grads["i"]
        assert found["k"] is grads["k"]
        assert not np.array_equal(found["w"], grads["w"])


def test_zero_gradients_give_zero() -> None:
    x = jnp.zeros(3)
    transform = looksam_gradient(period=2)
    state: Any = transform.init(x)
    with jax.debug_nans(True):
        for _ in range(2):
            found, state = transform.update(x, state, x, grad_fn=lambda x: x)
            np.testing.assert_array_equal(found, x)


def test_errors() -> None:
    for period in (0, 2.5):
        with pytest.raises(ValueError, match="looksam: period must be an integer"):
            looksam(optax.sgd(0.1), period=period)
    with pytest.raises(TypeError, match="looksam: optimizer must be"):
        looksam(optax.sgd)  # pyright: ignore[reportArgumentType]
    tx = looksam(optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"looksam: update\(\) needs grad_fn"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)), jnp.ones(2))
    with pytest.raises(ValueError, match=r"looksam: the params hold optax\.MaskedNode"):
        tx.init({"a": optax.MaskedNode()})
