"""AdamNC against NumPy, worked numbers and AdaGrad, which it contains."""

import jax.numpy as jnp
import numpy as np
import pytest

import optimizers
from optimizers import testing
from tests.reference import support
from tests.reference.support import T5, assert_close, assert_worked_numbers, run


def reference(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    rates: np.ndarray,
    b1: float = 0.9,
    eps: float = 1e-8,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Reddi, Kale and Kumar, Algorithm 3 with b2 = 1 - 1/t and constant b1."""
    x, m, v = start, np.zeros_like(start), np.zeros_like(start)
    trajectory = []
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = (1 - 1 / t) * v + g**2 / t
        x = x - rates[t - 1] * m / (np.sqrt(v) + eps)
        trajectory.append(x)
    return np.stack(trajectory), {"mu": m, "nu": v}


def _decaying(count: jnp.ndarray) -> jnp.ndarray:
    """0.1 / sqrt(t), t counted from 1: the rate of the paper."""
    return 0.1 / jnp.sqrt(count.astype(float) + 1)


RATES = 0.1 / np.sqrt(np.arange(1, 51))
FIRST = [0.9900000001, 0.994919349619, 0.997057884928, 0.989337329967, 0.984666767331]
SECOND = (-2.00999999999, -2.03405070073)


def test_worked_numbers(x64: None) -> None:
    assert_worked_numbers(reference(*T5, rates=RATES)[0], FIRST, SECOND)
    params, _ = run(optimizers.adam_nc(_decaying), T5)
    assert_worked_numbers(params, FIRST, SECOND)


def test_state_is_the_mean_of_squares(x64: None) -> None:
    _, state = run(optimizers.scale_by_adam_nc(), T5)
    np.testing.assert_allclose(state.nu, np.mean(T5.gradients**2, axis=0), rtol=1e-14)
    assert_close(
        {"mu": state.mu, "nu": state.nu}, reference(*T5, rates=RATES)[1], 1e-13
    )
    assert state.count == 5


@pytest.mark.parametrize(
    "options", [{}, {"b1": 0.0}, {"b1": 0.5, "eps": 1e-3}], ids=str
)
def test_follows_the_equations(options: dict[str, float]) -> None:
    testing.assert_matches_reference(
        optimizers.adam_nc(_decaying, **options),
        lambda x, g: reference(x, g, rates=RATES, **options)[0],
    )


def test_a_number_is_a_constant_rate() -> None:
    testing.assert_matches_reference(
        optimizers.adam_nc(0.1),
        lambda x, g: reference(x, g, rates=np.full(50, 0.1))[0],
    )


def test_without_momentum_is_adagrad(x64: None) -> None:
    sequence = support.random_sequence(50)

    def adagrad(x: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, dict]:
        total = np.sqrt(np.cumsum(g**2, axis=0))
        steps = np.divide(0.1 * g, total, out=np.zeros_like(g), where=total > 0)
        return x - np.cumsum(steps, axis=0), {}

    params, _ = run(optimizers.adam_nc(_decaying, b1=0.0, eps=0.0), sequence)
    assert_close(params, support.run_reference(adagrad, sequence), 1e-12)


def test_first_step_is_a_tenth_of_the_rate(x64: None) -> None:
    sequence = support.Sequence(np.zeros(2), np.array([[3.0, -7.0]]))
    params, _ = run(optimizers.adam_nc(1.0), sequence)
    np.testing.assert_allclose(params[0], [-0.1, 0.1], rtol=1e-8)


def test_summed_squares_never_shrink(x64: None) -> None:
    """t v_t is the sum of squares, which the proof needs to be monotone."""
    gradients = support.random_sequence(50).gradients["bias"]
    primitive = optimizers.scale_by_adam_nc()
    state, totals = primitive.init(jnp.zeros(3)), [jnp.zeros(3)]
    for g in jnp.asarray(gradients):
        _, state = primitive.update(g, state)
        totals.append(state.count.astype(float) * state.nu)
    assert (np.diff(totals, axis=0) >= -1e-12 * np.max(totals)).all()


def test_squares_that_overflow_stop_the_entry_and_nothing_else() -> None:
    huge = np.broadcast_to(np.float32([3e19, 1.0]), (5, 2))
    params, _ = run(optimizers.adam_nc(0.1), support.Sequence(np.zeros(2, "f4"), huge))
    assert np.isfinite(params).all()
    np.testing.assert_allclose(params[0], [0.0, -0.01], rtol=1e-6)
