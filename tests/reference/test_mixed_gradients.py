"""Mixed gradients against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optimizers
from tests.reference import surgery
from tests.reference.surgery import AUX, MAIN, TWELVE_DIGITS


def test_worked_numbers(x64: None) -> None:
    directions, _ = surgery.run(optimizers.mixed_gradients(0.5), MAIN, AUX)
    np.testing.assert_allclose(directions, MAIN + 0.5 * AUX, rtol=1e-15)
    np.testing.assert_allclose(directions[0], [1.15, 1.5, 0.0], rtol=TWELVE_DIGITS)


def test_several_scheduled_weights(x64: None) -> None:
    main = surgery.random_gradients(5, 7)
    first, second = (surgery.random_gradients(5, 7, seed) for seed in (1, 2))
    method = optimizers.mixed_gradients(
        (0.5, lambda count: 0.1 * count.astype(jnp.float64))
    )
    directions, state = surgery.run(
        method,
        surgery.split(main),
        (surgery.split(first), surgery.split(second)),
    )
    share = 0.1 * np.arange(5)[:, None]
    np.testing.assert_allclose(
        surgery.joined(directions), main + 0.5 * first + share * second, rtol=1e-14
    )
    assert state.count == 5


def test_is_the_gradient_of_the_weighted_sum(x64: None) -> None:
    x = jnp.asarray(MAIN[0])
    main, aux = lambda x: jnp.sum(x**4), lambda x: jnp.sum(jnp.cos(x))
    got = surgery.first(
        optimizers.mixed_gradients(0.3), jax.grad(main)(x), jax.grad(aux)(x)
    )
    expected = jax.grad(lambda x: main(x) + 0.3 * aux(x))(x)
    np.testing.assert_allclose(got, expected, rtol=1e-14)


def test_weight_zero_has_no_effect_on_any_bit() -> None:
    grads = jnp.array([1.0, -0.0, 3e38, 1e-45, jnp.nan])
    same = surgery.first(optimizers.mixed_gradients(0.0), grads, jnp.full(5, jnp.inf))
    assert np.asarray(same).tobytes() == np.asarray(grads).tobytes()


def test_sums_are_made_in_float32_and_stay_finite() -> None:
    """1 + 2^-9 needs more digits than bfloat16 has; 66000 is beyond float16."""
    ulp = jnp.asarray([2.0**-9], jnp.bfloat16)
    parts = (ulp, ulp, ulp, ulp)
    total = surgery.first(
        optimizers.mixed_gradients([1.0] * 4), jnp.ones(1, jnp.bfloat16), parts
    )
    np.testing.assert_array_equal(total, jnp.asarray([1.0 + 2.0**-7], jnp.bfloat16))
    large = jnp.asarray([6e4, -6e4, jnp.inf], jnp.float16)
    total = surgery.first(optimizers.mixed_gradients(0.1), large, large)
    np.testing.assert_array_equal(total, [65504.0, -65504.0, jnp.inf])


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="mixed_gradients: aux_weight must be"):
        optimizers.mixed_gradients(-1.0)
    method = optimizers.mixed_gradients(1.0)
    with pytest.raises(ValueError, match=r"mixed_gradients: .* needs aux_grads"):
        method.update(jnp.ones(2), method.init(jnp.ones(2)))
