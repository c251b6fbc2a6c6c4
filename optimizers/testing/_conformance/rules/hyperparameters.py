"""Hyperparameters: schedules, traced values, injected values, bad values."""

import inspect
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers.testing import _compare, _inputs
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import applies_if, rule
from optimizers.testing._conformance.run import Run, run
from optimizers.testing._extras import abstract_steps, update
from optimizers.testing._inputs import Tree
from optimizers.testing._jit import quick_jit

_NAN = math.nan
# Of each type that may be given.
_NO_AVERAGE = (1.5, 2, np.float32(1.5), -0.1, _NAN)
_NEGATIVE = (-0.1, -1, np.float32(-1.0), _NAN)
_BAD_VALUES: dict[str, tuple[Any, ...]] = {
    "learning_rate": (_NAN, math.inf),
    "b1": _NO_AVERAGE,
    "b2": _NO_AVERAGE,
    "b3": _NO_AVERAGE,
    "momentum": _NEGATIVE,
    "eps": _NEGATIVE,
    "eps_root": _NEGATIVE,
    "weight_decay": _NEGATIVE,
    "d0": (0.0, 0, -1.0, _NAN),
    "growth_rate": (0.5, 0, _NAN),
    "rho": _NEGATIVE,
    "gamma": _NEGATIVE,
    "warmup_steps": (-1,),
    "sync_period": (0,),
    "variant": ("no such variant",),
    "second_moment": ("no such second moment",),
}


def _require_rate(case: Case) -> None:
    applies_if(case.takes_rate, "no learning rate")


def rate_of_any_type_keeps_dtypes(case: Case) -> None:
    """A rate of any scalar type, or schedule of it, promotes nothing.

    A rate read from a config or computed by NumPy must not make bfloat16 params
    float32.
    """
    _require_rate(case)
    number = case.rate
    rates = {
        "np.float32": np.float32(number),
        "np.float64": np.float64(number),
        "0-d np.ndarray": np.asarray(number, np.float64),
        "jnp.float32": jnp.asarray(number, jnp.float32),
        "schedule of float": lambda count: number,
        "schedule of np.float64": lambda count: np.float64(number),
        "schedule of jnp.float32": lambda count: jnp.asarray(number, jnp.float32),
    }
    shapes = _inputs.shapes_for("bfloat16")
    narrow = (
        _inputs.make_params("bfloat16", shapes),
        _inputs.make_grads(0, "bfloat16", shapes),
    )
    for kind, rate in rates.items():
        if callable(rate) and not case.takes_schedules:
            continue
        tx = case.make(rate)
        state, last, updates = abstract_steps(tx, *narrow)
        _compare.assert_same_dtypes(
            updates, narrow[1], f"bfloat16 updates, {kind} rate"
        )
        _compare.assert_same_types(last, state, f"bfloat16 state, {kind} rate")
        eager, _ = update(tx, narrow[1], tx.init(narrow[0]), narrow[0])
        _compare.assert_same_dtypes(
            eager, narrow[1], f"updates without jit, {kind} rate"
        )
        updates, _ = run(tx, case.params, case.stream[:2])
        _compare.assert_close(updates, case.expected[0][:2], f"{kind} rate", rtol=1e-6)
    try:
        expected, _ = run(case.make(1.0), case.params, case.stream[:2])
    except ValueError:
        return  # has other bounds
    updates, _ = run(case.make(1), case.params, case.stream[:2])
    _compare.assert_close(updates, expected, "an int as the rate", rtol=1e-6)


def schedules_count_from_zero(case: Case) -> None:
    """The k-th update, counted from 0, asks schedule(k).

    A schedule that is asked one step late ends one step late, and warm-up starts
    with a jump.
    """
    _require_rate(case)
    applies_if(
        case.takes_schedules or case.rate_name == "learning_rate",
        f"{case.rate_name} is no learning rate and promises no schedule",
    )
    assert case.takes_schedules, (
        f"{case.base_name} takes no schedule of its rate; optax annotates rates as "
        "ScalarOrSchedule"
    )
    asked: list[int] = []

    def schedule(count: Any) -> float:
        asked.append(int(count))
        return case.rate

    tx = case.make_eager(schedule)
    state = tx.init(case.params)
    for k, grads in enumerate(case.stream):
        asked.clear()
        _, state = update(tx, grads, state, case.params)
        assert set(asked) == {k}, f"update {k} asked the schedule for {asked}"


def rate_may_be_traced(case: Case) -> None:
    """The factory takes a traced rate, so that rates can be vmapped.

    Sweeps vmap over rates, and programs take the rate as data.
    """
    _require_rate(case)
    rates = jnp.asarray([case.rate, 0.5 * case.rate], jnp.float32)

    def sweep(rate: jax.Array) -> list[Tree]:
        return run(case.make(rate), case.params, case.stream[:2])[0]

    lanes = quick_jit(jax.vmap(sweep))(rates)
    first = jax.tree.map(lambda leaf: leaf[0], lanes)
    _compare.assert_agree(first, case.expected[0][:2], "the first lane of a vmap")
    second = jax.tree.map(lambda leaf: leaf[1], lanes)
    expected, _ = run(case.make(0.5 * case.rate), case.params, case.stream[:2])
    _compare.assert_agree(second, expected, "the second lane of a vmap")


