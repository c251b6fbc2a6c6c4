"""Numbers out of range are refused, whether they come from Python, NumPy or JAX."""

import inspect
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optimizers
from optimizers import catalog


class Range(NamedTuple):
    """Numbers that an argument accepts, and numbers that it refuses."""

    inside: tuple[float, ...]
    outside: tuple[float, ...]
    dtype: str = "float"


DECAY_RATE = Range((0.0, 0.5), (-0.1, 1.0, 1.5, math.inf, math.nan))
UNIT_INTERVAL = Range((0.0, 0.5, 1.0), (-0.1, 1.5, math.inf, math.nan))
FRACTION = Range((0.5,), (-0.1, 0.0, 1.0, 1.5, math.inf, math.nan))
NON_NEGATIVE = Range((0.0, 0.5, 3.0), (-0.1, -3.0, math.inf, math.nan))
LIMIT = Range((0.0, 0.5, math.inf), (-0.1, -math.inf, math.nan))
POSITIVE = Range((0.5, 3.0), (-0.1, 0.0, math.inf, math.nan))
AT_LEAST_ONE = Range((1.0, 2.5, math.inf), (-1.0, 0.5, math.nan))
POSITIVE_INTEGER = Range((1, 2), (0, -1, 1.5, math.nan), "int")
COUNT = Range((0, 2), (-1, 1.5, math.nan), "int")

# What the docstrings promise, by the name of the argument.
RANGES = {
    "a": POSITIVE,
    "alpha": NON_NEGATIVE,
    "ascent_steps": POSITIVE_INTEGER,
    "aux_weight": NON_NEGATIVE,
    "b": POSITIVE,
    "b1": DECAY_RATE,
    "b2": DECAY_RATE,
    "b3": DECAY_RATE,
    "base_learning_rate": POSITIVE,
    "beta": POSITIVE,
    "c": NON_NEGATIVE,
    "capacity": COUNT,
    "clipping": LIMIT,
    "d0": POSITIVE,
    "d_coef": NON_NEGATIVE,
    "decay": DECAY_RATE,
    "ema_rate": UNIT_INTERVAL,
    "eps": NON_NEGATIVE,
    "eps_root": NON_NEGATIVE,
    "eta": NON_NEGATIVE,
    "final_learning_rate": NON_NEGATIVE,
    "gamma": FRACTION,
    "growth_rate": AT_LEAST_ONE,
    "learning_rate": NON_NEGATIVE,
    "learning_rate_max": NON_NEGATIVE,
    "learning_rate_min": NON_NEGATIVE,
    "max_norm": LIMIT,
    "microbatches": POSITIVE_INTEGER,
    "momentum": DECAY_RATE,
    "p": AT_LEAST_ONE,
    "period": POSITIVE_INTEGER,
    "regularization": NON_NEGATIVE,
    "rho": NON_NEGATIVE,
    "rho_max": NON_NEGATIVE,
    "rho_min": NON_NEGATIVE,
    "sigma": NON_NEGATIVE,
    "slow_step_size": NON_NEGATIVE,
    "sync_period": POSITIVE_INTEGER,
    "tail_weight": NON_NEGATIVE,
    "warmup_steps": POSITIVE,
    "weight_decay": NON_NEGATIVE,
    "width_ratio": POSITIVE,
    "window": POSITIVE_INTEGER,
}
# Where one function promises another range than the rest.
OTHER_RANGES = {
    ("adam_cm", "decay"): UNIT_INTERVAL,
    ("scale_by_adam_cm", "decay"): UNIT_INTERVAL,
}
# Arguments that are not numbers, or that may be any.
NO_NUMBERS = {
    *("adaptive", "alignment", "axis", "axis_fn", "batch_argnums", "bias_correction"),
    *("has_aux", "inner_state", "labels", "loss", "mask", "mu_dtype", "nesterov"),
    *("normalize", "nu_dtype", "optimizer", "parameterization", "params", "per_leaf"),
    *("predictor", "reduce", "rescale", "safeguard_warmup", "second_moment", "state"),
    *("use_updated_ema", "variant", "weight_decay_mask"),
}
# These fix the shapes of arrays and cannot be traced.
SIZES = ("capacity", "microbatches", "window")
# This learning rate must be a schedule, and no number is one.
SCHEDULES = {("gsam_rho_schedule", "learning_rate")}

FUNCTIONS = catalog.functions(optimizers)
ARGUMENTS = [
    (name, argument)
    for name, function in FUNCTIONS.items()
    for argument in inspect.signature(function).parameters
    if argument not in NO_NUMBERS and (name, argument) not in SCHEDULES
]
NUMBERS = [(name, argument) for name, argument in ARGUMENTS if argument in RANGES]
every_number = pytest.mark.parametrize(("name", "argument"), NUMBERS)


