"""Faults for the rules in `hyperparameters`."""

from typing import Any

import jax.numpy as jnp
import optax

from tests.testing.conformance.faulty.support import Fault, Transformation
from tests.testing.conformance.sound import scale_by_sound_adam, sound_adam


def checks_nothing(b1: Any = 0.9) -> Transformation:
    return scale_by_sound_adam(jnp.asarray(b1))


def checks_under_another_name(b1: Any = 0.9) -> Transformation:
    return scale_by_sound_adam(b1)


def promotes_by_rate(learning_rate: Any = 0.1) -> Transformation:
    last = optax.scale_by_learning_rate(learning_rate)
    return optax.chain(scale_by_sound_adam(), last)


def needs_a_concrete_rate(learning_rate: Any = 0.1) -> Transformation:
    rate = learning_rate if callable(learning_rate) else float(learning_rate)
    return sound_adam(rate)


def counts_schedules_from_one(learning_rate: Any = 0.1) -> Transformation:
    if callable(learning_rate):
        return sound_adam(lambda count: learning_rate(count + 1))
    return sound_adam(learning_rate)


def divides_by_bias_of_b2(learning_rate: Any = 0.1, b2: Any = 0.999) -> Transformation:
    return optax.chain(sound_adam(learning_rate), optax.scale((1 - b2) / (1 - b2)))


def rounds_b2(learning_rate: Any = 0.1, b2: Any = 0.999) -> Transformation:
    return sound_adam(learning_rate, b2=jnp.asarray(b2).astype(jnp.float32))


def refuses_without_advice(learning_rate: Any = 0.1, b2: Any = 0.999) -> Transformation:
    if getattr(b2, "dtype", jnp.float32) == jnp.bfloat16:
        msg = "refuses_without_advice: b2 is rounded."
        raise ValueError(msg)
    return sound_adam(learning_rate, b2=b2)


def calls_an_int(learning_rate: Any = 0.1) -> Transformation:
    if isinstance(learning_rate, int):
        return sound_adam(lambda count: learning_rate(count))
    return sound_adam(learning_rate)


def checks_floats_only(b1: Any = 0.9) -> Transformation:
    if isinstance(b1, float) and not 0 <= b1 < 1:
        msg = f"checks_floats_only: b1 must be in [0, 1), got {b1}."
        raise ValueError(msg)
    return scale_by_sound_adam(jnp.asarray(b1))


FAULTS = {
    "promotes by its rate": Fault(
        promotes_by_rate, "learning_rate_of_any_type_keeps_dtypes", "of type np.float32"
    ),
    "needs a concrete rate": Fault(
        needs_a_concrete_rate, "learning_rate_may_be_traced", "oncret"
    ),
    "needs a concrete rate to inject": Fault(
        needs_a_concrete_rate, "hyperparameters_may_be_injected", "oncret"
    ),
    "divides by 1 - b2": Fault(
        divides_by_bias_of_b2, "injected_bfloat16_is_accurate_or_refused", "nan"
    ),
    "rounds b2 to bfloat16": Fault(
        rounds_b2, "injected_bfloat16_is_accurate_or_refused", "differs by 0.1"
    ),
    "refuses bfloat16 without advice": Fault(
        refuses_without_advice,
        "injected_bfloat16_is_accurate_or_refused",
        "does not name hyperparam_dtype",
    ),
    "counts schedules from one": Fault(
        counts_schedules_from_one, "schedules_count_from_zero", "update 0 called"
    ),
    "checks nothing": Fault(checks_nothing, "bad_values_are_refused", "b1=1.5"),
    "checks under another name": Fault(
        checks_under_another_name, "bad_values_are_refused", "another_name"
    ),
    "calls an int": Fault(
        calls_an_int, "learning_rate_of_any_type_keeps_dtypes", "not callable"
    ),
    "checks floats only": Fault(checks_floats_only, "bad_values_are_refused", "b1=2"),
}
