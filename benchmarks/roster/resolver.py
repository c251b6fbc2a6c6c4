"""The optimizers of a run: specs made into factories that have been tried out."""

import dataclasses
import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks import sources
from benchmarks.errors import UserError, in_words, suggest
from benchmarks.problem import extra_arguments
from benchmarks.roster import gradient_count, specs
from benchmarks.roster.specs import LearningRate, Make
from optimizers import catalog
from optimizers.catalog import Kind

_VARIANTS = ('amsgrad(variant="torch")', 'amsgrad(variant="paper")')
_BASELINES = (
    "optax.sgd(momentum=0.9)",
    "optax.adam",
    "optax.lion",
    "optax.contrib.muon",
)


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimizer to benchmark.

    Attributes:
      name: The spec as the user wrote it.
      make: Learning rate (number, tracer or schedule) to transformation.
      source_hash: SHA-256, in hex, of the source that the factory reaches, and of its
        arguments.
    """

    name: str
    make: Make
    source_hash: str


def default_names() -> tuple[str, ...]:
    """The specs of the default roster: ours, their variants, optax's baselines."""
    return specs.alias_names() + _VARIANTS + _BASELINES


def resolve(spec: str) -> Optimizer:
    """The optimizer that a spec names, tried out on a tiny tree.

    Raises:
      UserError: The spec does not parse, names nothing, or names something that is
        not a factory of gradient transformations with the learning rate first.
    """
    name = spec.strip()
    target, base, arguments = specs.parse(name)
    inside = None if base is None else resolve(base)
    factory, module = specs.find(target, around=inside is not None)
    kind = catalog.kind(factory)
    filled = _check_arguments(name, factory, kind, arguments, inside)

    def build(learning_rate: LearningRate) -> Any:
        if inside is None:
            return factory(learning_rate, **arguments)
        if kind is not Kind.WRAPPER:
            return optax.chain(factory(**arguments), inside.make(learning_rate))
        rate = {"learning_rate": learning_rate} if "learning_rate" in filled else {}
        return factory(inside.make(learning_rate), **rate, **arguments)

    def make(learning_rate: LearningRate) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(build(learning_rate))

    _try_out(name, build, next(iter(filled), ""))
    # `MODULE:FUNCTION`, or the name of an alias, or `optax.NAME`.
    first = target.rpartition(":")[2].split(".")[0]
    source = sources.reached_hash(module, first)
    text = f"{source} {target} {sorted(arguments.items())}"
    if inside is not None:
        text += f" {inside.source_hash}"
    return Optimizer(name, make, hashlib.sha256(text.encode()).hexdigest())


def _check_arguments(
    name: str,
    factory: specs.Factory,
    kind: Kind,
    arguments: dict[str, Any],
    inside: Optimizer | None,
) -> tuple[str, ...]:
    """The parameters that the suite fills in; refuses arguments that do not fit."""
    if factory is optax.lookahead:
        msg = (
            f"{name!r}: optax.lookahead trains params of its own class, "
            "optax.LookaheadParams, which the suite does not support: use lookahead, "
            "which takes any params."
        )
        raise UserError(msg)
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some callables written in C have none
        return ("learning_rate",)
    if inside is None:
        _check_alone(name, parameters)
    else:
        _check_around(name, kind, parameters)
    filled = _filled(parameters, kind, inside)
    _check_keys(name, parameters, arguments, filled if inside is None else filled[1:])
    _check_complete(name, parameters, (*filled, *arguments))
    return filled


def _check_alone(name: str, parameters: Mapping[str, inspect.Parameter]) -> None:
    """Refuses what is no optimizer; a user's factory names its argument freely."""
    first, takes_rate = _first(parameters)
    if not takes_rate and ":" not in _target(name):
        msg = (
            f"{name!r} takes {first or 'nothing'!r} first, not the learning rate: "
            "name a complete optimizer, or put one inside the brackets."
        )
        raise UserError(msg)


def _check_around(
    name: str, kind: Kind, parameters: Mapping[str, inspect.Parameter]
) -> None:
    """Refuses what cannot have an optimizer inside."""
    first, takes_rate = _first(parameters)
    if takes_rate:
        msg = (
            f"{name!r}: {_target(name)} takes {first!r} first, not an optimizer: write "
            "all its arguments as key=value."
        )
        raise UserError(msg)
    if kind in (Kind.SCHEDULE, Kind.OTHER):
        msg = (
            f"{name!r}: {_target(name)} is neither a wrapper around one optimizer nor "
            "a gradient transformation: for any other combination, name a factory of "
            "your own as MODULE:FUNCTION."
        )
        raise UserError(msg)


