"""Hyperparameter validation, run when an optimizer is constructed.

Python, NumPy and JAX numbers are held to the same ranges. Schedules and traced values
are not checked, because their numbers are not known yet; a schedule is refused where
only a number is possible. Their dtypes are known: `optax.inject_hyperparams` casts
hyperparameters to the dtype of the params, and decay rates are refused in 16 bits,
because 0.999 is 1 in bfloat16.
"""

import math
from typing import Any, NamedTuple, NoReturn

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax


class _Range(NamedTuple):
    description: str
    low: float
    high: float
    includes_low: bool = True
    includes_high: bool = True

    def contains(self, number: float) -> bool:
        if number == self.low:
            return self.includes_low
        if number == self.high:
            return self.includes_high
        return self.low < number < self.high


_DECAY_RATE = _Range("in [0, 1)", 0.0, 1.0, includes_high=False)
_UNIT_INTERVAL = _Range("in [0, 1]", 0.0, 1.0)
_FRACTION = _Range("in (0, 1)", 0.0, 1.0, includes_low=False, includes_high=False)
_FINITE = _Range(
    "a finite number", -math.inf, math.inf, includes_low=False, includes_high=False
)
_NON_NEGATIVE = _Range("a finite number >= 0", 0.0, math.inf, includes_high=False)
_LIMIT = _Range("a number >= 0 or infinity", 0.0, math.inf)
_POSITIVE = _Range(
    "a finite number > 0", 0.0, math.inf, includes_low=False, includes_high=False
)
_AT_LEAST_ONE = _Range("at least 1", 1.0, math.inf)

_SCHEDULED = {"learning_rate", "weight_decay", "rho", "aux_weight"}
"""Arguments that may be schedules, in every function that checks them here."""

_ADVICE = (
    "optax.inject_hyperparams casts hyperparameters to the dtype of the params; pass "
    "hyperparam_dtype=jnp.float32 to it."
)


