"""Predictors of the next gradient against worked numbers and theory."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optimizers
from tests.reference.support import T5
from tests.reference.test_optimistic_amsgrad import predictions, smooth_sequence


def test_rmpe_worked_coefficients(x64: None) -> None:
    actual = predictions(optimizers.rmpe_predictor(2, 1e-3), jnp.asarray(T5.gradients))
    g = T5.gradients
    np.testing.assert_array_equal(actual[:2], [[0, 0], [1, 10]])
    np.testing.assert_allclose(actual[2], [-2.27440, -0.914677], rtol=3e-6)
    found = [np.linalg.solve(g[t - 2 : t].T, actual[t]) for t in (2, 3, 4)]
    expected = [[-0.0914677, 1.0914677], [0.581131, 0.418869], [0.552828, 0.447172]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=6e-7)


@pytest.mark.parametrize("regularization", [0.0, 1e-3])
def test_rmpe_of_a_constant_is_the_constant(regularization: float) -> None:
    constant = jnp.tile(jnp.asarray([1.0, -300.0, 1e-4]), (9, 1))
    actual = predictions(optimizers.rmpe_predictor(5, regularization), constant)
    np.testing.assert_allclose(actual[1:], constant[1:], rtol=1e-6)


def test_rmpe_of_a_geometric_sequence_is_its_limit(x64: None) -> None:
    powers = 0.7 ** np.arange(12)[:, None]
    gradients = np.array([2.0, -1.0]) + powers * np.array([5.0, 3.0])
    predictor = optimizers.rmpe_predictor(2, 1e-12)
    actual = predictions(predictor, jnp.asarray(gradients))
    np.testing.assert_allclose(actual[4:], np.tile([2.0, -1.0], (8, 1)), atol=1e-6)


def test_rmpe_with_a_large_regularization_averages(x64: None) -> None:
    gradients = jnp.asarray(smooth_sequence(9).gradients["bias"])
    actual = predictions(optimizers.rmpe_predictor(3, 1e12), gradients)
    np.testing.assert_allclose(actual[-1], np.mean(gradients[-4:-1], axis=0), atol=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_normalized_rmpe_follows_the_scale(scale: float, x64: None) -> None:
    gradients = jnp.asarray(smooth_sequence(9).gradients["bias"])
    predictor = optimizers.rmpe_predictor(3, 1e-2, normalize=True)
    expected = scale * predictions(predictor, gradients)
    actual = predictions(predictor, scale * gradients)
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


@pytest.mark.parametrize("regularization", [0.0, 1e-3])
@pytest.mark.parametrize("size", [0.0, 1e-25, 1e3, 1e12, 1e19, 1e30])
def test_rmpe_is_finite_and_moderate_in_float32(
    size: float, regularization: float
) -> None:
    """Five differences of two entries are linearly dependent."""
    rng = np.random.default_rng(0)
    gradients = jnp.asarray(size * rng.normal(size=(20, 2)), jnp.float32)
    actual = predictions(optimizers.rmpe_predictor(5, regularization), gradients)
    assert np.isfinite(actual).all()
    assert np.abs(actual).max() <= 100 * size


def test_rmpe_takes_complex_leaves_as_pairs_of_reals(x64: None) -> None:
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(9, 2, 3))
    predictor = optimizers.rmpe_predictor(3)
    whole = predictions(predictor, {"z": jnp.asarray(pairs[:, 0] + 1j * pairs[:, 1])})
    parts = predictions(predictor, jnp.asarray(pairs))
    np.testing.assert_allclose(whole["z"].real, parts[:, 0], rtol=1e-10)
    np.testing.assert_allclose(whole["z"].imag, parts[:, 1], rtol=1e-10)


def test_rmpe_under_vmap_equals_a_loop(x64: None) -> None:
    gradients = jnp.asarray(np.random.default_rng(0).normal(size=(4, 9, 3)))
    alone = jax.jit(functools.partial(predictions, optimizers.rmpe_predictor(3)))
    for batched, g in zip(jax.vmap(alone)(gradients), gradients, strict=True):
        np.testing.assert_allclose(batched, alone(g), rtol=1e-11)


def test_reduce_makes_parts_act_as_the_whole(x64: None) -> None:
    """Two devices, simulated by vmap, hold half of the gradients each."""
    gradients = jnp.asarray(np.random.default_rng(0).normal(size=(9, 2, 3)))
    parts = optimizers.rmpe_predictor(3, reduce=lambda x: jax.lax.psum(x, "data"))
    got = jax.vmap(
        lambda g: predictions(parts, g), in_axes=1, out_axes=1, axis_name="data"
    )(gradients)
    expected = predictions(optimizers.rmpe_predictor(3), gradients)
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_a_step_of_rmpe_costs_as_many_products_as_its_window() -> None:
    """The program has r + 1 sums over each leaf, not r^2.

    One of them is not used. Avoiding it would need a selection among the gradients,
    which stores a copy of each.
    """
    sizes = {"w": 101, "b": 103}
    gradients = {name: jnp.ones(size) for name, size in sizes.items()}
    predictor = optimizers.rmpe_predictor(4)

    def sums(jaxpr: Any, size: int) -> int:
        """Returns how many sums over `size` numbers the program computes."""
        total = 0
        for equation in jaxpr.eqns:
            inner = [p.jaxpr for p in equation.params.values() if hasattr(p, "jaxpr")]
            total += sum(sums(each, size) for each in inner)
            shapes = [v.aval.shape for v in equation.invars]
            reduces = equation.primitive.name in ("reduce_sum", "dot_general")
            if reduces and any(size in shape for shape in shapes):
                total += equation.outvars[0].aval.size
        return total

    program = jax.make_jaxpr(predictor.predict)(gradients, predictor.init(gradients))
    for size in sizes.values():
        assert sums(program.jaxpr, size) == 4 + 1


def test_rmpe_keeps_its_types_with_wider_gradients() -> None:
    predictor = optimizers.rmpe_predictor(3)
    params = {"a": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(2, jnp.complex64)}
    state = predictor.init(params)
    gradients = jax.tree.map(lambda p: p.astype(jnp.complex64), params)
    gradients["a"] = jnp.ones(3, jnp.float32)
    _, after = jax.eval_shape(predictor.predict, gradients, state)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(
        lambda x: x.dtype, state
    )


@pytest.mark.parametrize("window", [0, -1, 2.5, True, "5"])
def test_bad_windows_are_refused(window: object) -> None:
    with pytest.raises(ValueError, match="rmpe_predictor: window must be an integer"):
        optimizers.rmpe_predictor(window)  # pyright: ignore[reportArgumentType]
