"""CAGrad against a bisection in NumPy, worked numbers and what it maximises."""

from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optimizers
from tests.reference import surgery
from tests.reference.surgery import AUX, MAIN


def reference(g: np.ndarray, a: np.ndarray, c: float) -> tuple[np.ndarray, float]:
    """Liu et al., Algorithm 1: the convex problem in w by bisection of its slope.

    In eighty digits, of which a much longer gradient takes many away.
    """
    with localcontext(prec=80):
        g, a = (np.array([Decimal(float(x)) for x in row]) for row in (g, a))
        mean = (g + a) / 2
        radius = Decimal(c) * (mean @ mean).sqrt()
        slope_of_mean = (g - a) @ mean
        low, high = Decimal(0), Decimal(1)
        for _ in range(150):
            w = (low + high) / 2
            h = w * g + (1 - w) * a
            slope = slope_of_mean + radius * ((g - a) @ h) / (h @ h).sqrt()
            low, high = (w, high) if slope < 0 else (low, w)
        h = high * g + (1 - high) * a
        d = mean + radius * h / (h @ h).sqrt()
        return d.astype(np.float64), float(high)


def test_worked_numbers(x64: None) -> None:
    expected = [0.877585, 0.591057, 0.795827]
    by_hand, w = reference(MAIN[0], AUX[0], 0.4)
    np.testing.assert_allclose(by_hand, expected, atol=5e-7)
    np.testing.assert_allclose(w, 0.4117868, atol=5e-8)
    got = surgery.first(optimizers.cagrad(), MAIN[0], AUX[0])
    np.testing.assert_allclose(got, expected, atol=5e-7)


@pytest.mark.parametrize("c", [0.4, 0.9, 5.0])
def test_follows_the_equations(c: float, x64: None) -> None:
    rng = np.random.default_rng(0)
    main = rng.normal(size=(40, 7))
    aux = rng.normal(size=(40, 7)) * 10 ** rng.uniform(-1, 1, size=(40, 1))
    answers = [reference(g, a, c) for g, a in zip(main, aux, strict=True)]
    inside = [1e-6 < w < 1 - 1e-6 for _, w in answers]
    assert any(inside)
    assert not all(inside)
    directions, _ = surgery.run(
        optimizers.cagrad(c), surgery.split(main), surgery.split(aux)
    )
    expected = np.stack([d for d, _ in answers])
    np.testing.assert_allclose(
        surgery.joined(directions), expected, rtol=1e-12, atol=1e-13
    )


def test_nothing_in_the_ball_is_better_for_the_worse_off(x64: None) -> None:
    rng = np.random.default_rng(1)
    g, a = MAIN[0], AUX[0]
    mean = (g + a) / 2
    radius = 0.4 * np.linalg.norm(mean)
    d = np.asarray(surgery.first(optimizers.cagrad(), g, a))
    np.testing.assert_allclose(np.linalg.norm(d - mean), radius, rtol=1e-14)
    points = rng.normal(size=(20_000, 3))
    points *= radius / np.linalg.norm(points, axis=1, keepdims=True)
    others = np.minimum((mean + points) @ g, (mean + points) @ a)
    ours = min(d @ g, d @ a)
    assert 0.99 * ours < others.max() <= ours


def test_limits_of_the_radius(x64: None) -> None:
    main, aux = (np.random.default_rng(s).normal(size=(20, 7)) for s in (2, 3))
    mean, _ = surgery.run(optimizers.cagrad(0.0), main, aux)
    np.testing.assert_allclose(mean, (main + aux) / 2, rtol=1e-13, atol=1e-15)
    far, _ = surgery.run(optimizers.cagrad(1e10), main, aux)
    short, _ = surgery.run(optimizers.mgda(), main, aux)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    np.testing.assert_allclose(unit(far), unit(short), atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_much_larger_gradient_stays_accurate(dtype: str, x64: None) -> None:
    tolerance = 100 * np.finfo(dtype).eps
    step = jax.jit(lambda g, a: surgery.first(optimizers.cagrad(), g, a))
    for ratio in (1e-20, 1e-4, 1e4, 1e20):
        for size in (1e-10, 1e10):
            for row in (0, 3):
                g = np.asarray(size * MAIN[row], dtype)
                a = np.asarray(size * ratio * AUX[row], dtype)
                expected, _ = reference(g, a, 0.4)
                largest = np.abs(expected).max()
                np.testing.assert_allclose(
                    step(g, a), expected, rtol=0.0, atol=tolerance * largest
                )


def test_parallel_and_zero_gradients(x64: None) -> None:
    g, zero = jnp.asarray(MAIN[0]), jnp.zeros(3)
    cagrad = optimizers.cagrad(0.4)
    with jax.debug_nans(True):
        cases = (
            (g, g, 1.4 * g),
            (g, 3 * g, 2.8 * g),
            (3 * g, -g, 0.6 * g),  # the shorter one is worse off: 1 g - 0.4 g
            (zero, zero, zero),
            (g, -g, zero),
            (g, zero, 0.5 * g),  # no direction gains for a loss without gradient
        )
        for main, aux, expected in cases:
            d = surgery.first(cagrad, main, aux)
            np.testing.assert_allclose(d, expected, rtol=1e-14, atol=1e-15)


def test_derivatives_by_the_gradients_are_finite() -> None:
    """Also where gradients are equal, zero or opposite."""
    cagrad = optimizers.cagrad(0.4)
    size = jax.jit(
        jax.grad(lambda g, a: jnp.sum(surgery.first(cagrad, g, a) ** 2), (0, 1))
    )
    g, zero = jnp.asarray(MAIN[0], jnp.float32), jnp.zeros(3)
    for main, aux in ((g, g), (g, -g), (g, zero), (zero, zero)):
        assert all(jnp.isfinite(slope).all() for slope in size(main, aux))


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cagrad: c must be .* got -0\.1"):
        optimizers.cagrad(-0.1)
