"""Checks of hyperparameters, made where the user stands: at construction.

Only numbers are checked. A traced value has none yet, and an array of less than
32 bits was rounded by whoever made it: `optax.inject_hyperparams` hands all over in
the dtype of the params, where b2 = 0.999 is 1 in bfloat16.
"""

import math
from typing import Any

import jax
import jax.core
import numpy as np


def _number(value: Any) -> float | None:
    """The value as a float, or None where it is not for us to check."""
    if callable(value) or isinstance(value, jax.core.Tracer):
        return None
    if isinstance(value, jax.Array):
        if value.dtype.itemsize < 4:
            return None
        value = value.real
    if isinstance(value, bool | str) or np.ndim(value) != 0:
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _require(function: str, interval: str, inside: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        number = _number(value)
        if number is not None and not inside(number):
            msg = f"{function}: {name} must be {interval}, got {value!r}."
            raise ValueError(msg)


def decay_rates(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is in [0, 1)."""
    _require(function, "in [0, 1)", lambda x: 0.0 <= x < 1.0, values)


def non_negative(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is a finite number >= 0 (or a schedule)."""
    _require(function, "a finite number >= 0", lambda x: 0.0 <= x < math.inf, values)


def positive(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is a finite number > 0 (or a schedule)."""
    _require(function, "a finite number > 0", lambda x: 0.0 < x < math.inf, values)


def at_least_one(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is >= 1, infinity included."""
    _require(function, "at least 1", lambda x: x >= 1.0, values)


def fractions(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is in (0, 1)."""
    _require(function, "in (0, 1)", lambda x: 0.0 < x < 1.0, values)


def one_of(function: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless the value is one of the choices."""
    if value not in choices:
        expected = ", ".join(map(repr, choices))
        msg = f"{function}: {name} must be one of {expected}, got {value!r}."
        raise ValueError(msg)


def one_mask(function: str, mask: Any, weight_decay_mask: Any) -> Any:
    """The mask under either of its names.

    Raises:
      ValueError: Both are given.
    """
    if mask is not None and weight_decay_mask is not None:
        msg = (
            f"{function}: mask and weight_decay_mask are two names of one argument; "
            "give only weight_decay_mask."
        )
        raise ValueError(msg)
    return mask if weight_decay_mask is None else weight_decay_mask
