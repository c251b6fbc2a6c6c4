"""Hyperparameters: schedules, traced values, injected values and bad values."""

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
# Values of several types.
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
    applies_if(case.takes_learning_rate, "has no learning rate")


def learning_rate_of_any_type_keeps_dtypes(case: Case) -> None:
    """A learning rate of any scalar type, or its schedule, promotes no update.

    A learning rate that NumPy computed must not promote bfloat16 params to float32.
    """
    _require_rate(case)
    number = case.learning_rate
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
            updates, narrow[1], f"bfloat16 updates, learning rate of type {kind}"
        )
        _compare.assert_same_types(
            last, state, f"bfloat16 state, learning rate of type {kind}"
        )
        eager, _ = update(tx, narrow[1], tx.init(narrow[0]), narrow[0])
        _compare.assert_same_dtypes(
            eager, narrow[1], f"updates without jit, learning rate of type {kind}"
        )
        updates, _ = run(tx, case.params, case.stream[:2])
        _compare.assert_close(
            updates, case.expected[0][:2], f"learning rate of type {kind}", rtol=1e-6
        )
    try:
        expected, _ = run(case.make(1.0), case.params, case.stream[:2])
    except ValueError:
        return  # learning_rate=1 is out of its range
    updates, _ = run(case.make(1), case.params, case.stream[:2])
    _compare.assert_close(updates, expected, "learning rate of type int", rtol=1e-6)


def schedules_count_from_zero(case: Case) -> None:
    """A schedule is called with the step count, starting at 0.

    If it starts at 1, a warm-up skips its first value and a decay ends too early.
    """
    _require_rate(case)
    applies_if(
        case.takes_schedules or case.learning_rate_name == "learning_rate",
        f"{case.learning_rate_name} need not be a schedule",
    )
    assert case.takes_schedules, (
        f"{case.base_name} does not accept a schedule as {case.learning_rate_name}; "
        "in optax a learning rate is a ScalarOrSchedule"
    )
    asked: list[int] = []

    def schedule(count: Any) -> float:
        asked.append(int(count))
        return case.learning_rate

    tx = case.make_eager(schedule)
    state = tx.init(case.params)
    for k, grads in enumerate(case.stream):
        asked.clear()
        _, state = update(tx, grads, state, case.params)
        assert set(asked) == {k}, f"update {k} called the schedule with {asked}"


def learning_rate_may_be_traced(case: Case) -> None:
    """The factory accepts a traced learning rate.

    Sweeps vmap over learning rates, and programs take the learning rate as input.
    """
    _require_rate(case)
    rates = jnp.asarray([case.learning_rate, 0.5 * case.learning_rate], jnp.float32)

    def sweep(rate: jax.Array) -> list[Tree]:
        return run(case.make(rate), case.params, case.stream[:2])[0]

    both = quick_jit(jax.vmap(sweep))(rates)
    first = jax.tree.map(lambda leaf: leaf[0], both)
    _compare.assert_agree(
        first, case.expected[0][:2], "with the first of two learning rates under vmap"
    )
    second = jax.tree.map(lambda leaf: leaf[1], both)
    expected, _ = run(case.make(0.5 * case.learning_rate), case.params, case.stream[:2])
    _compare.assert_agree(
        second, expected, "with the second of two learning rates under vmap"
    )


def hyperparameters_may_be_injected(case: Case) -> None:
    """optax.inject_hyperparams(factory) does not change the updates.

    This is optax's way to log and change hyperparameters during training.
    """
    tx = _injected(case)
    updates, _ = run(tx, case.params, case.stream)
    _compare.assert_agree(updates, case.expected[0], "with injection")
    params, grads = case.params, case.stream[0]
    state, last, _ = abstract_steps(tx, params, grads)
    _compare.assert_same_types(last, state, "state with injection")


