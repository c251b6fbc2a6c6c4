"""Aliases, primitives and wrappers."""

import inspect
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers.testing import _compare, _inputs
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import NotApplicable, applies_if, rule
from optimizers.testing._conformance.run import run, run_jitted

_PLAIN = (int, float, str, type(None))
_CHAIN_ARGUMENTS = {"learning_rate", "weight_decay", "weight_decay_mask", "mask"}


def has_right_sign(case: Case) -> None:
    """Updates of aliases and wrappers point downhill, those of primitives uphill.

    optax.apply_updates adds the updates, so an optimizer with a wrong sign increases
    the loss.
    """
    # The gradients of ½·|x|², as from grad_fn and value_fn, so that the direction is
    # right also for methods that compute another gradient.
    grads = jax.tree.map(jnp.array, case.params)
    # Some methods have a zero first update; over three steps all move.
    updates, _ = run(case.tx, case.params, [grads] * 3)
    inner = 0.0
    for step in updates:
        pairs = zip(jax.tree.leaves(step), jax.tree.leaves(grads), strict=True)
        for u, g in pairs:
            inner += float(np.sum(np.asarray(u, np.float64) * np.asarray(g)))
    where = "downhill" if case.descends else "uphill"
    right = inner < 0 if case.descends else inner > 0
    hint = ""
    if not case.parameters:
        hint = "; a function that returns a whole optimizer needs a learning_rate"
    assert right, (
        f"⟨update, gradient⟩ is {inner:.3g}, so the updates do not point {where}{hint}"
    )


def alias_is_chain(case: Case) -> None:
    """Alias x is chain(scale_by_x, weight decay, learning rate) with equal defaults.

    Users rebuild aliases from their parts, and a default that is written twice tends
    to diverge.
    """
    is_alias = case.takes_learning_rate and case.descends and not case.is_wrapper
    applies_if(is_alias, "is not an alias")
    primitive = _find_primitive(case)
    applies_if(primitive is not None, f"there is no scale_by_{case.base_name}")
    own = dict(inspect.signature(primitive).parameters)
    alias = inspect.signature(case.function).parameters
    for name, parameter in own.items():
        defaults = [p.default for p in (parameter, alias.get(name, parameter))]
        # Functions have no equality; the numbers below compare what they do.
        if not all(isinstance(default, _PLAIN) for default in defaults):
            continue
        assert defaults[0] == defaults[1], (
            f"{name} defaults to {defaults[1]!r} in {case.base_name}, but to "
            f"{defaults[0]!r} in {Case(primitive).base_name}"
        )
    applies_if(
        "learning_rate" not in own,
        f"{Case(primitive).base_name} takes the learning rate itself",
    )
    # With a schedule the state has a step count.
    for rate in (case.learning_rate, optax.constant_schedule(case.learning_rate)):
        chained = _chain(case, primitive, own, rate)
        if _kept(chained, case) == _kept(case.tx, case):
            break
    else:
        why = f"its state is not that of a chain of {Case(primitive).base_name}"
        raise NotApplicable(why)
    updates, _ = run(chained, case.params, case.stream)
    _compare.assert_close(
        updates, case.expected[0], "the chain compared with the alias", 1e-6
    )
    _assert_passes_arguments_on(case, primitive, own, rate)


def _assert_passes_arguments_on(
    case: Case, primitive: Any, own: dict[str, inspect.Parameter], rate: Any
) -> None:
    """Asserts that alias and chain stay equal when arguments of both change."""

    def difference(changes: dict[str, Any]) -> str | None:
        """Returns the difference; None if the alias cannot use these values."""
        try:
            expected, _ = run(case.make(**changes), case.params, case.stream[:2])
            _compare.assert_finite(expected, "")
        except Exception:
            return None
        chained = _chain(case, primitive, own, rate, **changes)
        updates, _ = run(chained, case.params, case.stream[:2])
        given = ", ".join(f"{name}={value}" for name, value in changes.items())
        try:
            what = f"the chain compared with the alias, with {given}"
            _compare.assert_close(updates, expected, what, 1e-6)
        except AssertionError as error:
            return str(error)
        return ""

    others = {
        name: _other(case.parameters[name].default)
        for name in own
        if name in case.parameters and name not in case.kwargs
    }
    others = {name: value for name, value in others.items() if value is not None}
    of_all = difference(others)
    if of_all == "":
        return
    # Find the argument, or test each alone if the values do not work together.
    for name, value in others.items():
        of_one = difference({name: value})
        assert not of_one, of_one
    assert not of_all, of_all


def _other(default: Any) -> float | bool | None:
    """Returns another value, large enough to change the updates."""
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    if not isinstance(default, float) or not np.isfinite(default):
        return None
    return 0.1 if default < 1e-2 else 0.5 * default