def hyperparameters_may_be_injected(case: Case) -> None:
    """optax.inject_hyperparams(factory) gives the plain updates.

    This is optax's way to log and change hyperparameters while it trains.
    """
    tx = _injected(case)
    updates, _ = run(tx, case.params, case.stream)
    _compare.assert_agree(updates, case.expected[0], "with injection")
    params, grads = case.params, case.stream[0]
    state, last, _ = abstract_steps(tx, params, grads)
    _compare.assert_same_types(last, state, "state with injection")


def injected_bfloat16_is_finite(case: Case) -> None:
    """Injected hyperparameters stay finite with bfloat16 params, and widen no update.

    Injection gives hyperparameters the dtype of the params, and b2 = 0.999 is 1 in
    bfloat16; with hyperparam_dtype=float32 they are wider than the updates.
    """
    shapes = _inputs.shapes_for("bfloat16")
    params = _inputs.make_params("bfloat16", shapes)
    stream = _inputs.make_stream(3, "bfloat16", shapes)
    updates, state = run(_injected(case), params, stream)
    # Not the hyperparameters beside it, which may be infinite to mean "no limit".
    case.assert_finite(Run(updates, state.inner_state), "bfloat16 with injection")
    wide = _injected(case, hyperparam_dtype=jnp.float32)
    state, last, traced = abstract_steps(wide, params, stream[0])
    _compare.assert_same_dtypes(traced, params, "updates, float32 hyperparameters")
    _compare.assert_same_types(last, state, "state, float32 hyperparameters")
    updates, _ = run(wide, params, stream)
    expected, _ = run(case.tx, params, stream)
    _compare.assert_close(updates, expected, "float32 hyperparameters", rtol=0.02)


def _injected(case: Case, **options: Any) -> Any:
    applies_if(
        not case.is_wrapper, "a wrapper: inject the hyperparameters of what it wraps"
    )
    kwargs = dict(case.kwargs)
    if case.rate_name is not None:
        kwargs[case.rate_name] = case.rate
    # Functions that are no schedules: to optax every function is one.
    values = {name: p.default for name, p in case.parameters.items()} | kwargs
    static = tuple(name for name, value in values.items() if callable(value))

    def build(**given: Any) -> Any:
        return case.make_around(case.with_own_extras(case.factory(**given)))

    build.__signature__ = inspect.signature(case.factory)
    make = optax.inject_hyperparams(build, static_args=static, **options)
    return make(**kwargs)


def bad_values_are_refused(case: Case) -> None:
    """Bad values raise a ValueError with the function, argument and value.

    b1 = 1.5 diverges thousands of steps later, far from the line that is wrong.
    """
    checked = [name for name in _BAD_VALUES if name in case.parameters]
    applies_if(bool(checked), "no hyperparameter with a known range")
    silent = []
    for name in checked:
        values = _BAD_VALUES[name]
        passed = [value for value in values if not _is_refused(case, name, value)]
        # One is enough where nothing is checked.
        shown = passed[:1] if len(passed) == len(values) else passed
        silent += [f"{name}={value!r}" for value in shown]
    assert not silent, f"{', '.join(silent)} passed in silence, expected ValueError"


def _is_refused(case: Case, name: str, value: Any) -> bool:
    given = f"{name}={value!r}"
    try:
        case.build(**{name: value})
    except ValueError as error:
        text = str(error)
        # A lambda has no name to say.
        named = case.base_name in text or not case.base_name.isidentifier()
        assert named, f"{given}: no {case.base_name!r} in: {text}"
        assert re.search(rf"\b{name}\b", text), f"{given}: no {name!r} in: {text}"
        assert str(value) in text, f"{given}: the value is missing in: {text}"
    except Exception as error:
        msg = f"{given} raised {type(error).__name__}, expected ValueError: {error}"
        raise AssertionError(msg) from error
    else:
        return False
    return True


RULES = (
    rule(
        rate_of_any_type_keeps_dtypes,
        (18, 28),
        "Cast the rate to the leaf's dtype, or the update at the end.",
    ),
    rule(
        schedules_count_from_zero,
        (38,),
        "Take a schedule for the rate, and ask it before the counter advances.",
    ),
    rule(
        rate_may_be_traced,
        (39,),
        "No float(learning_rate), no `if learning_rate`, no checks of traced values.",
    ),
    rule(
        hyperparameters_may_be_injected,
        (36,),
        "No Python branch on a hyperparameter; validate only concrete numbers; let no "
        "integer fix a shape.",
    ),
    rule(
        injected_bfloat16_is_finite,
        (28, 37),
        "Guard 1 - b2 ** count against 0; cast hyperparameters to the compute dtype.",
    ),
    rule(
        bad_values_are_refused,
        (36,),
        "Check concrete values in the factory: "
        "`adam: b1 must be in [0, 1), got 1.5` names all that is needed.",
    ),
)