def decay_rates(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is in [0, 1), in at least 32 bits."""
    for name, value in values.items():
        if _is_narrow(value):
            msg = (
                f"{function}: {name} must be a number of at least 32 bits, got "
                f"{value!r}: in 16 bits, decay rates such as 0.999 are rounded to 1. "
                f"{_ADVICE}"
            )
            raise ValueError(msg)
    _require(function, _DECAY_RATE, values)


def unit_interval(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is in [0, 1]."""
    _require(function, _UNIT_INTERVAL, values)


def fractions(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is in (0, 1)."""
    _require(function, _FRACTION, values)


def finite(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is a finite number (or a schedule)."""
    _require(function, _FINITE, values)


def non_negative(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is a finite number >= 0."""
    _require(function, _NON_NEGATIVE, values)


def limits(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is >= 0, infinity included."""
    _require(function, _LIMIT, values)


def positive(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is a finite number > 0."""
    _require(function, _POSITIVE, values)


def at_least_one(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is >= 1, infinity included."""
    _require(function, _AT_LEAST_ONE, values)


def positive_integers(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is an integer >= 1.

    JAX arrays may hold the integer in a floating-point dtype, as older versions of
    `optax.inject_hyperparams` pass it.
    """
    for name, value in values.items():
        if isinstance(value, jax.core.Tracer):
            continue
        if callable(value):
            _refuse_schedule(function, name)
        is_integer = _has_integer_dtype(value)
        if isinstance(value, jax.Array):
            number = _number(value)
            is_integer = number.is_integer() or number == math.inf
        if not is_integer or not _number(value) >= 1:
            msg = f"{function}: {name} must be an integer >= 1, got {value!r}."
            raise ValueError(msg)


def size(function: str, name: str, value: Any, smallest: int = 1) -> int:
    """The integer that determines shapes of arrays.

    Raises:
      ValueError: The value is not an integer >= `smallest`, or it is traced.
    """
    if isinstance(value, jax.core.Tracer):
        msg = (
            f"{function}: {name} determines shapes of arrays and cannot be traced. "
            "Pass a Python integer; optax.inject_hyperparams needs "
            f'static_args="{name}".'
        )
        raise ValueError(msg)  # noqa: TRY004
    if not _has_integer_dtype(value) or not _number(value) >= smallest:
        msg = f"{function}: {name} must be an integer >= {smallest}, got {value!r}."
        raise ValueError(msg)
    return int(value)


def one_of(function: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless the value is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        expected = ", ".join(map(repr, choices))
        msg = f"{function}: {name} must be one of {expected}, got {value!r}."
        raise ValueError(msg)


def functions(function: str, **values: Any) -> None:
    """Raises ValueError unless each value is a function or None."""
    for name, value in values.items():
        if value is not None and not callable(value):
            msg = (
                f"{function}: {name} must be a function or None, got {value!r}. "
                f"{static_advice(name)}"
            )
            raise ValueError(msg)


def static_advice(argument: str) -> str:
    """What to do if `optax.inject_hyperparams` called the function `argument`."""
    return (
        "optax.inject_hyperparams calls functions as schedules: if this was a "
        f'function, pass static_args="{argument}" to it.'
    )


def one_mask(function: str, mask: Any, weight_decay_mask: Any) -> tuple[str, Any]:
    """The mask under either of its names, and the name.

    Raises:
      ValueError: Both are given.
    """
    if mask is not None and weight_decay_mask is not None:
        msg = (
            f"{function}: mask and weight_decay_mask are two names of one argument; "
            "give only weight_decay_mask."
        )
        raise ValueError(msg)
    if mask is not None:
        return "mask", mask
    return "weight_decay_mask", weight_decay_mask


def inner_optimizer(
    function: str, optimizer: Any, example: str
) -> optax.GradientTransformationExtraArgs:
    """The optimizer that a wrapper was given, with support for extra arguments.

    Args:
      function: The wrapper's name, for the error message.
      optimizer: The wrapper's argument; `optax.MultiSteps` too, which is not one.
      example: Another argument of a call, for the error message: ``"rho=0.05"``.

    Raises:
      TypeError: The optimizer is not a gradient transformation.
    """
    if isinstance(optimizer, optax.MultiSteps):
        update: Any = optimizer.update  # passes on extra arguments
        return optax.GradientTransformationExtraArgs(optimizer.init, update)
    if not isinstance(optimizer, optax.GradientTransformation):
        msg = (
            f"{function}: optimizer must be an optax.GradientTransformation, got "
            f"{optimizer!r} of type {type(optimizer).__name__}. Call for instance "
            f"{function}(optax.sgd(0.1), {example})."
        )
        raise TypeError(msg)
    return optax.with_extra_args_support(optimizer)


def _require(function: str, allowed: _Range, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if callable(value) and name not in _SCHEDULED:
            _refuse_schedule(function, name)
        if callable(value) or isinstance(value, jax.core.Tracer):
            continue
        if not allowed.contains(_number(value)):
            advice = _ADVICE if _is_narrow(value) else ""
            msg = (
                f"{function}: {name} must be {allowed.description}, got {value!r}. "
                f"{advice}"
            )
            raise ValueError(msg.rstrip())


def _refuse_schedule(function: str, name: str) -> NoReturn:
    msg = (
        f"{function}: {name} must be a number, got a function. For a schedule, call "
        f"optax.inject_hyperparams({function})(..., {name}=schedule)."
    )
    raise ValueError(msg)


def _has_integer_dtype(value: Any) -> bool:
    return jnp.issubdtype(np.asarray(value).dtype, np.integer)


def _number(value: Any) -> float:
    """The value as a float; NaN if it is not a real number, which is in no range."""
    if isinstance(value, jax.Array):
        value = np.real(np.asarray(value))  # injected in the dtype of complex params
    if np.ndim(value) != 0:
        return math.nan
    dtype = np.asarray(value).dtype
    if not jnp.issubdtype(dtype, np.floating) and not jnp.issubdtype(dtype, np.integer):
        return math.nan
    return float(value)


def _is_narrow(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    return (
        dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
    )