def _chain(
    case: Case,
    primitive: Any,
    own: dict[str, inspect.Parameter],
    rate: Any,
    **changes: Any,
) -> Any:
    given = {**case.given, **changes}
    for_chain = _CHAIN_ARGUMENTS - own.keys()
    kwargs = {k: v for k, v in given.items() if k not in for_chain}
    missing = kwargs.keys() - own.keys()
    assert not missing, f"{Case(primitive).base_name} has no argument {sorted(missing)}"
    for name, parameter in own.items():
        if parameter.default is parameter.empty and name in case.parameters:
            kwargs.setdefault(name, case.parameters[name].default)
    links = [primitive(**kwargs)]
    decay = given.get("weight_decay", _default(case, "weight_decay"))
    if decay is not None and "weight_decay" not in own:
        mask = given.get("weight_decay_mask", given.get("mask"))
        links.append(optax.add_decayed_weights(decay, mask))
    return case.make_around(optax.chain(*links, optax.scale_by_learning_rate(rate)))


def _kept(tx: Any, case: Case) -> list[str]:
    """Returns the leaves of the state by field and type, without their positions."""
    leaves = _compare.leaves(jax.eval_shape(tx.init, case.params))
    return sorted(f"{path.partition('.')[2]} {leaf}" for path, leaf in leaves)


def _default(case: Case, name: str) -> Any:
    parameter = case.parameters.get(name)
    return None if parameter is None else parameter.default


def _find_primitive(case: Case) -> Any:
    """Returns scale_by_x from the alias's module or its package, if there is one."""
    name = case.base_name
    module = getattr(case.function, "__module__", None) or ""
    for place in (module, module.partition(".")[0]):
        for stem in (name, name.removesuffix("w")):
            found = getattr(sys.modules.get(place), f"scale_by_{stem}", None)
            if not callable(found):
                continue
            # One imported from another package has its own defaults.
            origin = getattr(Case(found).function, "__module__", None) or ""
            if origin.partition(".")[0] == module.partition(".")[0]:
                return found
    return None


def forwards_extra_args(case: Case) -> None:
    """A wrapper forwards extra arguments to an optimizer that accepts them.

    The optimizer inside may need the loss, or may accept no extra arguments at all.
    """
    applies_if(case.is_wrapper, "is not a wrapper")
    seen: set[str] = set()

    def recording_update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, Any]:
        seen.update(extra_args)
        return jax.tree.map(lambda g: -0.1 * g, updates), state

    init = optax.identity().init
    recorder = optax.GradientTransformationExtraArgs(init, recording_update)
    run(case.wrap(recorder), case.params, case.stream[:1])
    lost = _inputs.extra_args(case.stream[0], case.params).keys() - seen
    assert not lost, (
        f"the inner optimizer received only {sorted(seen)}, without {sorted(lost)}"
    )

    def plain_update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return recording_update(updates, state, params)

    plain = optax.GradientTransformation(init, plain_update)
    run(case.wrap(plain), case.params, case.stream[:1])


class _AnyState(NamedTuple):
    count: jax.Array
    is_first: jax.Array
    key: jax.Array


def accepts_any_inner_state(case: Case) -> None:
    """A wrapper accepts counters, flags and PRNG keys in the inner state.

    A wrapper that interpolates states by arithmetic breaks them.
    """
    applies_if(case.is_wrapper, "is not a wrapper")

    def init(params: Any) -> Any:
        del params
        key = jax.random.key(0)
        return _AnyState(jnp.zeros([], jnp.int32), jnp.array(True), key)

    def inner_update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, Any]:
        del params, extra_args
        new = _AnyState(state.count + 1, jnp.array(False), state.key)
        return jax.tree.map(lambda g: -0.1 * g, updates), new

    inner = optax.GradientTransformationExtraArgs(init, inner_update)
    tx = case.make_around(case.wrap(inner))
    # Six steps, for wrappers that act every few steps.
    stream = [*case.stream, *case.stream]
    _, state = run_jitted(tx, case.params, stream)
    start = jax.eval_shape(tx.init, case.params)
    _compare.assert_same_types(
        state, start, "state with counters, flags and keys inside"
    )


RULES = (
    rule(
        has_right_sign,
        "promise",
        (5,),
        "Flip the sign once, in the last transformation of the alias "
        "(optax.scale_by_learning_rate), and not in the primitive.",
    ),
    rule(
        alias_is_chain,
        "polish",
        (8, 40),
        "Build the alias with optax.chain from the primitive and optax's "
        "transformations, and give both the same defaults.",
    ),
    rule(
        forwards_extra_args,
        "promise",
        (3,),
        "Start with optimizer = optax.with_extra_args_support(optimizer) and pass "
        "**extra_args on.",
    ),
    rule(
        accepts_any_inner_state,
        "promise",
        (3, 16),
        "Select states with jnp.where or jax.lax.cond, not by multiplication.",
    ),
)
