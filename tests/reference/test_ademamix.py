"""AdEMAMix and its schedules against NumPy, worked numbers and identities."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import testing
from tests.reference import support
from tests.reference.support import T5, assert_close, assert_worked_numbers, run


def schedules(
    t: int, b1: float, b3: float, alpha: float, warmup_steps: int | None
) -> tuple[float, float]:
    """alpha(t) and beta_3(t), with t from 1."""
    if warmup_steps is None:
        return alpha, b3
    done = t / warmup_steps
    if b1 == 0.0:
        return min(alpha * done, alpha), min(b3 ** (1 / done), b3)
    start, end = np.log(b1), np.log(b3)
    slow = np.exp(start * end / ((1 - done) * end + done * start))
    return min(alpha * done, alpha), min(slow, b3)


def reference(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    learning_rate: float,
    b1: float = 0.9,
    b2: float = 0.999,
    b3: float = 0.9999,
    alpha: float = 5.0,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float = 0.0,
    warmup_steps: int | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pagliardini, Ablin and Grangier, Algorithm 1."""
    x, m1, m2, v = start, *(np.zeros_like(start) for _ in range(3))
    trajectory = []
    for t, g in enumerate(gradients, start=1):
        weight, slow = schedules(t, b1, b3, alpha, warmup_steps)
        m1 = b1 * m1 + (1 - b1) * g
        m2 = slow * m2 + (1 - slow) * g
        v = b2 * v + (1 - b2) * g**2
        direction = (m1 / (1 - b1**t) + weight * m2) / (
            np.sqrt(v / (1 - b2**t) + eps_root) + eps
        )
        x = x - learning_rate * (direction + weight_decay * x)
        trajectory.append(x)
    return np.stack(trajectory), {"mu": m1, "nu": v, "mu_slow": m2}


WORKED = [
    (
        {},
        [0.899950001, 0.936591974666, 0.950279940444, 0.90532584225, 0.879770575505],
        (-2.1000499999, -2.2556955579),
    ),
    (
        {"alpha": 8.0, "warmup_steps": 4, "weight_decay": 0.1},
        [
            0.889920240075,
            0.917631611674,
            0.922094529705,
            0.867833793754,
            0.833520766384,
        ],
        (-2.08007976083, -2.15235488653),
    ),
    (
        {"b1": 0.0},
        [0.899950001, 1.02645374892, 0.988673496036, 0.815137467518, 0.862470005334],
        (-2.1000499999, -2.09267494749),
    ),
]


@pytest.mark.parametrize(("options", "first", "second"), WORKED, ids=str)
def test_worked_numbers(
    options: dict[str, Any],
    first: list[float],
    second: tuple[float, float],
    x64: None,
) -> None:
    expected, _ = reference(*T5, learning_rate=0.1, **options)
    assert_worked_numbers(expected, first, second)
    params, _ = run(optimizers.ademamix(0.1, **options), T5)
    assert_worked_numbers(params, first, second)


def test_worked_state(x64: None) -> None:
    _, state = run(optimizers.scale_by_ademamix(), T5)
    np.testing.assert_allclose(state.mu_slow, [0.00024997, 0.00089976], atol=5e-9)
    _, expected = reference(*T5, learning_rate=0.1)
    assert_close(
        {"mu": state.mu, "nu": state.nu, "mu_slow": state.mu_slow}, expected, 1e-14
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"b1": 0.0, "alpha": 2.0, "warmup_steps": 20},
        {"b3": 0.99, "alpha": 8.0, "warmup_steps": 60, "weight_decay": 0.1},
        {"b2": 0.9, "b3": 0.999, "eps": 1e-3, "eps_root": 1e-6, "warmup_steps": 7},
    ],
    ids=str,
)
def test_follows_the_equations(options: dict[str, float]) -> None:
    testing.assert_matches_reference(
        optimizers.ademamix(0.1, **options),
        lambda x, g: reference(x, g, learning_rate=0.1, **options)[0],
    )


def test_schedules(x64: None) -> None:
    alpha = optimizers.ademamix_alpha_schedule(8.0, 4)
    b3 = optimizers.ademamix_b3_schedule(0.9, 0.9999, 4)
    counts = jnp.arange(6)
    np.testing.assert_allclose(jax.vmap(alpha)(counts), [2, 4, 6, 8, 8, 8])
    np.testing.assert_allclose(
        jax.vmap(b3)(counts),
        [0.9996011953686, 0.9998001996255, 0.9998667110574, 0.9999, 0.9999, 0.9999],
        rtol=1e-13,
    )
    long = optimizers.ademamix_b3_schedule(0.9, 0.9999, 256_000)
    for t, expected in ((1, 0.90038836127), (1000, 0.97959866952)):
        np.testing.assert_allclose(long(jnp.asarray(t - 1)), expected, rtol=1e-11)
    from_zero = optimizers.ademamix_b3_schedule(0.0, 0.9999, 4)
    np.testing.assert_allclose(from_zero(jnp.asarray(0)), 0.9999**4, rtol=1e-14)


@pytest.mark.parametrize("b3", [0.0, 0.8, 0.9])
def test_b3_schedule_never_exceeds_b3(b3: float, x64: None) -> None:
    schedule = optimizers.ademamix_b3_schedule(0.9, b3, 4)
    values = [float(schedule(count)) for count in range(6)]
    np.testing.assert_allclose(values, b3, rtol=1e-15)


