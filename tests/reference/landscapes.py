"""Losses with gradients by hand, and how methods that ask for gradients run on them.

Unlike the sequences of `support`, these runs are closed loops: a method chooses where
gradients are taken. NumPy references see the params as one vector.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

PyTree = Any
Vector = np.ndarray


class Landscape(NamedTuple):
    """A loss as JAX sees it, and as NumPy does."""

    start: PyTree
    loss: Callable[[PyTree], jax.Array]
    gradient: Callable[[Vector], Vector]  # by hand, of the vector of the params
    vector: Callable[[PyTree], Any]  # the params as one vector, JAX or NumPy
    leaves: tuple[slice, ...]  # where each leaf is in the vector


def _ill_conditioned(x: jax.Array) -> jax.Array:
    return (x[0] ** 2 + 10 * x[1] ** 2) / 2


# L = (x1^2 + 10 x2^2) / 2 from (1, 1); its worked numbers belong to a rate of 0.1.
Q = Landscape(
    np.array([1.0, 1.0]),
    _ill_conditioned,
    lambda x: x * np.array([1.0, 10.0]),
    lambda x: x,
    (slice(0, 2),),
)

_INPUTS = np.array([[1.0, 2.0], [-1.0, 0.5]])
_SIGNS = np.array([1.0, -1.0])


def logistic(weights: tuple[float, float]) -> Landscape:
    """The weighted logistic loss of two examples, for w = (0.5, -0.25) and b = 0.1.

    Worked numbers belong to equal weights of 1/2 and a rate of 0.5.
    """
    signs, share = _SIGNS, np.array(weights)

    def loss(params: PyTree) -> jax.Array:
        margins = signs * (_INPUTS @ params["w"] + params["b"])
        return jnp.sum(share * jnp.logaddexp(0.0, -margins))

    def gradient(x: Vector) -> Vector:
        margins = signs * (_INPUTS @ x[:2] + x[2])
        slopes = -share * signs / (1.0 + np.exp(margins))
        return np.array([*(slopes @ _INPUTS), slopes.sum()])

    start = {"w": np.array([0.5, -0.25]), "b": np.array(0.1)}
    leaves = (slice(0, 2), slice(2, 3))
    return Landscape(start, loss, gradient, _weights_then_bias, leaves)


def _weights_then_bias(params: PyTree) -> Any:
    return jnp.concatenate([params["w"], params["b"][..., None]], axis=-1)


Z = logistic((0.5, 0.5))


def run(
    optimizer: optax.GradientTransformationExtraArgs,
    landscape: Landscape,
    steps: int,
    **extra_args: Any,
) -> np.ndarray:
    """The vector after each step, [steps, size], from one compiled scan."""
    gradient = jax.grad(landscape.loss)
    extra_args = {"grad_fn": gradient, **extra_args}

    @jax.jit
    def scan(start: PyTree) -> PyTree:
        def step(carry: tuple[PyTree, PyTree], _: None) -> tuple[Any, PyTree]:
            params, state = carry
            updates, state = optimizer.update(
                gradient(params), state, params, **extra_args
            )
            params = optax.apply_updates(params, updates)
            return (params, state), params

        carry = start, optimizer.init(start)
        return jax.lax.scan(step, carry, None, length=steps)[1]

    trajectory = scan(jax.tree.map(jnp.asarray, landscape.start))
    return np.asarray(landscape.vector(trajectory))


def descend(
    direction: Callable[[Vector, Callable[[Vector], Vector]], Vector],
    landscape: Landscape,
    steps: int,
    rate: float,
) -> np.ndarray:
    """The vector after each step of x - rate d(x, gradient), in NumPy."""
    x = np.asarray(landscape.vector(landscape.start))
    trajectory = []
    for _ in range(steps):
        x = x - rate * direction(x, landscape.gradient)
        trajectory.append(x)
    return np.stack(trajectory)


def point_of(
    transform: optax.GradientTransformationExtraArgs,
    grads: PyTree,
    params: PyTree,
    state: PyTree = None,
    keyword: str = "grad_fn",
) -> PyTree:
    """Where a transformation asks for the last gradient of its first update."""
    asked = []

    def record(point: PyTree) -> PyTree:
        asked.append(point)
        return grads

    state = transform.init(params) if state is None else state
    transform.update(grads, state, params, **{keyword: record})
    return asked[-1]
