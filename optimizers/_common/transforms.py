"""Decoupled weight decay and the learning rate, as the last transformations of a chain.

They do the same as those of optax, but each update keeps its dtype whatever the dtypes
of the params, the learning rate and the weight decay are.
"""

from typing import Any

import jax
import optax

from optimizers._common import masks, numerics, order, schedules, trees
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule


def add_decay(
    function: str,
    direction: PyTree,
    params: PyTree,
    weight_decay: Scalar,
    mask: Mask = None,
    learning_rate: Scalar = 1.0,
) -> PyTree:
    """Adds learning_rate * weight_decay * x to the direction, on leaves of the mask.

    Args:
      function: The caller's name, for error messages.
      direction: The direction d.
      params: The params x.
      weight_decay: The weight decay at this step; the number 0 needs no params.
      mask: Which leaves decay: a tree of booleans, a prefix of one, a function from
        the params to one, or None for all.
      learning_rate: The learning rate, if the direction is already scaled by it.

    Returns:
      The sum, in the dtypes of the direction.

    Raises:
      ValueError: There are no params, or they do not have the structure of the
        direction. Where that has None, the params may hold anything.
    """
    if numerics.is_number(weight_decay, 0):
        return direction
    if params is None:
        msg = (
            f"{function}: update() needs params, because weight_decay adds a multiple "
            "of the params. Call update(grads, state, params)."
        )
        raise ValueError(msg)

    amount = learning_rate * weight_decay
    params = trees.with_gradients(function, direction, params)
    return trees.map_chosen(
        lambda d, x: _add_decay(d, amount, x),
        masks.full(mask, params),
        direction,
        params,
    )


def add_decayed_weights(
    function: str,
    weight_decay: ScalarOrSchedule,
    mask: Mask = None,
    argument: str = "weight_decay_mask",
) -> optax.GradientTransformationExtraArgs:
    """The transformation that adds w x to the direction d; see `add_decay`.

    Raises:
      ValueError: The mask is not a mask; names the argument.
    """
    mask = masks.checked(function, argument, mask, weight_decay)

    def init(params: PyTree) -> Any:
        del params
        return schedules.init_state(weight_decay)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        del extra_args
        value, state = schedules.advance(weight_decay, state)
        return add_decay(function, updates, params, value, mask), state

    return optax.GradientTransformationExtraArgs(init, update)


def scale_by_learning_rate(
    learning_rate: ScalarOrSchedule,
) -> optax.GradientTransformationExtraArgs:
    """The transformation from the direction d to the update, -learning_rate * d."""

    def init(params: PyTree) -> Any:
        del params
        return schedules.init_state(learning_rate)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        del params, extra_args
        value, state = schedules.advance(learning_rate, state)
        step = -value
        scaled = jax.tree.map(lambda d: _scale(step, d), updates)
        return order.remember_updates(scaled), state

    return optax.GradientTransformationExtraArgs(init, update)


def negate() -> optax.GradientTransformationExtraArgs:
    """The transformation from the direction d, scaled by its step size, to -d."""
    scale = optax.scale(-1.0)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        del extra_args
        negated, state = scale.update(updates, state, params)
        return order.remember_updates(negated), state

    return optax.GradientTransformationExtraArgs(scale.init, update)


@numerics.inline_jit
def _add_decay(d: jax.Array, amount: Scalar, x: jax.Array) -> jax.Array:
    return numerics.add_scaled(d, amount, x).astype(d.dtype)


@numerics.inline_jit
def _scale(step: Scalar, d: jax.Array) -> jax.Array:
    return numerics.scaled(step, d).astype(d.dtype)
