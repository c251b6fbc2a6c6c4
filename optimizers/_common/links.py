"""The last two links of every alias: decoupled weight decay, and rate with sign.

Both do what the links of optax of the same name do, and keep the dtype of each
update whatever the dtypes of params, rate and decay are.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optimizers._common import numerics
from optimizers._common.typing import Mask, PyTree, Scalar, ScalarOrSchedule


def _init(hyperparameter: ScalarOrSchedule) -> Any:
    if callable(hyperparameter):
        return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))
    return optax.EmptyState()


def _advance(hyperparameter: ScalarOrSchedule, state: Any) -> tuple[Any, Any]:
    """The value of this step, and the state of the next."""
    if not callable(hyperparameter):
        return numerics.scalar(hyperparameter), state
    value = numerics.scalar(hyperparameter(state.count))
    return value, optax.ScaleByScheduleState(numerics.increment(state.count))


def add_decayed_weights(
    function: str, weight_decay: ScalarOrSchedule, mask: Mask = None
) -> optax.GradientTransformationExtraArgs:
    """Adds w x to the direction d; a constant w = 0 needs no params.

    The transformation raises ValueError where it needs params and gets none.
    """
    off = isinstance(weight_decay, int | float) and weight_decay == 0

    def init(params: PyTree) -> Any:
        del params
        return _init(weight_decay)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        del extra_args
        if off:
            return updates, state
        if params is None:
            msg = (
                f"{function}: update() needs params, because weight_decay adds a "
                "multiple of the params. Call update(grads, state, params)."
            )
            raise ValueError(msg)
        value, state = _advance(weight_decay, state)
        return jax.tree.map(
            lambda d, x: _add_multiple(d, value, x), updates, params
        ), state

    link = optax.GradientTransformationExtraArgs(init, update)
    return link if mask is None or off else optax.masked(link, mask)


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


@jax.jit
def _add_multiple(d: jax.Array, weight_decay: Scalar, x: jax.Array) -> jax.Array:
    x = numerics.widen(x, d)
    return (d.astype(x.dtype) + numerics.like(x, weight_decay) * x).astype(d.dtype)


@jax.jit
def _multiply(step: Scalar, d: jax.Array) -> jax.Array:
    wide = numerics.widen(d)
    return (numerics.like(wide, step) * wide).astype(d.dtype)