def injected_bfloat16_is_accurate_or_refused(case: Case) -> None:
    """With bfloat16 params, injected hyperparameters change no update, or are refused.

    Injection casts hyperparameters to the dtype of the params, and b2 = 0.999 rounds
    to 1 in bfloat16; with hyperparam_dtype=float32 they can promote the updates.
    """
    shapes = _inputs.shapes_for("bfloat16")
    params = _inputs.make_params("bfloat16", shapes)
    stream = _inputs.make_stream(3, "bfloat16", shapes)
    wide = _injected(case, hyperparam_dtype=jnp.float32)
    expected, _ = run(wide, params, stream)
    try:
        updates, state = run(_injected(case), params, stream)
    except ValueError as error:
        text = str(error)
        assert "hyperparam_dtype" in text, (
            f"bfloat16 hyperparameters: the message does not name hyperparam_dtype: "
            f"{text}"
        )
    else:
        # Without the hyperparameters, where an infinity may mean "no limit".
        case.assert_finite(Run(updates, state.inner_state), "bfloat16 with injection")
        _compare.assert_close(updates, expected, "bfloat16 hyperparameters", rtol=0.02)
    state, last, traced = abstract_steps(wide, params, stream[0])
    _compare.assert_same_dtypes(traced, params, "updates, float32 hyperparameters")
    _compare.assert_same_types(last, state, "state, float32 hyperparameters")
    plain, _ = run(case.tx, params, stream)
    _compare.assert_close(expected, plain, "float32 hyperparameters", rtol=0.02)


def _injected(case: Case, **options: Any) -> Any:
    applies_if(
        not case.is_wrapper,
        "is a wrapper; hyperparameters are injected into the optimizer inside",
    )
    kwargs = dict(case.kwargs)
    if case.learning_rate_name is not None:
        kwargs[case.learning_rate_name] = case.learning_rate
    # optax takes every function for a schedule.
    values = {name: p.default for name, p in case.parameters.items()} | kwargs
    static = tuple(name for name, value in values.items() if callable(value))

    def build(**given: Any) -> Any:
        return case.make_around(case.with_own_extras(case.factory(**given)))

    build.__signature__ = inspect.signature(case.factory)
    make = optax.inject_hyperparams(build, static_args=static, **options)
    return make(**kwargs)


def bad_values_are_refused(case: Case) -> None:
    """Bad values raise a ValueError that names the function, argument and value.

    Training with b1 = 1.5 may diverge only after thousands of steps, which hides the
    cause.
    """
    checked = [name for name in _BAD_VALUES if name in case.parameters]
    applies_if(bool(checked), "has no hyperparameter with a known range")
    silent = []
    for name in checked:
        values = _BAD_VALUES[name]
        passed = [value for value in values if not _is_refused(case, name, value)]
        # One value is enough if the argument is not checked at all.
        shown = passed[:1] if len(passed) == len(values) else passed
        silent += [f"{name}={value!r}" for value in shown]
    assert not silent, f"{', '.join(silent)} raised no error, expected ValueError"


def _is_refused(case: Case, name: str, value: Any) -> bool:
    given = f"{name}={value!r}"
    try:
        case.build(**{name: value})
    except ValueError as error:
        text = str(error)
        # A lambda has no name.
        named = case.base_name in text or not case.base_name.isidentifier()
        assert named, f"{given}: the message does not name {case.base_name!r}: {text}"
        assert re.search(rf"\b{name}\b", text), (
            f"{given}: the message does not name {name!r}: {text}"
        )
        assert str(value) in text, (
            f"{given}: the message does not show the value: {text}"
        )
    except Exception as error:
        msg = f"{given} raised {type(error).__name__}, expected ValueError: {error}"
        raise AssertionError(msg) from error
    else:
        return False
    return True


RULES = (
    rule(
        learning_rate_of_any_type_keeps_dtypes,
        "polish",
        (18, 28),
        "Cast the learning rate to the leaf's dtype, or the update at the end.",
    ),
    rule(
        schedules_count_from_zero,
        "promise",
        (38,),
        "Accept a schedule as the learning rate, and call it before incrementing the "
        "counter.",
    ),
    rule(
        learning_rate_may_be_traced,
        "promise",
        (39,),
        "Avoid float(learning_rate) and `if learning_rate`, and check only concrete "
        "values.",
    ),
    rule(
        hyperparameters_may_be_injected,
        "promise",
        (36,),
        "Do not branch on hyperparameters in Python, validate only concrete numbers, "
        "and do not use them as shapes.",
    ),
    rule(
        injected_bfloat16_is_accurate_or_refused,
        "numerics",
        (28, 37),
        "Refuse 16-bit decay rates by their dtype with a ValueError that names "
        "hyperparam_dtype, and cast others to the dtype of the computation.",
    ),
    rule(
        bad_values_are_refused,
        "polish",
        (36,),
        "Check concrete values in the factory, with a message such as "
        "`adam: b1 must be in [0, 1), got 1.5`.",
    ),
)