def _check_keys(
    name: str,
    parameters: Mapping[str, inspect.Parameter],
    arguments: dict[str, Any],
    rates: tuple[str, ...],
) -> None:
    """Refuses arguments that do not exist, and learning rates."""
    for rate in rates:
        if rate in arguments:
            msg = (
                f"{name!r}: leave out {rate!r}, which comes from the grid; to choose "
                "the grid, use --learning-rates."
            )
            raise UserError(msg)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for key in arguments:
        if key not in parameters:
            known = [p for p in parameters if p not in rates]
            hint = suggest(key, known) or f" It takes: {', '.join(known) or 'none'}."
            msg = f"{name!r}: no argument {key!r}.{hint}"
            raise UserError(msg)


def _check_complete(
    name: str, parameters: Mapping[str, inspect.Parameter], given: tuple[str, ...]
) -> None:
    """Refuses a spec that lacks a required argument."""
    for parameter in parameters.values():
        if parameter.name not in given and _is_required(parameter):
            msg = (
                f"{name!r}: {_target(name)} needs the argument {parameter.name!r}: add "
                f"{parameter.name}=VALUE or, if it is not a plain value, name a "
                "factory of your own as MODULE:FUNCTION."
            )
            raise UserError(msg)


def _target(name: str) -> str:
    return name.partition("(")[0].strip()


def _first(parameters: Mapping[str, inspect.Parameter]) -> tuple[str, bool]:
    """Name of the first parameter, and whether it is the learning rate."""
    for first, parameter in parameters.items():
        return first, catalog.takes_learning_rate(parameter)
    return "", False


def _filled(
    parameters: Mapping[str, inspect.Parameter], kind: Kind, inside: Optimizer | None
) -> tuple[str, ...]:
    """The parameters that get the learning rate or the optimizer inside."""
    first, _ = _first(parameters)
    if inside is None:
        return (first,)
    if kind is not Kind.WRAPPER:
        return ()
    rate = parameters.get("learning_rate")
    # Some wrappers need the learning rate of the optimizer inside as well.
    return (first,) if rate is None or not _is_required(rate) else (first, rate.name)


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in variadic


def _try_out(name: str, build: specs.Factory, rate_name: str) -> None:
    """Builds with a number and with a traced rate, and updates a tiny tree once."""
    try:
        transformation = build(0.1)
    except Exception as error:  # a factory may fail in any way
        msg = (
            f"{name!r}: building it with the learning rate 0.1 fails with "
            f"{in_words(error)}."
        )
        raise UserError(msg) from error
    if not isinstance(transformation, optax.GradientTransformation):
        kind = type(transformation).__name__
        msg = (
            f"{name!r} returns an object of type {kind}, not an "
            "optax.GradientTransformation: name a function that takes a learning rate "
            "and returns one."
        )
        raise UserError(msg)

    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}

    def one_update(learning_rate: Any) -> Any:
        tx = optax.with_extra_args_support(build(learning_rate))
        state = tx.init(params)
        given = extra_arguments(gradient_count.BOWL, params, jnp.ones(()))
        updates, after = tx.update(params, state, params, **given)
        stable = jax.tree.structure(state) == jax.tree.structure(after)
        same_state.append(stable and _shapes(state) == _shapes(after))
        return updates

    same_state: list[bool] = []
    rate = jax.ShapeDtypeStruct((), jnp.float32)
    try:
        updates = jax.eval_shape(one_update, rate)
    except jax.errors.ConcretizationTypeError:
        try:
            jax.eval_shape(lambda: one_update(0.1))
        except jax.errors.ConcretizationTypeError:  # whatever the learning rate is
            what = "a gradient, the params or its state"
            why = "updates are compiled"
        else:
            what = rate_name or "the rate"
            why = "the suite compiles one program for all learning rates"
        msg = (
            f"{name!r} needs {what} as a Python number, but {why}: use jax.numpy "
            "instead of float(), if or math on it."
        )
        raise UserError(msg) from None
    except Exception as error:
        msg = f"{name!r}: one update of a tiny tree fails with {in_words(error)}."
        raise UserError(msg) from error
    if _shapes(updates) != _shapes(params):
        msg = (
            f"{name!r}: its updates have the shapes {_shapes(updates)} for gradients "
            f"of {_shapes(params)}; they must be the same."
        )
        raise UserError(msg)
    if not all(same_state):
        msg = (
            f"{name!r}: an update changes the structure, shapes or dtypes of its "
            "state; keep them as init made them."
        )
        raise UserError(msg)


def _shapes(tree: Any) -> list[str]:
    return [
        f"{getattr(x, 'dtype', type(x).__name__)}{list(getattr(x, 'shape', ()))}"
        for x in jax.tree.leaves(tree)
    ]
