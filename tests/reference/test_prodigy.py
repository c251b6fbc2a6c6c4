"""Prodigy against NumPy, worked numbers, optax and theory."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from tests.reference import support, test_amsgrad
from tests.reference.support import Sequence, assert_close, run
from tests.reference.test_dadaptation import (
    T5D,
    Trajectory,
    assert_follows,
    assert_worked_distances,
    drifting_sequence,
    run_with_distances,
)


def reference(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    learning_rate: float | np.ndarray = 1.0,
    b1: float = 0.9,
    b2: float = 0.999,
    b3: float | None = None,
    eps: float = 1e-8,
    d0: float = 0.1,
    d_coef: float = 1.0,
    growth_rate: float = np.inf,
    bias_correction: bool = True,
    safeguard_warmup: bool = False,
    weight_decay: float = 0.0,
) -> Trajectory:
    """Mishchenko and Defazio, Prodigy for Adam, with the options of the release."""
    rates = np.broadcast_to(learning_rate, len(gradients))
    b3 = np.sqrt(b2) if b3 is None else b3
    x = start
    m, v, s = (np.zeros_like(start) for _ in range(3))
    numerator, d, d_max = 0.0, d0, d0
    trajectory, distances = [], []
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        weight = d * rate
        if bias_correction:
            weight *= np.sqrt(1 - b2**t) / (1 - b1**t)
        numerator = b3 * numerator + d / d0 * weight * (g @ (start - x))
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * d**2 * g**2
        s = b3 * s + d / d0 * (d if safeguard_warmup else weight) * g
        length = np.abs(s).sum()
        estimate = d_coef * numerator / length if length > 0 else 0.0
        if d == d0:
            d = max(d, estimate)
        d_max = max(d_max, estimate)
        d = min(d_max, d * growth_rate)
        x = x - weight * weight_decay * x - weight * m / (np.sqrt(v) + d * eps)
        trajectory.append(x)
        distances.append(d)
    return np.stack(trajectory), np.stack(distances)


# d after each step; the first coordinate after step 1; both after step 5.
WORKED: list[tuple[dict[str, Any], tuple[list[float], list[float]]]] = [
    (
        {"bias_correction": False},
        (
            [0.1, 0.142341639449, 0.387025948219, 1.14093385806, 3.06563645799],
            [0.683772333983, -7.82124808519, -11.1806639513],
        ),
    ),
    (
        {},
        (
            [0.1, 0.1, 0.1, 0.1, 0.126474591654],
            [0.900000031623, 0.504642495478, -2.47944649213],
        ),
    ),
    (
        {"bias_correction": False, "safeguard_warmup": True, "learning_rate": 0.5},
        (
            [0.1, 0.1, 0.1, 0.114591618888, 0.165120949315],
            [0.841886166992, -0.21119791079, -3.16606607324],
        ),
    ),
]


@pytest.mark.parametrize(("options", "worked"), WORKED, ids=str)
def test_worked_numbers(
    options: dict[str, Any], worked: tuple[list[float], list[float]], x64: None
) -> None:
    assert_worked_distances(*reference(*T5D, **options), worked)
    optimizer = optimizers.prodigy(d0=0.1, **options)
    assert_worked_distances(*run_with_distances(optimizer, T5D), worked)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias_correction": False, "growth_rate": 1.1},
        {"b1": 0.0, "b2": 0.9, "b3": 0.5, "eps": 1e-3, "growth_rate": 1.5},
        {"weight_decay": 0.1},
        {"safeguard_warmup": True, "d_coef": 3.0, "growth_rate": 1.02},
    ],
    ids=str,
)
def test_follows_the_equations(options: dict[str, Any], x64: None) -> None:
    rates = np.minimum(np.arange(50) / 5, 1.0)
    assert_follows(
        optimizers.prodigy(lambda count: jnp.asarray(rates)[count], d0=1e-2, **options),
        lambda x, g: reference(x, g, d0=1e-2, learning_rate=rates, **options),
        drifting_sequence(50),
    )


def test_leading_zero_gradients_follow_the_equations(x64: None) -> None:
    sequence = drifting_sequence(20)
    quiet = jax.tree.map(lambda g: np.concatenate([0 * g[:3], g]), sequence.gradients)
    assert_follows(
        optimizers.prodigy(d0=0.1, weight_decay=0.1),
        lambda x, g: reference(x, g, weight_decay=0.1),
        Sequence(sequence.start, quiet),
    )


@pytest.mark.parametrize("safeguard_warmup", [False, True])
def test_equals_optax(safeguard_warmup: bool, x64: None) -> None:
    sequence = drifting_sequence(60, seed=4)
    options: dict[str, Any] = {
        "weight_decay": 0.01,
        "safeguard_warmup": safeguard_warmup,
    }
    params, _ = run(optimizers.prodigy(**options), sequence)
    theirs = optax.contrib.prodigy(**options)
    assert_close(params, support.run_optax(theirs, sequence)[0], 1e-12)


def test_the_safeguard_slows_the_estimate_in_a_warm_up(x64: None) -> None:
    """On a parabola, after a warm-up of 20 steps and a cosine of 200."""
    count = np.arange(200)
    rates = jnp.minimum(1.0, count / 20) * (0.5 + 0.5 * np.cos(np.pi * count / 200))

    def end(safeguard_warmup: bool) -> tuple[jax.Array, jax.Array]:
        optimizer = optimizers.prodigy(
            lambda count: rates[count], safeguard_warmup=safeguard_warmup
        )

        def step(carry: Any, _: None) -> tuple[Any, None]:
            x, state = carry
            updates, state = optimizer.update(x - 3.0, state, x)
            return (optax.apply_updates(x, updates), state), None

        carry = jnp.zeros(2), optimizer.init(jnp.zeros(2))
        (x, state), _ = jax.jit(
            lambda carry: jax.lax.scan(step, carry, None, length=200)
        )(carry)
        return jnp.max(jnp.abs(x - 3.0)), state[0].distance

    distance, estimate = end(safeguard_warmup=False)
    slow_distance, slow_estimate = end(safeguard_warmup=True)
    assert slow_estimate < 0.5 * estimate
    assert distance < 0.01 < slow_distance


@pytest.mark.parametrize("growth_rate", [np.inf, 1.02])
def test_the_distance_starts_at_d0_and_never_decreases(
    growth_rate: float, x64: None
) -> None:
    optimizer = optimizers.prodigy(
        d0=0.1, bias_correction=False, growth_rate=growth_rate
    )
    _, d = run_with_distances(optimizer, T5D)
    assert d[0] == 0.1
    assert (np.diff(d) >= 0).all()
    assert d[-1] > 0.1


def test_the_first_increase_is_not_limited(x64: None) -> None:
    optimizer = optimizers.prodigy(d0=0.1, bias_correction=False, growth_rate=1.0)
    _, d = run_with_distances(optimizer, T5D)
    np.testing.assert_allclose(d[1:], 0.142341639449, rtol=support.TWELVE_DIGITS)


def test_without_estimate_it_is_adam(x64: None) -> None:
    sequence = Sequence(np.ones(3), support.random_sequence(40).gradients["bias"])
    optimizer = optimizers.prodigy(0.5, d0=0.1, d_coef=0.0, bias_correction=False)
    params, _ = run(optimizer, sequence)
    assert_close(params, test_amsgrad.uncorrected_adam(*sequence, 0.05), 1e-13)


@pytest.mark.parametrize(("corrected", "size"), [(False, 3.1622776602), (True, 1.0)])
def test_first_step(corrected: bool, size: float, x64: None) -> None:
    sequence = Sequence(np.zeros(2), np.array([[-5.0, 300.0]]))
    optimizer = optimizers.prodigy(0.5, eps=0.0, d0=0.1, bias_correction=corrected)
    params, _ = run(optimizer, sequence)
    np.testing.assert_allclose(params[0], [0.05 * size, -0.05 * size], rtol=1e-10)


def test_scale_of_the_loss_has_no_effect(x64: None) -> None:
    sequence = drifting_sequence(40, seed=3)
    scaled = Sequence(
        sequence.start, jax.tree.map(lambda g: 2.0**-20 * g, sequence.gradients)
    )
    optimizer = optimizers.prodigy(d0=0.1, eps=0.0)
    one = run_with_distances(optimizer, sequence)
    jax.tree.map(
        np.testing.assert_array_equal, one, run_with_distances(optimizer, scaled)
    )


def test_the_origin_has_no_effect(x64: None) -> None:
    gradients = support.random_sequence(40).gradients["bias"]
    optimizer = optimizers.prodigy(d0=0.1)
    here, d = run_with_distances(optimizer, Sequence(np.zeros(3), gradients))
    there, e = run_with_distances(optimizer, Sequence(np.full(3, 8.0), gradients))
    np.testing.assert_allclose(there - 8.0, here, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(d, e, rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize(("learning_rate", "steps"), [(1.0, 60), (0.01, 1200)])
def test_rounded_params_follow_the_equations(
    dtype: Any, learning_rate: float, steps: int
) -> None:
    """They are the params of float64, rounded, though 16 bits lose the first steps."""
    optimizer = optimizers.prodigy(learning_rate)
    curvatures, target = jnp.asarray([0.1, 0.3, 1.0]), jnp.asarray([1.5, -2.0, 0.7])
    x = jnp.asarray([1.0, -1.0, 2.0], dtype)

    def step(carry: Any, _: None) -> Any:
        x, state = carry
        gradient = (curvatures * (x.astype(jnp.float32) - target)).astype(dtype)
        updates, state = optimizer.update(gradient, state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), (gradient, x, state[0].distance)

    scan = jax.jit(lambda carry: jax.lax.scan(step, carry, None, length=steps)[1])
    gradients, got, distances = (
        np.asarray(a, np.float64) for a in scan((x, optimizer.init(x)))
    )
    start = np.asarray(x, np.float64)
    expected, d = reference(start, gradients, d0=1e-6, learning_rate=learning_rate)
    assert d[-1] > 0.1
    # m is rounded to bfloat16, but kept in float32 for float16.
    rtol = {jnp.bfloat16: 0.05, jnp.float16: 1e-3}[dtype]
    np.testing.assert_allclose(distances, d, rtol=rtol)
    np.testing.assert_allclose(got, expected, rtol=0.0, atol=rtol * np.ptp(expected))


def test_rounded_params_may_be_changed_by_something_else() -> None:
    optimizer = optimizers.prodigy(d0=1e-4)
    x, gradient = jnp.ones(2, jnp.bfloat16), jnp.asarray([1.0, -1.0], jnp.bfloat16)
    _, state = optimizer.update(gradient, optimizer.init(x), x)
    np.testing.assert_allclose(state[0].displacement, [1e-4, -1e-4], rtol=1e-5)
    changed = jnp.asarray([1.0, 3.0], jnp.bfloat16)
    updates, state = optimizer.update(gradient, state, changed)
    np.testing.assert_allclose(state[0].displacement, [2e-4, -2.0001], rtol=1e-3)
    np.testing.assert_allclose(updates.astype(jnp.float32), [-1e-4, 1e-4], rtol=0.05)


def test_only_params_of_16_bits_are_stored_twice() -> None:
    params = {"w": jnp.ones(2), "b": jnp.ones(2, jnp.complex64)}
    assert optimizers.prodigy().init(params)[0].displacement is None


def test_the_start_is_a_copy() -> None:
    params = jnp.ones(3)
    state = optimizers.scale_by_prodigy().init(params)
    assert state.start.unsafe_buffer_pointer() != params.unsafe_buffer_pointer()
    np.testing.assert_array_equal(state.start, params)
    abstract = jax.ShapeDtypeStruct((3,), jnp.bfloat16)
    start = optimizers.scale_by_prodigy().init(abstract).start
    np.testing.assert_array_equal(start, jnp.zeros(3, jnp.bfloat16))


def test_params_are_required() -> None:
    optimizer = optimizers.scale_by_prodigy()
    with pytest.raises(ValueError, match=r"scale_by_prodigy: update\(\) needs params"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))


def test_reduce_makes_parts_equal_the_whole(x64: None) -> None:
    """Two devices, as lanes of a vmap, hold half of the params each."""
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(2, 3)), rng.normal(size=(30, 2, 3))
    whole, d = run_with_distances(
        optimizers.prodigy(d0=0.1), Sequence(start, gradients)
    )
    parts = optimizers.prodigy(d0=0.1, reduce=lambda x: jax.lax.psum(x, "data"))
    got, got_d = jax.vmap(
        lambda x, g: run_with_distances(parts, Sequence(x, g)),
        in_axes=(0, 1),
        out_axes=(1, 1),
        axis_name="data",
    )(start, gradients)
    np.testing.assert_allclose(got, whole, rtol=1e-12)
    np.testing.assert_allclose(got_d, np.stack([d, d], axis=1), rtol=1e-12)


def test_the_distance_can_be_read() -> None:
    state = optimizers.prodigy(d0=0.5).init(jnp.ones(2))
    assert list(optimizers.distance_estimates(state)) == ["[0].distance"]
