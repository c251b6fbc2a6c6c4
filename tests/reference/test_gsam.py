"""GSAM against NumPy, worked numbers and its geometry."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optimizers._gsam import gsam, gsam_gradient, gsam_rho_schedule
from optimizers._sharpness_aware import sam
from tests.reference import landscapes
from tests.reference.landscapes import Q, Z, point_of, run
from tests.reference.support import TWELVE_DIGITS


def reference(
    landscape: landscapes.Landscape,
    steps: int,
    rate: float,
    rho: float = 0.05,
    alpha: float = 0.4,
) -> np.ndarray:
    def direction(x: np.ndarray, gradient: Callable) -> np.ndarray:
        g = gradient(x)
        higher = gradient(x + rho * g / np.linalg.norm(g))
        across = g - (g @ higher) / (higher @ higher) * higher
        return higher - alpha * across

    return landscapes.descend(direction, landscape, steps, rate)


def test_worked_numbers(x64: None) -> None:
    expected = 0.724479779892, -0.0307332473926, 0.140725534151
    np.testing.assert_allclose(
        run(gsam(optax.sgd(0.5), 0.1), Z, 1)[0], expected, rtol=TWELVE_DIGITS
    )
    np.testing.assert_allclose(
        reference(Z, 1, 0.5, 0.1)[0], expected, rtol=TWELVE_DIGITS
    )


def test_follows_the_equations(x64: None) -> None:
    optimizer = optax.chain(gsam_gradient(0.2, 0.7), optax.sgd(0.1))
    expected = reference(Q, 30, 0.1, 0.2, 0.7)
    np.testing.assert_allclose(run(optimizer, Q, 30), expected, rtol=1e-12, atol=1e-12)


def test_without_alpha_it_is_sam() -> None:
    ours = run(gsam(optax.sgd(0.1), alpha=0.0), Q, 10)
    np.testing.assert_array_equal(ours, run(sam(optax.sgd(0.1)), Q, 10))


def test_radius_zero_equals_the_base_exactly() -> None:
    ours = run(gsam(optax.sgd(0.1), 0.0), Q, 10)
    np.testing.assert_array_equal(ours, run(optax.sgd(0.1), Q, 10))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e25])
def test_ascent_step_is_orthogonal_to_the_perturbed_gradient(
    scale: float, x64: None
) -> None:
    rng = np.random.default_rng(0)
    g, higher = (jnp.asarray(scale * rng.normal(size=50)) for _ in range(2))
    directions = []
    for alpha in (0.0, 1.0):
        transform = gsam_gradient(0.1, alpha)
        found, _ = transform.update(g, transform.init(g), g, grad_fn=lambda x: higher)
        directions.append(np.asarray(found) / scale)
    across = directions[0] - directions[1]
    assert np.linalg.norm(across) > 1.0
    assert abs(across @ directions[0]) < 1e-13


def test_zero_gradients_give_zero() -> None:
    zeros = {"a": jnp.zeros((2, 2)), "n": None, "i": jnp.arange(2)}
    transform = gsam_gradient()
    with jax.debug_nans(True):
        found, _ = transform.update(
            zeros, transform.init(zeros), zeros, grad_fn=lambda x: x
        )
    np.testing.assert_array_equal(found["a"], zeros["a"])
    assert found["i"] is zeros["i"]


def test_radius_and_mask() -> None:
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    grads = {"a": jnp.array([3.0, 4.0]), "b": jnp.ones(1)}
    transform = gsam_gradient(0.5, mask={"a": True, "b": False})
    point = point_of(transform, grads, params)
    np.testing.assert_allclose(point["a"], [0.3, 0.4], rtol=1e-6)
    np.testing.assert_array_equal(point["b"], [0.0])


def test_radius_follows_the_learning_rate() -> None:
    rate = optax.linear_schedule(0.5, 0.1, 4)
    options = {"learning_rate_min": 0.1, "learning_rate_max": 0.5}
    rho = gsam_rho_schedule(rate, rho_min=0.02, rho_max=0.1, **options)
    counts = [jnp.asarray(t) for t in (0, 1, 2, 4, 9)]
    radii = [rho(count) for count in counts]
    np.testing.assert_allclose(radii, [0.1, 0.08, 0.06, 0.02, 0.02], rtol=1e-5)
    transform = gsam_gradient(rho)
    grads = jnp.array([1.0, 0.0])
    state: Any = transform.init(grads)
    for radius in (0.1, 0.08):
        point = point_of(transform, grads, jnp.zeros(2), state)
        np.testing.assert_allclose(point, [radius, 0.0], rtol=1e-5)
        _, state = transform.update(grads, state, grads, grad_fn=lambda x: x)
    constant = {"learning_rate_min": 0.5, "learning_rate_max": 0.5}
    rho = gsam_rho_schedule(lambda t: 0.5, rho_min=0.02, rho_max=0.1, **constant)
    np.testing.assert_allclose(rho(counts[0]), 0.1, rtol=1e-6)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"gsam: alpha .*got -1\.0"):
        gsam(optax.sgd(0.1), alpha=-1.0)
    with pytest.raises(TypeError, match=r"gsam: optimizer must be .* of type float"):
        gsam(0.1)  # pyright: ignore[reportArgumentType]
    options: Any = {"rho_min": 0.0, "rho_max": 1.0, "learning_rate_min": 0.0}
    with pytest.raises(ValueError, match=r"must be a schedule, got 0\.1"):
        gsam_rho_schedule(0.1, learning_rate_max=1.0, **options)  # pyright: ignore
    with pytest.raises(ValueError, match="learning_rate_max must be"):
        gsam_rho_schedule(lambda t: 0.1, learning_rate_max=-1.0, **options)
    tx = gsam(optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"gsam: update\(\) needs grad_fn"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)), jnp.ones(2))
