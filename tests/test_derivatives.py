"""Derivatives of a training run, as hyperparameter optimization takes them."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import optimizers
from optimizers import catalog
from optimizers.catalog import Kind

METHODS = {
    name: function
    for name, function in catalog.functions(
        optimizers, Kind.OPTIMIZER, Kind.WRAPPER, Kind.GRADIENT_TRANSFORMATION
    ).items()
    if catalog.part_of(name, optimizers.__all__) is None
}
Make = Callable[[jax.Array], optax.GradientTransformation]


def _loss(params: Any) -> jax.Array:
    """The second column of w and all of b are dead: their gradients are always 0."""
    distance = params["w"] - jnp.asarray([[3.0, 0.0], [-1.0, 0.0]])
    return jnp.sum(jnp.asarray([[1.0, 0.0], [0.3, 0.0]]) * jnp.square(distance))


def _make(function: Callable[..., Any]) -> Make:
    """The transformation for a learning rate; it trains without a wrapper."""
    kind = catalog.kind(function)
    if kind is Kind.GRADIENT_TRANSFORMATION:
        return lambda rate: optax.chain(catalog.example(function), optax.sgd(rate))
    # The distance is far from the start, so that steps are not lost to rounding.
    far = {"d0": 0.1} if "d0" in inspect.signature(function).parameters else {}
    return lambda rate: catalog.example(function, rate, **far)


def _end(make: Make, rate: jax.Array, params: Any) -> jax.Array:
    """A number that depends on all params after two steps."""
    optimizer, gradient = make(rate), jax.grad(_loss)
    state = optimizer.init(params)
    for _ in range(2):
        grads = gradient(params)
        extras = {
            "value": _loss(params),
            "grad": grads,
            "value_fn": _loss,
            "aux_grads": grads,
            "tail_grad_fn": gradient,
        }
        updates, state = optimizer.update(grads, state, params, **extras)
        params = optax.apply_updates(params, updates)
    return jnp.sum(params["w"] * jnp.asarray([[1.0, 2.0], [3.0, 4.0]])) + params["b"][0]


@pytest.mark.parametrize("name", METHODS)
def test_derivatives_are_right_where_gradients_are_always_0(
    name: str, x64: None
) -> None:
    """Of the end of a run, by the learning rate and the initial params."""
    make = _make(METHODS[name])
    point, unflatten = ravel_pytree(
        (0.1, {"w": jnp.asarray([[1.0, 2.0], [0.5, 0.0]]), "b": jnp.ones(1)})
    )

    def end(flat: jax.Array) -> jax.Array:
        return _end(make, *unflatten(flat))

    direction = jnp.asarray([0.2, 0.5, -0.4, 0.3, 0.6, -0.7])
    step = 1e-5 * direction

    @jax.jit
    def derivatives() -> tuple[jax.Array, jax.Array, jax.Array]:
        # In one batch, so that a step is compiled once for values and derivatives.
        points = jnp.stack([point + step, point - step, point])
        ends, slopes = jax.jvp(jax.vmap(end), [points], [jnp.tile(direction, (3, 1))])
        return jax.grad(end)(point), slopes[2], (ends[0] - ends[1]) / 2e-5

    reverse, forward, quotient = derivatives()
    np.testing.assert_allclose(reverse @ direction, quotient, rtol=1e-6)
    np.testing.assert_allclose(forward, quotient, rtol=1e-6)


def test_eps_root_limits_the_derivative_by_a_gradient_of_0(x64: None) -> None:
    def first_step(gradient: Any, eps_root: float) -> Any:
        optimizer = optimizers.adam(1.0, eps_root=eps_root)
        return optimizer.update(gradient, optimizer.init(gradient))[0]

    slope = jax.grad(first_step)
    np.testing.assert_allclose(slope(0.0, 0.0), -1e8, rtol=1e-6)
    np.testing.assert_allclose(slope(0.0, 1e-8), -1e4, rtol=1e-3)
