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
from benchmarks.errors import UserError
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
      source_hash: SHA-256, in hex, of the factory's source and its arguments.
    """

    name: str
    make: Make
    source_hash: str


def default_names() -> tuple[str, ...]:
    """The specs of the default roster: ours, their variants, optax's baselines."""
    ours = specs.alias_names()
    variants = tuple(spec for spec in _VARIANTS if spec.partition("(")[0] in ours)
    return ours + variants + _BASELINES


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
    text = f"{sources.source_hash(module)} {target} {sorted(arguments.items())}"
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
    first, leading = next(iter(parameters.items()), ("", None))
    takes_rate = leading is not None and catalog.takes_learning_rate(leading)
    target = name.partition("(")[0].strip()
    if inside is not None and takes_rate:
        msg = (
            f"{name!r}: {target} takes {first!r} first, not an optimizer: write all "
            "its arguments as key=value."
        )
        raise UserError(msg)
    if inside is not None and kind in (Kind.SCHEDULE, Kind.OTHER):
        msg = (
            f"{name!r}: {target} is neither a wrapper around one optimizer nor a "
            "gradient transformation: for any other combination, name a factory of "
            "your own as MODULE:FACTORY."
        )
        raise UserError(msg)
    if inside is None and ":" not in target and not takes_rate:
        msg = (
            f"{name!r} takes {first or 'nothing'!r} first, not the learning rate: "
            "name a complete optimizer, or put one inside the brackets."
        )
        raise UserError(msg)
    filled = _filled(parameters, kind, inside)
    rates = filled if inside is None else filled[1:]
    for rate in rates:
        if rate in arguments:
            msg = (
                f"{name!r}: leave out {rate!r}, which comes from the grid; to choose "
                "the grid, use --learning-rates."
            )
            raise UserError(msg)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in arguments:
        if key not in parameters and not takes_any:
            known = [p for p in parameters if p not in rates]
            hint = (
                specs.suggest(key, known) or f" It takes: {', '.join(known) or 'none'}."
            )
            msg = f"{name!r}: no argument {key!r}.{hint}"
            raise UserError(msg)
    for parameter in parameters.values():
        given = parameter.name in (*filled, *arguments)
        if not given and _is_required(parameter):
            msg = (
                f"{name!r}: {target} needs the argument {parameter.name!r}: add "
                f"{parameter.name}=VALUE or, if it is not a plain value, name a "
                "factory of your own as MODULE:FACTORY."
            )
            raise UserError(msg)
    return filled


def _filled(
    parameters: Mapping[str, inspect.Parameter], kind: Kind, inside: Optimizer | None
) -> tuple[str, ...]:
    """The parameters that get the learning rate or the optimizer inside."""
    first = next(iter(parameters), "")
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
            f"{specs.in_words(error)}."
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
    bowl = gradient_count.bowl(frozenset(gradient_count.OFFERED))

    def one_update(learning_rate: jax.Array) -> Any:
        tx = optax.with_extra_args_support(build(learning_rate))
        state = tx.init(params)
        given = extra_arguments(bowl, params, jnp.ones(()))
        updates, after = tx.update(params, state, params, **given)
        stable = jax.tree.structure(state) == jax.tree.structure(after)
        same_state.append(stable and _shapes(state) == _shapes(after))
        return updates

    same_state: list[bool] = []
    rate = jax.ShapeDtypeStruct((), jnp.float32)
    try:
        updates = jax.eval_shape(one_update, rate)
    except jax.errors.ConcretizationTypeError:
        msg = (
            f"{name!r} needs {rate_name or 'the rate'} as a Python number, but the "
            "suite compiles one program for all learning rates: use jax.numpy instead "
            "of float(), if or math on it."
        )
        raise UserError(msg) from None
    except Exception as error:
        msg = f"{name!r}: one update of a tiny tree fails with {specs.in_words(error)}."
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
