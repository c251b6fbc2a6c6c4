"""The dynamic barrier against NumPy, worked numbers and its promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optimizers
from tests.reference import surgery
from tests.reference.surgery import AUX, MAIN, TWELVE_DIGITS, project


def reference(g: np.ndarray, a: np.ndarray, weight: float) -> np.ndarray:
    """The form that Hsieh et al. compare with, table 1."""
    square = g @ g
    share = max(1 - weight * (g @ a) / square, 0.0) if square else 1.0
    return share * g + weight * a


def test_worked_numbers(x64: None) -> None:
    expected = [
        [1.45833333333, 2.11666666667, -0.308333333333],
        [0.666666666667, 0.833333333333, 0.583333333333],
    ]
    by_hand = [reference(g, a, 0.5) for g, a in zip(MAIN[:2], AUX[:2], strict=True)]
    np.testing.assert_allclose(by_hand, expected, rtol=TWELVE_DIGITS)
    directions, _ = surgery.run(optimizers.dynamic_barrier(0.5), MAIN[:2], AUX[:2])
    np.testing.assert_allclose(directions, expected, rtol=TWELVE_DIGITS)


@pytest.mark.parametrize("weight", [0.1, 3.0])
def test_follows_the_equation(weight: float, x64: None) -> None:
    main, aux = np.random.default_rng(3).normal(size=(2, 40, 7))
    barrier = weight * np.sum(main * aux, 1) > np.sum(main**2, 1)
    assert barrier.any() == (weight == 3.0)
    directions, _ = surgery.run(
        optimizers.dynamic_barrier(weight), surgery.split(main), surgery.split(aux)
    )
    rows = surgery.joined(directions)
    expected = [reference(g, a, weight) for g, a in zip(main, aux, strict=True)]
    np.testing.assert_allclose(rows, expected, rtol=1e-12, atol=1e-14)
    # The promise: the main loss descends at least as fast as by its own gradient.
    gain, own = np.sum(rows * main, 1), np.sum(main**2, 1)
    assert (gain >= own * (1 - 1e-13)).all()


def test_follows_the_paper_with_its_barrier(x64: None) -> None:
    """Weight times a + max((psi - <g, a>) / |g|², 0) g, for psi = |g|² / weight."""
    g, a = surgery.random_gradients(2, 7, seed=5)
    weight = 0.4
    psi = g @ g / weight
    paper = weight * (a + max((psi - g @ a) / (g @ g), 0.0) * g)
    got = surgery.first(optimizers.dynamic_barrier(weight), g, a)
    np.testing.assert_allclose(got, paper, rtol=1e-13)


def test_is_bloop_on_its_own_gradient_below_the_barrier(x64: None) -> None:
    got = surgery.first(optimizers.dynamic_barrier(0.5), MAIN[0], AUX[0])
    np.testing.assert_allclose(
        got, MAIN[0] + 0.5 * project(AUX[0], MAIN[0]), rtol=1e-14
    )


@pytest.mark.parametrize("size", [1e-30, 1e25])
def test_gradients_of_every_size(size: float) -> None:
    for main, aux in ((size, 1.0), (1.0, size), (size, size)):
        g, a = np.float32(main) * np.float32(MAIN), np.float32(aux) * np.float32(AUX)
        directions, _ = surgery.run(optimizers.dynamic_barrier(0.5), g, a)
        for d, x, y in zip(directions, g, a, strict=True):
            expected = reference(x.astype(float), y.astype(float), 0.5)
            largest = np.abs(expected).max()
            np.testing.assert_allclose(d, expected, rtol=0.0, atol=3e-6 * largest)


def test_zero_gradients_and_a_zero_weight() -> None:
    zero, aux = jnp.zeros(3), jnp.asarray(AUX[0], jnp.float32)
    method = optimizers.dynamic_barrier(0.5)
    with jax.debug_nans(True):
        np.testing.assert_array_equal(surgery.first(method, zero, aux), 0.5 * aux)
        np.testing.assert_array_equal(surgery.first(method, aux, zero), aux)
    off = optimizers.dynamic_barrier(0.0)
    np.testing.assert_array_equal(surgery.first(off, aux, aux), aux)


@pytest.mark.parametrize("weight", [-1.0, [0.1, 0.2]])
def test_bad_values_are_refused(weight: object) -> None:
    with pytest.raises(ValueError, match="dynamic_barrier: aux_weight must be"):
        optimizers.dynamic_barrier(weight)
