"""The kinds of public functions, and their required arguments.

Tests, tables and benchmarks find the public functions of this library, of optax and of
users with this module, so that a new function needs no entry in any list. Only a
function with a required argument other than a learning rate or an optimizer needs a
line in `_ARGUMENTS`.
"""

import collections.abc
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection
from typing import Any

import jax.numpy as jnp
import optax

__all__ = [
    "Kind",
    "example",
    "functions",
    "kind",
    "part_of",
    "required_arguments",
    "takes_learning_rate",
    "takes_optimizer",
]

# Values with which a function can be called, for required arguments that are neither a
# learning rate nor the optimizer of a wrapper.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "adaptive_grad_clip": {"clipping": 0.1},
    "ademamix_alpha_schedule": {"alpha": 5.0, "warmup_steps": 10},
    "ademamix_b3_schedule": {"b1": 0.9, "b3": 0.9999, "warmup_steps": 10},
    "bloop": {"aux_weight": 0.1},
    "clip_by_global_norm": {"max_norm": 1.0},
    "dynamic_barrier": {"aux_weight": 0.1},
    "epsilon_hat": {"eps": 1e-7, "b2": 0.999},
    "gsam_rho_schedule": {
        "learning_rate": optax.constant_schedule(0.1),
        "rho_min": 0.0,
        "rho_max": 0.1,
        "learning_rate_min": 0.0,
        "learning_rate_max": 0.1,
    },
    "mixed_gradients": {"aux_weight": 0.1},
    "no_bias_correction": {"b1": 0.9, "b2": 0.999},
    "pcgrad": {"aux_weight": 0.1},
    "sam_value_and_grad": {"loss": jnp.sum},
    "width_scaled_learning_rate": {"labels": "hidden", "width_ratio": 4.0},
}
_RATES = ("learning_rate", "lr")
_OPTIMIZERS = ("optimizer", "opt", "tx")


class Kind(enum.Enum):
    """The kinds of public functions.

    Attributes:
      OPTIMIZER: Takes a learning rate first and returns a transformation whose updates
        descend, such as `adam`.
      PRIMITIVE: The part of an optimizer that turns gradients into directions, named
        `scale_by_*`.
      WRAPPER: Takes an optimizer first and returns one, such as `lookahead`.
      GRADIENT_TRANSFORMATION: Returns any other transformation, to be chained with an
        optimizer, such as `clip_by_global_norm`.
      SCHEDULE: Returns a function of the step count.
      OTHER: Any other function, such as one that combines several transformations.
    """

    OPTIMIZER = "optimizer"
    PRIMITIVE = "primitive"
    WRAPPER = "wrapper"
    GRADIENT_TRANSFORMATION = "gradient transformation"
    SCHEDULE = "schedule"
    OTHER = "other"


def kind(function: Callable[..., Any]) -> Kind:
    """Returns the kind of a function, based on its signature.

    The return annotation separates transformations from schedules and the rest; a
    function without one is assumed to return a transformation. A name `scale_by_*` then
    marks a primitive; for other names, the first parameter decides. A learning rate is
    called `learning_rate` or `lr`, possibly after a prefix (`max_learning_rate`). An
    optimizer is called `optimizer`, `opt` or `tx`, possibly after a prefix
    (`base_optimizer`), `inner` or `base`, or it is annotated as an
    `optax.GradientTransformation`.

    Args:
      function: A function of this library, of optax or of a user, a
        `functools.partial` of one, or a class with methods `init` and `update`.

    Returns:
      The kind; `Kind.OTHER` if it has no signature.
    """
    try:
        signature = _signature(function)
    except (TypeError, ValueError):  # not callable, or written in C
        return Kind.OTHER
    returned = signature.return_annotation
    if inspect.isclass(function):
        if not (hasattr(function, "init") and hasattr(function, "update")):
            return Kind.OTHER
    elif _is_schedule(returned):
        return Kind.SCHEDULE
    elif not (_may_be_anything(returned) or _is_transformation(returned)):
        return Kind.OTHER
    if _name(function).startswith("scale_by_"):
        return Kind.PRIMITIVE
    first = next(iter(signature.parameters.values()), None)
    if first is None:
        return Kind.GRADIENT_TRANSFORMATION
    if takes_learning_rate(first):
        return Kind.OPTIMIZER
    if _takes_several(first):
        return Kind.OTHER
    if takes_optimizer(first):
        return Kind.WRAPPER
    return Kind.OTHER if returned is Any else Kind.GRADIENT_TRANSFORMATION


def takes_learning_rate(parameter: inspect.Parameter) -> bool:
    """Returns whether a parameter takes the learning rate, by its name."""
    return _is_called(parameter, _RATES)


def takes_optimizer(parameter: inspect.Parameter) -> bool:
    """Returns whether a parameter takes an optimizer, by its name or annotation."""
    return (
        _is_transformation(parameter.annotation)
        or parameter.name in ("inner", "base")
        or _is_called(parameter, _OPTIMIZERS)
    )


