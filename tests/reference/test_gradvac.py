"""GradVac against NumPy, worked numbers and the angle that it promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optimizers
from tests.reference import surgery
from tests.reference.surgery import AUX, MAIN, TWELVE_DIGITS, project


def reference(
    main: np.ndarray, aux: np.ndarray, ema_rate: float, mean: float = 0.0
) -> tuple[np.ndarray, float]:
    """Wang et al., equation 2 and the average of Algorithm 1, for one pair."""
    rows = []
    for g, a in zip(main, aux, strict=True):
        size, other = np.linalg.norm(g), np.linalg.norm(a)
        cosine = g @ a / (size * other)
        d = g
        if cosine < mean:
            sine = np.sqrt(1 - mean**2)
            wanted = mean * np.sqrt(1 - cosine**2) - cosine * sine
            d = g + size * wanted / (other * sine) * a
        rows.append(d)
        mean = (1 - ema_rate) * mean + ema_rate * cosine
    return np.stack(rows), mean


def start_at(mean: float, method: object) -> object:
    state = method.init(jnp.zeros(3))
    return state._replace(mean_cosine=jnp.asarray(mean, state.mean_cosine.dtype))


def test_worked_numbers(x64: None) -> None:
    expected = [[1.26745996845, 1.10846677184, 0.783066456326]]
    by_hand, _ = reference(MAIN[:1], AUX[:1], 0.01, 0.2)
    np.testing.assert_allclose(by_hand, expected, rtol=TWELVE_DIGITS)
    gradvac = optimizers.gradvac()
    got, state = surgery.run(gradvac, MAIN[:1], AUX[:1], start_at(0.2, gradvac))
    np.testing.assert_allclose(got, expected, rtol=TWELVE_DIGITS)
    cosine = MAIN[0] @ AUX[0] / np.linalg.norm(MAIN[0]) / np.linalg.norm(AUX[0])
    np.testing.assert_allclose(state.mean_cosine, 0.198 + 0.01 * cosine, rtol=1e-14)


def test_follows_the_equations(x64: None) -> None:
    main, aux = (surgery.random_gradients(60, 7, seed) for seed in (4, 5))
    expected, mean = reference(main, aux, 0.2)
    turned = ~np.all(expected == main, axis=1)
    assert 10 < turned.sum() < 50
    directions, state = surgery.run(
        optimizers.gradvac(0.2), surgery.split(main), surgery.split(aux)
    )
    rows = surgery.joined(directions)
    np.testing.assert_allclose(rows, expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(rows[~turned], main[~turned])
    np.testing.assert_allclose(state.mean_cosine, mean, rtol=1e-12)


@pytest.mark.parametrize("mean", [-0.5, 0.0, 0.2, 0.999])
@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8])
def test_rotates_to_the_mean_angle(mean: float, scale: float, x64: None) -> None:
    gradvac = optimizers.gradvac()
    for g, a in ((MAIN[0], scale * AUX[0]), (MAIN[0], -MAIN[0] + 1e-6 * AUX[0])):
        d = np.asarray(gradvac.update(g, start_at(mean, gradvac), aux_grads=a)[0])
        cosine = d @ a / np.linalg.norm(d) / np.linalg.norm(a)
        np.testing.assert_allclose(cosine, mean, rtol=1e-9, atol=1e-9)
        # What was added is a multiple of the auxiliary gradient.
        np.testing.assert_allclose(project(d, a), project(g, a), rtol=0.0, atol=1e-14)


def test_zero_mean_is_the_projection_of_pcgrad_and_a_gem(x64: None) -> None:
    got = surgery.first(optimizers.gradvac(), MAIN[0], AUX[0])
    np.testing.assert_allclose(got, project(MAIN[0], AUX[0]), rtol=1e-14)
    a_gem = 1.21807465619, 1.27308447937, 0.453831041257
    np.testing.assert_allclose(got, a_gem, rtol=TWELVE_DIGITS)


def test_an_angle_of_zero_cannot_be_reached() -> None:
    gradvac = optimizers.gradvac(1.0)
    g, a = jnp.asarray(MAIN[0], jnp.float32), jnp.asarray(AUX[0], jnp.float32)
    with jax.debug_nans(True):
        state = gradvac.update(g, gradvac.init(g), aux_grads=2 * g)[1]
        np.testing.assert_allclose(state.mean_cosine, 1.0, rtol=1e-6)
        alone, _ = gradvac.update(g, start_at(1.0, gradvac), aux_grads=a)
        np.testing.assert_array_equal(alone, g)
        slope = jax.grad(
            lambda s: jnp.sum(gradvac.update(g, type(state)(s), aux_grads=a)[0])
        )(jnp.float32(1.0))
    assert jnp.isfinite(slope)


def test_cosine_never_exceeds_one() -> None:
    """An average above 1 would be a NaN for ever."""
    gradvac = optimizers.gradvac(1.0)
    rows = surgery.random_gradients(50, 1000, seed=3).astype(np.float32)
    _, state = surgery.run(gradvac, rows, rows)
    assert state.mean_cosine <= 1.0
    directions, _ = surgery.run(gradvac, rows, 3 * rows)
    assert jnp.isfinite(directions).all()


def test_zero_gradients(x64: None) -> None:
    g, zero = jnp.asarray(MAIN[0]), jnp.zeros(3)
    gradvac = optimizers.gradvac()
    with jax.debug_nans(True):
        for mean in (0.0, 0.5):
            state = start_at(mean, gradvac)
            for main, aux in ((g, zero), (zero, g), (zero, zero)):
                d, after = gradvac.update(main, state, aux_grads=aux)
                np.testing.assert_array_equal(d, main)
                np.testing.assert_allclose(after.mean_cosine, 0.99 * mean)


@pytest.mark.parametrize("size", [1e-30, 1e25])
def test_gradients_of_every_size(size: float) -> None:
    gradvac = optimizers.gradvac()
    for main, aux in ((size, 1.0), (1.0, size), (size, size)):
        g, a = np.float32(main) * np.float32(MAIN), np.float32(aux) * np.float32(AUX)
        directions, _ = surgery.run(gradvac, g, a)
        expected, _ = reference(g.astype(float), a.astype(float), 0.01)
        np.testing.assert_allclose(directions, expected, rtol=0.0, atol=3e-6 * main)


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gradvac: ema_rate must be .* got 1\.5"):
        optimizers.gradvac(1.5)


def test_derivatives_by_the_gradients_are_finite() -> None:
    """Also where gradients are equal, zero or opposite."""
    gradvac = optimizers.gradvac(0.1)
    size = jax.jit(
        jax.grad(lambda g, a: jnp.sum(surgery.first(gradvac, g, a) ** 2), (0, 1))
    )
    g, zero = jnp.asarray(MAIN[0], jnp.float32), jnp.zeros(3)
    for main, aux in ((g, g), (g, -g), (g, zero), (zero, g), (zero, zero)):
        assert all(jnp.isfinite(slope).all() for slope in size(main, aux))