def test_b3_schedule_is_linear_in_the_half_life(x64: None) -> None:
    b3 = jax.vmap(optimizers.ademamix_b3_schedule(0.9, 0.9999, 100))(jnp.arange(100))
    half_lives = np.log(0.5) / np.log(np.asarray(b3)) - 1
    np.testing.assert_allclose(np.diff(half_lives, 2), 0.0, atol=1e-7)
    np.testing.assert_allclose(half_lives[-1], 6930.1, rtol=1e-5)
    assert (np.diff(b3) > 0).all()


def test_warmup_is_the_public_schedules(x64: None) -> None:
    sequence = support.random_sequence(20, seed=1)
    by_steps, _ = run(optimizers.ademamix(0.1, warmup_steps=15), sequence)
    by_schedules, _ = run(
        optimizers.ademamix(
            0.1,
            b3=optimizers.ademamix_b3_schedule(0.9, 0.9999, 15),
            alpha=optimizers.ademamix_alpha_schedule(5.0, 15),
        ),
        sequence,
    )
    assert_close(by_steps, by_schedules, 1e-12)


def test_without_the_slow_average_it_is_adamw(x64: None) -> None:
    sequence = support.random_sequence(30, seed=2)
    params, _ = run(optimizers.ademamix(0.1, alpha=0.0, weight_decay=0.1), sequence)
    adamw, _ = run(optimizers.adamw(0.1, weight_decay=0.1), sequence)
    assert_close(params, adamw, 1e-14)


def test_without_the_fast_average_it_is_the_simplified_form(x64: None) -> None:
    """lr' = lr·alpha(1 − b3), alpha' = 1/(alpha(1 − b3)), b1' = b3."""
    sequence = support.random_sequence(30, seed=3)
    params, _ = run(optimizers.ademamix(0.1, b1=0.0, b3=0.99, alpha=4.0), sequence)
    share = 4.0 * (1 - 0.99)
    simplified, _ = run(
        optimizers.simplified_ademamix(0.1 * share, 0.99, 0.999, 1 / share), sequence
    )
    assert_close(params, simplified, 1e-12)


def test_equals_optax_without_schedules(x64: None) -> None:
    sequence = support.random_sequence(60, seed=4)
    params, _ = run(optimizers.ademamix(0.01, weight_decay=0.1), sequence)
    theirs, _ = support.run_optax(
        optax.contrib.ademamix(0.01, weight_decay=0.1), sequence
    )
    assert_close(params, theirs, 1e-12)


def test_custom_schedules_count_from_zero_as_in_optax(x64: None) -> None:
    start, end = np.log(0.9), np.log(0.9999)

    def done(count: jax.Array) -> jax.Array:
        return jnp.minimum(count / 4.0, 1.0)

    warm_up: dict[str, Any] = {
        "alpha": lambda count: 8.0 * done(count),
        "b3": lambda count: jnp.exp(
            start * end / ((1.0 - done(count)) * end + done(count) * start)
        ),
        "weight_decay": 0.1,
    }
    with jax.numpy_dtype_promotion("standard"):
        params, _ = run(optimizers.ademamix(0.1, **warm_up), T5)
    first = [0.890000001, 0.905169059897, 0.879776146838, 0.800142944796]
    assert_worked_numbers(
        params, [*first, 0.728863795289], (-2.0799999999, -2.52488737088)
    )
    theirs, _ = support.run_optax(optax.contrib.ademamix(0.1, **warm_up), T5)
    assert_close(params, theirs, 1e-12)


def test_constant_gradient_gives_one_plus_alpha_of_what_is_remembered(
    x64: None,
) -> None:
    gradients = np.full((40, 1), 3.0)
    params, _ = run(
        optimizers.scale_by_ademamix(b3=0.99, alpha=2.0, eps=0.0),
        support.Sequence(np.zeros(1), gradients),
    )
    sizes = np.diff(params[:, 0], prepend=0.0)
    expected = 1 + 2.0 * (1 - 0.99 ** np.arange(1, 41))
    np.testing.assert_allclose(sizes, expected, rtol=1e-12)


def test_slow_average_does_not_freeze_in_bfloat16() -> None:
    """With state in bfloat16 it would stop at 0.03125; exact is 1 − 0.9999²⁰⁰⁰."""
    _, state = run(
        optimizers.scale_by_ademamix(),
        support.Sequence(jnp.zeros(1, jnp.bfloat16), jnp.ones((2000, 1), jnp.bfloat16)),
    )
    assert state.mu_slow.dtype == jnp.float32
    np.testing.assert_allclose(state.mu_slow, 1 - 0.9999**2000, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"warmup_steps": 1000}], ids=str)
def test_slow_average_is_exact_in_float32(options: dict[str, int]) -> None:
    """A float32 1 − 0.99999 is wrong by 1e-3; the average must not be."""
    b3, steps = 0.99999, 3000
    _, state = run(
        optimizers.scale_by_ademamix(b3=b3, **options),
        support.Sequence(jnp.zeros(1), jnp.ones((steps, 1))),
    )
    exact = 0.0
    for t in range(1, steps + 1):
        slow = schedules(t, 0.9, b3, 5.0, options.get("warmup_steps"))[1]
        exact = slow * exact + (1 - slow)
    np.testing.assert_allclose(state.mu_slow, exact, rtol=2e-5)


def test_refuses_two_schedules() -> None:
    with pytest.raises(
        ValueError, match=r"^ademamix: warmup_steps makes the schedules"
    ):
        optimizers.ademamix(0.1, alpha=lambda count: 1.0, warmup_steps=10)
    with pytest.raises(ValueError, match="two names of one argument"):
        optimizers.ademamix(0.1, mask=True, weight_decay_mask=True)
