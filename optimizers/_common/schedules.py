"""Hyperparameters that are numbers or schedules: their step counts and values."""

import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optimizers._common import numerics
from optimizers._common.typing import Scalar, ScalarOrSchedule


def value_at(hyperparameter: ScalarOrSchedule, count: jax.Array) -> Scalar:
    """The number, or the value of the schedule at this step count.

    Raises:
      ValueError: The schedule returns anything but a scalar number.
    """
    if not callable(hyperparameter):
        return numerics.as_scalar(hyperparameter)
    value = hyperparameter(count)
    shape = getattr(value, "shape", None)
    # An array of shape (1,) would change the shapes of updates without an error.
    if not isinstance(value, numbers.Number) and shape != ():
        found = repr(value) if shape is None else f"shape {shape}"
        name = getattr(hyperparameter, "__qualname__", repr(hyperparameter))
        msg = (
            f"the schedule {name} must return a scalar number for a step count, got "
            f"{found}."
        )
        raise ValueError(msg)
    return numerics.as_scalar(value)


def init_state(hyperparameter: ScalarOrSchedule) -> Any:
    """The state of one hyperparameter: a step count if it is a schedule."""
    if callable(hyperparameter):
        return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))
    return optax.EmptyState()


def advance(hyperparameter: ScalarOrSchedule, state: Any) -> tuple[Scalar, Any]:
    """The value at this step, and the state of the next step."""
    if not callable(hyperparameter):
        return numerics.as_scalar(hyperparameter), state
    value = value_at(hyperparameter, state.count)
    return value, optax.ScaleByScheduleState(numerics.increment(state.count))


def init_count(hyperparameters: Iterable[ScalarOrSchedule]) -> jax.Array | None:
    """A step count for several hyperparameters; None if none is a schedule."""
    return jnp.zeros([], jnp.int32) if any(map(callable, hyperparameters)) else None


def values_at(
    hyperparameters: Sequence[ScalarOrSchedule], count: jax.Array | None
) -> list[Scalar]:
    """The values at this step, for the count of `init_count`."""
    now = jnp.zeros([], jnp.int32) if count is None else count
    return [value_at(hyperparameter, now) for hyperparameter in hyperparameters]


def next_count(count: jax.Array | None) -> jax.Array | None:
    """The count of the next step."""
    return None if count is None else numerics.increment(count)