def functions(module: types.ModuleType, *kinds: Kind) -> dict[str, Callable[..., Any]]:
    """Returns the public functions of a package by name, in alphabetical order.

    Args:
      module: The package: `optimizers`, `optax` or another one.
      kinds: The kinds to return; all if none is given.

    Returns:
      The functions whose names do not begin with an underscore, without classes.
    """
    return {
        name: thing
        for name, thing in sorted(vars(module).items())
        if not name.startswith("_")
        and (inspect.isfunction(thing) or isinstance(thing, functools.partial))
        and (not kinds or kind(thing) in kinds)
    }


def part_of(name: str, public: Collection[str]) -> str | None:
    """Returns the public function that another function is a part of, by name.

    `scale_by_adam` is the part of `adam` without the learning rate, and
    `looksam_gradient` the part of `looksam` without the optimizer.

    Args:
      name: Name of the function that may be a part.
      public: Names of all public functions.

    Returns:
      The name of the whole function, or None.
    """
    whole = name.removeprefix("scale_by_").removesuffix("_gradient")
    return whole if whole != name and whole in public else None


def required_arguments(function: Callable[..., Any]) -> dict[str, Any]:
    """Returns example values for the required arguments of a function.

    Args:
      function: A public function of this library.

    Returns:
      A value for each parameter without a default, except a learning rate and the
      optimizer of a wrapper.

    Raises:
      ValueError: `_ARGUMENTS` in this file has no value for a parameter.
    """
    name = _name(function)
    known = _ARGUMENTS.get(name, {})
    needed = [
        p.name
        for p in _required(function)
        if p.name in known or not takes_learning_rate(p)
    ]
    for missing in (key for key in needed if key not in known):
        msg = (
            f"{name}: the catalog has no value for the required argument "
            f"{missing!r}: add a line for {name!r} to _ARGUMENTS in "
            "optimizers/catalog.py."
        )
        raise ValueError(msg)
    return {key: known[key] for key in needed}


def example(
    function: Callable[..., Any], learning_rate: Any = 1e-3, **arguments: Any
) -> Any:
    """Calls a public function with its required arguments only.

    Args:
      function: A public function of this library.
      learning_rate: The learning rate of an optimizer, or that of the SGD inside a
        wrapper; a float or an optax schedule.
      **arguments: Further arguments, which replace those of the catalog.

    Returns:
      The transformation or, for other kinds, what the function returns.

    Raises:
      ValueError: `required_arguments` has no value for a parameter.
    """
    first = next(iter(_signature(function).parameters.values()))
    needed = [first, *_required(function)]
    given = {p.name: learning_rate for p in needed if takes_learning_rate(p)}
    if kind(function) is Kind.WRAPPER:
        given[first.name] = optax.sgd(learning_rate)
    return function(**given | required_arguments(function) | arguments)


def _required(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters without a default, except the optimizer of a wrapper."""
    parameters = list(_signature(function).parameters.values())
    if kind(function) is Kind.WRAPPER:
        parameters = parameters[1:]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p for p in parameters if p.default is p.empty and p.kind not in variadic]


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except (AttributeError, NameError, SyntaxError):  # names imported for types only
        return inspect.signature(function)


def _name(function: Any) -> str:
    """The name of a function, also inside `functools.partial`."""
    while hasattr(function, "func"):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def _may_be_anything(annotation: Any) -> bool:
    """Whether an annotation is missing, is `Any` or could not be evaluated."""
    return annotation in (inspect.Signature.empty, Any) or isinstance(annotation, str)


def _is_transformation(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return all(map(_is_transformation, typing.get_args(annotation)))
    return inspect.isclass(annotation) and issubclass(
        annotation, optax.GradientTransformation
    )


def _is_schedule(annotation: Any) -> bool:
    """Whether it is a function of one argument, the step count."""
    if typing.get_origin(annotation) is not collections.abc.Callable:
        return False
    arguments, _ = typing.get_args(annotation)
    return isinstance(arguments, list) and len(arguments) == 1


def _is_called(parameter: inspect.Parameter, names: Collection[str]) -> bool:
    endings = tuple(f"_{name}" for name in names)
    return parameter.name in names or parameter.name.endswith(endings)


def _takes_several(parameter: inspect.Parameter) -> bool:
    """Whether it is `*transformations`, or a container of some."""
    return parameter.kind is parameter.VAR_POSITIONAL or (
        not _is_transformation(parameter.annotation)
        and any(map(_mentions_one, typing.get_args(parameter.annotation)))
    )


def _mentions_one(annotation: Any) -> bool:
    return _is_transformation(annotation) or (
        not isinstance(annotation, list)
        and any(map(_mentions_one, typing.get_args(annotation)))
    )