def call(name: str, argument: str, value: Any) -> Any:
    """Calls the public function with one value and the rest as it must be."""
    return catalog.example(FUNCTIONS[name], **{argument: value})


def allowed(name: str, argument: str) -> Range:
    return OTHER_RANGES.get((name, argument), RANGES[argument])


def variants(number: float, dtype: str) -> list[Any]:
    """The number from Python, NumPy and JAX, in its natural dtype."""
    if dtype == "int" and float(number).is_integer():
        n = int(number)
        return [n, np.int64(n), np.int32(n), np.asarray(n), jnp.int32(n), jnp.int8(n)]
    x = float(number)
    return [x, np.float64(x), np.float32(x), np.asarray(x), jnp.float32(x)]


@every_number
def test_numbers_outside_the_range_are_refused(name: str, argument: str) -> None:
    refused = allowed(name, argument)
    for number in refused.outside:
        for value in variants(number, refused.dtype):
            with pytest.raises(ValueError, match=rf"^{name}: {argument} must be .*got"):
                call(name, argument, value)


@every_number
def test_numbers_inside_the_range_are_accepted(name: str, argument: str) -> None:
    accepted = allowed(name, argument)
    for number in accepted.inside:
        for value in variants(number, accepted.dtype):
            call(name, argument, value)


@every_number
@pytest.mark.parametrize(
    "value", [True, np.bool_(True), jnp.bool_(True), "1", [1.0], np.ones(2), 1j]
)
def test_values_that_are_not_real_numbers_are_refused(
    name: str, argument: str, value: Any
) -> None:
    if argument == "aux_weight" and isinstance(value, list):
        pytest.skip("a list of weights, for several auxiliary losses")
    with pytest.raises(ValueError, match=rf"^{name}: {argument} must be .*got"):
        call(name, argument, value)


@pytest.mark.parametrize(
    ("name", "argument"), [number for number in NUMBERS if number[1] not in SIZES]
)
def test_traced_numbers_are_not_checked(name: str, argument: str) -> None:
    """Their values are not known while they are traced."""
    dtype = jnp.int32 if allowed(name, argument).dtype == "int" else jnp.float32

    def build(value: jax.Array) -> jax.Array:
        call(name, argument, value)
        return value

    jax.eval_shape(build, jax.ShapeDtypeStruct((), dtype))


@every_number
def test_decay_rates_of_16_bits_are_refused(name: str, argument: str) -> None:
    """`optax.inject_hyperparams` casts b2 = 0.999 to bfloat16, where it is 1."""

    def traced(dtype: Any) -> None:
        def build(value: jax.Array) -> jax.Array:
            call(name, argument, value)
            return value

        jax.eval_shape(build, jax.ShapeDtypeStruct((), dtype))

    number = allowed(name, argument).inside[0]
    for dtype in (jnp.bfloat16, jnp.float16):
        if allowed(name, argument) is not DECAY_RATE:
            if allowed(name, argument).dtype == "float":
                call(name, argument, jnp.asarray(number, dtype))
            continue
        message = rf"^{name}: {argument} must be .*got .*hyperparam_dtype=jnp\.float32"
        for value in (jnp.asarray(number, dtype), np.asarray(number, dtype)):
            with pytest.raises(ValueError, match=message):
                call(name, argument, value)
        with pytest.raises(ValueError, match=message):
            traced(dtype)


@every_number
def test_numbers_of_16_bits_outside_the_range_are_refused(
    name: str, argument: str
) -> None:
    refused = allowed(name, argument)
    for number in refused.outside if refused.dtype == "float" else ():
        with pytest.raises(
            ValueError, match=rf"^{name}: {argument} must be .*got .*hyperparam_dtype"
        ):
            call(name, argument, jnp.bfloat16(number))


@pytest.mark.parametrize(
    ("name", "argument"), [pair for pair in ARGUMENTS if pair not in NUMBERS]
)
def test_other_numbers_are_checked_alike(name: str, argument: str) -> None:
    """Arguments that have no range in the tables above."""
    for number in (-1.5, -1.0, 0.0, 0.5, 1.0, 1.5, math.inf, math.nan):
        outcomes = {type(v): refuses(name, argument, v) for v in variants(number, "")}
        assert len(set(outcomes.values())) == 1, (number, outcomes)


def refuses(name: str, argument: str, value: Any) -> bool:
    try:
        call(name, argument, value)
    except (TypeError, ValueError):
        return True
    return False
