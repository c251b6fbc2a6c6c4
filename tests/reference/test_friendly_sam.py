"""Friendly SAM against NumPy, worked numbers and its limits."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optimizers._friendly_sam import friendly_sam, friendly_sam_gradient
from optimizers._sharpness_aware import sam
from tests.reference import landscapes
from tests.reference.landscapes import Q, Z, point_of, run
from tests.reference.support import TWELVE_DIGITS

WORKED = [
    [0.899502481405, -0.0497518595105],
    [0.809600098344, 0.0499977088816],
    [0.728746776856, 0.0499886163009],
    [0.656031884545, 0.0499744621123],
]


def reference(
    landscape: landscapes.Landscape,
    steps: int,
    rate: float,
    rho: float = 0.05,
    sigma: float = 1.0,
    decay: float = 0.9,
) -> np.ndarray:
    average = None

    def direction(x: np.ndarray, gradient: Callable) -> np.ndarray:
        nonlocal average
        g = gradient(x)
        slope = g if average is None else g - sigma * average
        average = g if average is None else decay * average + (1 - decay) * g
        return gradient(x + rho * slope / np.linalg.norm(slope))

    return landscapes.descend(direction, landscape, steps, rate)


def test_worked_numbers(x64: None) -> None:
    actual = run(friendly_sam(optax.sgd(0.1)), Q, 4)
    np.testing.assert_allclose(actual, WORKED, rtol=TWELVE_DIGITS)
    np.testing.assert_allclose(reference(Q, 4, 0.1), WORKED, rtol=TWELVE_DIGITS)


@pytest.mark.parametrize(("sigma", "decay"), [(1.0, 0.95), (0.3, 0.5)])
def test_follows_the_equations(sigma: float, decay: float, x64: None) -> None:
    transform = friendly_sam_gradient(0.1, sigma, decay)
    actual = run(optax.chain(transform, optax.sgd(0.5)), Z, 25)
    expected = reference(Z, 25, 0.5, 0.1, sigma, decay)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def test_without_sigma_it_is_sam() -> None:
    ours = run(friendly_sam(optax.sgd(0.1), sigma=0.0), Q, 10)
    np.testing.assert_array_equal(ours, run(sam(optax.sgd(0.1)), Q, 10))


def test_radius_zero_equals_the_base_exactly() -> None:
    ours = run(friendly_sam(optax.sgd(0.1), 0.0), Q, 10)
    np.testing.assert_array_equal(ours, run(optax.sgd(0.1), Q, 10))


def test_average_is_of_the_gradients_themselves() -> None:
    """Not of what is left of them, as some releases have it."""
    transform = friendly_sam_gradient(decay=0.5)
    x = jnp.zeros(1, jnp.bfloat16)
    state: Any = transform.init(x)
    for g, expected in ((4.0, 4.0), (2.0, 3.0), (8.0, 5.5)):
        grads = jnp.full(1, g, jnp.bfloat16)
        _, state = transform.update(grads, state, x, grad_fn=lambda x: x)
        assert state.mu.dtype == jnp.float32
        np.testing.assert_allclose(state.mu, [expected])
    assert state.count == 3


def test_constant_gradients_give_no_perturbation() -> None:
    transform, x = friendly_sam_gradient(0.5), jnp.array([3.0, 4.0])
    state: Any = transform.init(x)
    np.testing.assert_allclose(point_of(transform, x, 0 * x, state), 0.1 * x, rtol=1e-6)
    with jax.debug_nans(True):
        _, state = transform.update(x, state, x, grad_fn=lambda x: x)
        np.testing.assert_array_equal(point_of(transform, x, 0 * x, state), 0 * x)


def test_leaves_without_gradients_are_unchanged() -> None:
    params = {"i": jnp.arange(2), "k": jax.random.key(0), "n": None, "w": jnp.ones(2)}
    loss = lambda p: jnp.sum(p["w"] ** 2)  # noqa: E731
    grads = jax.grad(loss, allow_int=True)(params)
    transform = friendly_sam_gradient()
    state: Any = transform.init(params)
    for _ in range(2):
        found, state = transform.update(grads, state, params, value_fn=loss)
        assert found["i"] is grads["i"]
        assert found["k"] is grads["k"]
    assert [m.shape for m in jax.tree.leaves(state.mu)] == [(2,), (), (2,)]


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"friendly_sam: decay .*got 1\.0"):
        friendly_sam(optax.sgd(0.1), decay=1.0)
    with pytest.raises(ValueError, match="friendly_sam: sigma"):
        friendly_sam(optax.sgd(0.1), sigma=-1.0)
    with pytest.raises(TypeError, match="friendly_sam: optimizer must be"):
        friendly_sam(None)  # pyright: ignore[reportArgumentType]
    tx = friendly_sam(optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"friendly_sam: update\(\) needs grad_fn"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)), jnp.ones(2))
