"""MGDA against NumPy, worked numbers and the geometry of the shortest vector."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optimizers
from tests.reference import surgery
from tests.reference.surgery import AUX, MAIN, TWELVE_DIGITS


def reference(g: np.ndarray, a: np.ndarray) -> np.ndarray:
    """The shortest vector between two; gamma as in Sener and Koltun; exact."""
    g, a = (np.array([Fraction(float(x)) for x in row]) for row in (g, a))
    square = (a - g) @ (a - g)
    gamma = min(max((a - g) @ a / square, Fraction(0)), Fraction(1)) if square else 1
    return (gamma * g + (1 - gamma) * a).astype(np.float64)


def test_worked_numbers(x64: None) -> None:
    expected = [[0.632774472688, 0.42617631152, 0.57382368848], MAIN[1]]
    by_hand = [reference(g, a) for g, a in zip(MAIN[:2], AUX[:2], strict=True)]
    np.testing.assert_allclose(by_hand, expected, rtol=TWELVE_DIGITS)
    directions, _ = surgery.run(optimizers.mgda(), MAIN[:2], AUX[:2])
    np.testing.assert_allclose(directions, expected, rtol=TWELVE_DIGITS)
    np.testing.assert_allclose(
        [directions[0] @ MAIN[0], directions[0] @ AUX[0]], 0.911303407247, rtol=5e-12
    )


def test_follows_the_equations(x64: None) -> None:
    main, aux = (surgery.random_gradients(40, 7, seed) for seed in (1, 2))
    aux[:10] *= 0.05  # so short that it is the shortest vector itself
    main[10:20] *= 0.05
    directions, _ = surgery.run(
        optimizers.mgda(), surgery.split(main), surgery.split(aux)
    )
    expected = [reference(g, a) for g, a in zip(main, aux, strict=True)]
    np.testing.assert_allclose(surgery.joined(directions), expected, rtol=1e-12)
    for rows in (main, aux):  # where the one itself is the answer, it is to the bit
        ends = np.all(expected == rows, axis=1)
        assert ends.any()
        np.testing.assert_array_equal(surgery.joined(directions)[ends], rows[ends])


def test_descends_on_both_and_is_symmetric(x64: None) -> None:
    main, aux = (surgery.random_gradients(40, 7, seed) for seed in (1, 2))
    directions, _ = surgery.run(optimizers.mgda(), main, aux)
    swapped, _ = surgery.run(optimizers.mgda(), aux, main)
    np.testing.assert_allclose(directions, swapped, rtol=1e-13)
    square = np.sum(directions**2, 1)
    for grads in (main, aux):
        assert (np.sum(directions * grads, 1) >= square * (1 - 1e-13)).all()


def test_no_descent_is_left_between_opposite_gradients(x64: None) -> None:
    g = MAIN[0]
    np.testing.assert_allclose(
        surgery.first(optimizers.mgda(), g, -3 * g), 0, atol=1e-15
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_much_larger_gradient_stays_accurate(dtype: str, x64: None) -> None:
    """Gamma itself rounds to 1 where the one is 1e8 times the other."""
    tolerance = 100 * np.finfo(dtype).eps
    step = jax.jit(lambda g, a: surgery.run(optimizers.mgda(), g, a)[0])
    for ratio in (1e-20, 1e-8, 1.0, 1e8, 1e20):
        for size in (1e-10, 1e10):
            g = np.asarray(size * MAIN, dtype)
            a = np.asarray(size * ratio * AUX, dtype)
            for d, x, y in zip(step(g, a), g, a, strict=True):
                expected = reference(x, y)
                largest = np.abs(expected).max()
                np.testing.assert_allclose(
                    d, expected, rtol=0.0, atol=tolerance * largest
                )


def test_equal_and_zero_gradients() -> None:
    g, zero = jnp.asarray(MAIN[0], jnp.float32), jnp.zeros(3)
    with jax.debug_nans(True):
        np.testing.assert_array_equal(surgery.first(optimizers.mgda(), g, g), g)
        for pair in ((g, zero), (zero, g), (zero, zero)):
            np.testing.assert_array_equal(surgery.first(optimizers.mgda(), *pair), zero)
