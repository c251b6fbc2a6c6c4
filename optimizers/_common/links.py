"""Decoupled weight decay, and the last link of an alias: rate with sign.

Both do what the links of optax do, and keep the dtype of each update whatever the
dtypes of params, rate and decay are.
"""

from collections.abc import Callable
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import optax

from optimizers._common import numerics
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule


def value_at(hyperparameter: ScalarOrSchedule, count: jax.Array) -> Scalar:
    """The number itself, or what a schedule says for the 0-based count of updates."""
    value = hyperparameter(count) if callable(hyperparameter) else hyperparameter
    return numerics.scalar(value)


def add_decay(
    function: str,
    direction: PyTree,
    params: PyTree,
    weight_decay: Scalar,
    mask: Mask = None,
    rate: Scalar = 1.0,
) -> PyTree:
    """Adds rate * weight_decay * x to the direction, on the leaves that the mask names.

    Args:
      function: Who asks, for the message.
      direction: The direction d.
      params: The params x.
      weight_decay: The decay of this step; a constant 0 needs no params.
      mask: A tree of booleans, a prefix of one, a function that makes one, or None.
      rate: The learning rate, where the direction already has it inside.

    Returns:
      The sum, in the dtypes of the direction.

    Raises:
      ValueError: There are no params.
    """
    if isinstance(weight_decay, float) and weight_decay == 0.0:
        return direction
    if params is None:
        msg = (
            f"{function}: update() needs params, because weight_decay adds a multiple "
            "of the params. Call update(grads, state, params)."
        )
        raise ValueError(msg)

    amount = rate * weight_decay

    def subtree(decays: bool, direction: PyTree, params: PyTree) -> PyTree:
        if not decays:
            return direction
        return jax.tree.map(lambda d, x: _add_multiple(d, amount, x), direction, params)

    return jax.tree.map(subtree, resolved(mask, params), direction, params)


def add_decayed_weights(
    function: str, weight_decay: ScalarOrSchedule, mask: Mask = None
) -> optax.GradientTransformationExtraArgs:
    """The link of a chain that adds w x to the direction d; see `add_decay`."""

    def init(params: PyTree) -> Any:
        del params
        return _init(weight_decay)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        del extra_args
        value, state = _advance(weight_decay, state)
        return add_decay(function, updates, params, value, mask), state

    return optax.GradientTransformationExtraArgs(init, update)


def scale_by_learning_rate(
    learning_rate: ScalarOrSchedule,
) -> optax.GradientTransformationExtraArgs:
    """Turns the direction d into -rate d; a schedule gets the 0-based count."""

    def init(params: PyTree) -> Any:
        del params
        return _init(learning_rate)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        del params, extra_args
        value, state = _advance(learning_rate, state)
        step = -value
        return jax.tree.map(lambda d: _multiply(step, d), updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _init(hyperparameter: ScalarOrSchedule) -> Any:
    if callable(hyperparameter):
        return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))
    return optax.EmptyState()


def _advance(hyperparameter: ScalarOrSchedule, state: Any) -> tuple[Scalar, Any]:
    """The value of this step, and the state of the next."""
    if not callable(hyperparameter):
        return numerics.scalar(hyperparameter), state
    value = value_at(hyperparameter, state.count)
    return value, optax.ScaleByScheduleState(numerics.increment(state.count))


def is_function(mask: Mask) -> TypeGuard[Callable[[PyTree], PyTree]]:
    """Whether it is a function from the params to a tree, and no tree itself.

    Params may be callable objects with leaves, and so may a mask made from them: a
    function is what has nothing but callables inside.
    """
    leaves = jax.tree.leaves(mask)
    return bool(leaves) and all(map(callable, leaves))


def resolved(mask: Mask, params: PyTree) -> PyTree:
    """A tree of booleans, or a prefix of one."""
    if mask is None:
        return True
    return mask(params) if is_function(mask) else mask


@numerics.inline_jit
def _add_multiple(d: jax.Array, amount: Scalar, x: jax.Array) -> jax.Array:
    x = numerics.widen(x, d)
    return (d.astype(x.dtype) + numerics.like(x, amount) * x).astype(d.dtype)


@numerics.inline_jit
def _multiply(step: Scalar, d: jax.Array) -> jax.Array:
    wide = numerics.widen(d)
    return (numerics.like(wide, step) * wide).astype(d.dtype)
