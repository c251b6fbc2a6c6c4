"""PCGrad against NumPy, worked numbers and what surgery promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optimizers
from tests.reference import surgery
from tests.reference.surgery import AUX, MAIN, TWELVE_DIGITS, project


def reference(tasks: list[np.ndarray]) -> np.ndarray:
    """Yu et al., Algorithm 1, with the other tasks in their order."""
    total = np.zeros_like(tasks[0])
    for i, task in enumerate(tasks):
        h = task.copy()
        for j, other in enumerate(tasks):
            if j != i and h @ other < 0:
                h = h - (h @ other) / (other @ other) * other
        total = total + h
    return total


def test_worked_numbers(x64: None) -> None:
    expected = [[1.67640798952, 1.38975114604, 1.14549770792], [1.0, 1.5, 0.75]]
    by_hand = [reference([g, 0.5 * a]) for g, a in zip(MAIN[:2], AUX[:2], strict=True)]
    np.testing.assert_allclose(by_hand, expected, rtol=TWELVE_DIGITS)
    directions, _ = surgery.run(optimizers.pcgrad(0.5), MAIN[:2], AUX[:2])
    np.testing.assert_allclose(directions, expected, rtol=TWELVE_DIGITS)


def test_two_tasks_in_closed_form(x64: None) -> None:
    g, a = MAIN[0], AUX[0]  # in conflict
    expected = project(g, a) + 0.5 * project(a, g)
    got = surgery.first(optimizers.pcgrad(0.5), g, a)
    np.testing.assert_allclose(got, expected, rtol=1e-14)


@pytest.mark.parametrize("weights", [[0.7], [0.3, 2.0, 1.0]], ids=["two", "four"])
def test_follows_the_equations(weights: list[float], x64: None) -> None:
    rng = np.random.default_rng(6)  # nothing in common: half of the pairs conflict
    main = rng.normal(size=(30, 7))
    aux = [rng.normal(size=(30, 7)) for _ in weights]
    several = len(weights) > 1
    trees = tuple(map(surgery.split, aux))
    directions, _ = surgery.run(
        optimizers.pcgrad(weights if several else weights[0]),
        surgery.split(main),
        trees if several else trees[0],
    )
    expected = [
        reference([main[t]] + [w * a[t] for w, a in zip(weights, aux, strict=True)])
        for t in range(30)
    ]
    np.testing.assert_allclose(
        surgery.joined(directions), expected, rtol=1e-12, atol=1e-13
    )


def test_without_conflict_gradients_are_mixed(x64: None) -> None:
    main = np.abs(surgery.random_gradients(4, 7))
    aux = np.abs(surgery.random_gradients(4, 7, seed=1))
    got, _ = surgery.run(optimizers.pcgrad(0.5), main, aux)
    mixed, _ = surgery.run(optimizers.mixed_gradients(0.5), main, aux)
    np.testing.assert_allclose(got, mixed, rtol=1e-15)


@pytest.mark.parametrize("size", [1e-30, 1e25])
def test_gradients_of_every_size(size: float) -> None:
    for main, aux in ((size, 1.0), (1.0, size), (size, size)):
        g, a = np.float32(main) * np.float32(MAIN), np.float32(aux) * np.float32(AUX)
        directions, _ = surgery.run(optimizers.pcgrad(1.0), g, a)
        for d, x, y in zip(directions, g, a, strict=True):
            expected = reference([x.astype(float), y.astype(float)])
            largest = np.abs(expected).max()
            np.testing.assert_allclose(d, expected, rtol=0.0, atol=3e-6 * largest)


def test_a_zero_task_has_no_effect() -> None:
    g, a = jnp.asarray(MAIN[0], jnp.float32), jnp.asarray(AUX[0], jnp.float32)
    off = surgery.first(optimizers.pcgrad(0.0), g, a)
    assert np.asarray(off).tobytes() == np.asarray(g).tobytes()
    scheduled = optimizers.pcgrad(lambda count: 0.0)
    np.testing.assert_array_equal(surgery.first(scheduled, g, a), g)
    traced = jax.jit(lambda w: surgery.first(optimizers.pcgrad(w), g, a))
    np.testing.assert_array_equal(traced(0.0), g)
    with jax.debug_nans(True):
        both = optimizers.pcgrad(1.0)
        np.testing.assert_array_equal(surgery.first(both, g, 0 * g), g)
        np.testing.assert_array_equal(surgery.first(both, 0 * g, a), a)
