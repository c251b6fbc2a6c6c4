"""How to call the factory of an optimizer: name, learning rate, wrapped optimizer."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers import catalog
from optimizers.catalog import Kind
from optimizers.testing._extras import accepted_extras, select_extras

Factory = Callable[..., Any]


def is_wrapper(factory: Factory) -> bool:
    """Returns whether the first parameter of a factory is an optimizer."""
    return catalog.kind(factory) is Kind.WRAPPER


def parameters(factory: Factory) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a factory by name."""
    return dict(inspect.signature(factory).parameters)


def unwrap(factory: Factory) -> Factory:
    """Returns the function below any `functools.partial` and `functools.wraps`."""
    function = inspect.unwrap(factory)
    while isinstance(function, partial):
        function = inspect.unwrap(function.func)
    return function


def given_arguments(factory: Factory, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all keyword arguments of a call, those of `functools.partial` too."""
    return {**getattr(factory, "keywords", {}), **kwargs}


def base_name(factory: Factory) -> str:
    """Returns the name of a factory, also through `functools.partial`."""
    function = unwrap(factory)
    return getattr(function, "__name__", type(function).__name__)


def full_name(factory: Factory, kwargs: Mapping[str, Any]) -> str:
    """Returns the call of a factory as a user would write it."""
    given = given_arguments(factory, kwargs)
    if not given:
        return base_name(factory)
    arguments = ", ".join(f"{key}={_written(value)}" for key, value in given.items())
    return f"{base_name(factory)}({arguments})"


def learning_rate_name(factory: Factory) -> str | None:
    """Returns the parameter that takes the learning rate, if there is one."""
    known = parameters(factory)
    if "learning_rate" in known:
        return "learning_rate"
    first = next(iter(known.values()), None)
    return first.name if first and catalog.takes_learning_rate(first) else None


def default_learning_rate(factory: Factory, kwargs: Mapping[str, Any]) -> float:
    """Returns the learning rate given in `kwargs`, else the default, else 0.1."""
    name = learning_rate_name(factory) or ""
    default = getattr(parameters(factory).get(name), "default", None)
    for rate in (kwargs.get(name), default):
        if isinstance(rate, (int, float, np.number, np.ndarray, jax.Array)):
            return float(rate)
    return 0.1


def needs_optimizer(factory: Factory, kwargs: Mapping[str, Any]) -> bool:
    """Returns whether a factory is a wrapper whose optimizer is not given yet."""
    first = next(iter(parameters(factory)), "")
    return is_wrapper(factory) and first not in given_arguments(factory, kwargs)


def require_arguments(
    factory: Factory, kwargs: Mapping[str, Any], options: Iterable[str]
) -> None:
    """Raises on an argument that a factory does not have, or needs and does not get.

    Args:
        factory: The factory.
        kwargs: The keyword arguments of its calls.
        options: The arguments of the function that the user called.

    Raises:
        TypeError: An argument is unknown or missing.
    """
    try:
        known = parameters(factory)
    except (TypeError, ValueError):
        return  # not a function, or one of C without a signature
    kinds = {parameter.kind for parameter in known.values()}
    unknown = [name for name in kwargs if name not in known]
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        close = difflib.get_close_matches(unknown[0], [*known, *options], 1, 0.5)
        hint = f"did you mean {close[0]!r}? Its" if close else "its"
        msg = (
            f"{base_name(factory)} has no argument {unknown[0]!r}; {hint} arguments "
            f"are: {', '.join(known)}."
        )
        raise TypeError(msg)
    supplied = {*kwargs, learning_rate_name(factory)}
    if needs_optimizer(factory, kwargs):
        supplied.add(next(iter(known)))
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    for name, parameter in known.items():
        required = parameter.default is parameter.empty
        if required and parameter.kind not in variadic and name not in supplied:
            msg = (
                f"{base_name(factory)} needs the argument {name!r}, which has no "
                f"default; pass {name}=... too."
            )
            raise TypeError(msg)


def descent(learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    """Returns an SGD that follows all rules, which `optax.sgd(0.1)` does not."""
    schedule: Any = learning_rate
    if not callable(learning_rate):
        schedule = optax.constant_schedule(learning_rate)
    to_arrays = optax.stateless(lambda g, params: jax.tree.map(jnp.asarray, g))
    return optax.chain(to_arrays, optax.sgd(schedule))


def make(factory: Factory, kwargs: Mapping[str, Any]) -> Any:
    """Returns the transformation, without the extra arguments that it rejects.

    A factory with a learning rate gets the default one and a wrapper gets SGD.
    """
    rate = default_learning_rate(factory, kwargs)
    name = learning_rate_name(factory)
    named = dict(kwargs) if name is None else {name: rate, **kwargs}
    wrapped = [descent(rate)] if needs_optimizer(factory, kwargs) else []
    tx = factory(*wrapped, **named)
    names = tuple(inspect.signature(tx.update).parameters)
    return select_extras(tx, accepted_extras(tx, names))


def _written(value: Any) -> str:
    """Returns the repr; the name or type where the repr holds a memory address."""
    text = repr(value)
    if " at 0x" not in text:
        return text
    return getattr(value, "__name__", f"{type(value).__name__}(...)")
