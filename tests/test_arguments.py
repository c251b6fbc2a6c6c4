"""Numbers out of range are refused, whether they come from Python, NumPy or JAX."""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import catalog
from optimizers.catalog import Kind


class Range(NamedTuple):
    """Numbers that an argument accepts, and numbers that it refuses."""

    inside: tuple[float, ...]
    outside: tuple[float, ...]
    dtype: str = "float"


DECAY_RATE = Range((0.0, 0.5), (-0.1, 1.0, 1.5, math.inf, math.nan))
UNIT_INTERVAL = Range((0.0, 0.5, 1.0), (-0.1, 1.5, math.inf, math.nan))
FRACTION = Range((0.5,), (-0.1, 0.0, 1.0, 1.5, math.inf, math.nan))
FINITE = Range((-0.5, 0.0, 3.0), (-math.inf, math.inf, math.nan))
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
    "learning_rate": FINITE,
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
    *(
        "convert",
        "has_aux",
        "inner_state",
        "labels",
        "loss",
        "mask",
        "mu_dtype",
        "nesterov",
    ),
    *("normalize", "nu_dtype", "optimizer", "parameterization", "params", "per_leaf"),
    *("predictor", "reduce", "rescale", "safeguard_warmup", "second_moment", "state"),
    *("shardings", "use_updated_ema", "variant", "weight_decay_mask"),
    *("state_dict", "variables"),
}
# These fix the shapes of arrays and cannot be traced.
SIZES = ("capacity", "microbatches", "window")
# This learning rate must be a schedule, and no number is one.
SCHEDULES = {("gsam_rho_schedule", "learning_rate")}

FUNCTIONS = catalog.functions(optimizers)
OPTIMIZERS = catalog.functions(optimizers, Kind.OPTIMIZER)
# The phrases that state a range in a docstring.
PHRASES = {
    "in [0, 1)": DECAY_RATE,
    "in [0, 1]": UNIT_INTERVAL,
    "in (0, 1)": FRACTION,
    "integer >= 0": COUNT,
    "integer >= 1": POSITIVE_INTEGER,
    "non-negative": NON_NEGATIVE,
    "positive": POSITIVE,
    "at least 1": AT_LEAST_ONE,
}


def is_number(function: Callable[..., Any], parameter: inspect.Parameter) -> bool:
    """Whether an argument without an entry in the tables takes a number."""
    value = catalog.required_arguments(function).get(parameter.name, parameter.default)
    return isinstance(value, int | float) and not isinstance(value, bool)


NUMBERS = [
    (name, parameter.name)
    for name, function in FUNCTIONS.items()
    for parameter in inspect.signature(function).parameters.values()
    if parameter.name not in NO_NUMBERS
    and (name, parameter.name) not in SCHEDULES
    and (parameter.name in RANGES or is_number(function, parameter))
]
every_number = pytest.mark.parametrize(("name", "argument"), NUMBERS)


def call(name: str, argument: str, value: Any) -> Any:
    """Calls the public function with one value and the rest as it must be."""
    return catalog.example(FUNCTIONS[name], **{argument: value})


def allowed(name: str, argument: str) -> Range:
    if (name, argument) in OTHER_RANGES:
        return OTHER_RANGES[name, argument]
    found = stated(FUNCTIONS[name], argument) or RANGES.get(argument)
    assert found, (
        f"{name}: the docstring must state the range of {argument} with one of these "
        f"phrases: {', '.join(PHRASES)}."
    )
    return found


def stated(function: Callable[..., Any], argument: str) -> Range | None:
    """The range that a docstring gives for an argument."""
    doc = inspect.cleandoc(function.__doc__ or "")
    entry = re.search(rf"^  {argument}: (.*(?:\n    .*)*)", doc, re.MULTILINE)
    words = " ".join(entry.group(1).split()) if entry else ""
    return next((found for phrase, found in PHRASES.items() if phrase in words), None)


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


@pytest.mark.parametrize(
    ("name", "argument"),
    [("rmpe_predictor", "window"), ("sam_value_and_grad", "microbatches")],
)
def test_sizes_must_be_known(name: str, argument: str) -> None:
    for value in (jnp.float32(2.0), jnp.float32(math.inf), jnp.complex64(2.0)):
        with pytest.raises(ValueError, match=rf"^{name}: {argument} must be an int"):
            call(name, argument, value)

    def build(value: jax.Array) -> jax.Array:
        call(name, argument, value)
        return value

    with pytest.raises(ValueError, match=rf"^{name}: {argument} .* cannot be traced"):
        jax.eval_shape(build, jax.ShapeDtypeStruct((), jnp.int32))


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


def test_a_range_is_read_from_the_docstring() -> None:
    def documented(share: float = 0.5, other: float = 1.0) -> None:
        """A function.

        Args:
          share: How much of it,
            in (0, 1).
          other: Any number.
        """

    assert stated(documented, "share") == FRACTION
    assert stated(documented, "other") is None


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_negative_learning_rates_ascend(name: str) -> None:
    """As a number, a schedule and a traced value, as in optax."""
    function, options = OPTIMIZERS[name], {"weight_decay": 0.0}
    start = jnp.asarray([1.0, -2.0, 3.0])
    gradients = jnp.asarray([[1.0, -0.5, 2.0], [0.3, 0.0, -4.0], [2.0, 0.1, 1.0]])

    def trajectory(learning_rate: Any, gradients: jax.Array) -> list[jax.Array]:
        optimizer = function(learning_rate=learning_rate, **options)
        params, state, visited = start, optimizer.init(start), []
        for g in gradients:
            updates, state = optimizer.update(g, state, params)
            params = optax.apply_updates(params, updates)
            visited.append(params)
        return visited

    # The steepest ascent is the descent of the opposite.
    expected = trajectory(0.5, -gradients)
    assert not np.array_equal(expected[-1], start)
    for learning_rate in (-0.5, lambda count: -0.5):
        np.testing.assert_array_equal(trajectory(learning_rate, gradients), expected)
    traced = jax.jit(trajectory)(-0.5, gradients)
    np.testing.assert_allclose(traced, expected, rtol=1e-6)


def test_weight_decay_has_the_sign_of_the_learning_rate() -> None:
    """As in optax."""
    params, gradient = jnp.asarray([1.0, -2.0]), jnp.asarray([3.0, 4.0])

    def first_step(adamw: Callable[..., Any]) -> Any:
        optimizer = adamw(-0.5, weight_decay=0.1)
        return optimizer.update(gradient, optimizer.init(params), params)[0]

    expected = first_step(optax.adamw)
    np.testing.assert_allclose(first_step(optimizers.adamw), expected, rtol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_defaults_are_finite(name: str) -> None:
    """In a state, infinity becomes NaN as soon as two states are averaged."""
    for parameter in inspect.signature(FUNCTIONS[name]).parameters.values():
        if isinstance(parameter.default, float):
            assert math.isfinite(parameter.default), parameter


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_averages_of_injected_states_are_finite(name: str) -> None:
    optimizer = optax.inject_hyperparams(FUNCTIONS[name])(learning_rate=0.5)
    state = optimizer.init(jnp.ones(2))
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        average = 0.5 * leaf + 0.0 * leaf
        assert np.isfinite(average).all(), jax.tree_util.keystr(path)
