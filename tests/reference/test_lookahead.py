"""Lookahead against NumPy, worked numbers, optax, its theory of variance, and Fish."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from tests.reference import support
from tests.reference.support import TWELVE_DIGITS

CURVATURES = np.array([1.0, 10.0])
START = np.ones(2)


def reference(
    start: np.ndarray,
    gradient: Callable[[np.ndarray, int], np.ndarray],
    steps: int,
    *,
    rate: float,
    momentum: float = 0.0,
    sync_period: int = 2,
    slow_step_size: float = 0.5,
    inner_state: str = "maintain",
) -> tuple[np.ndarray, np.ndarray]:
    """Zhang et al., Algorithm 1, as two nested loops around heavy-ball SGD.

    Returns fast weights after each step and slow ones after each synchronization.
    """
    slow, trace, pulled = start, np.zeros_like(start), np.zeros_like(start)
    fast_weights, slow_weights = [], []
    for outer in range(steps // sync_period):
        fast = slow
        for inner in range(sync_period):
            trace = momentum * trace + gradient(fast, outer * sync_period + inner)
            fast = fast - rate * trace
            fast_weights.append(fast)
        slow = slow + slow_step_size * (fast - slow)
        fast_weights[-1] = slow
        slow_weights.append(slow)
        if inner_state == "reset":
            trace = np.zeros_like(start)
        if inner_state == "pullback":
            trace = slow_step_size * trace + (1 - slow_step_size) * pulled
            pulled = trace.copy()
    return np.stack(fast_weights), np.stack(slow_weights)


def descend(
    optimizer: optax.GradientTransformation, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fast and slow weights after each step on the quadratic of the worked numbers."""

    @jax.jit
    def run() -> tuple[jax.Array, jax.Array]:
        curvatures, start = jnp.asarray(CURVATURES), jnp.asarray(START)

        def step(carry: tuple, _: None) -> tuple:
            params, state = carry
            updates, state = optimizer.update(curvatures * params, state, params)
            params = optax.apply_updates(params, updates)
            slow = optimizers.lookahead_params(state, params)
            return (params, state), (params, slow)

        return jax.lax.scan(step, (start, optimizer.init(start)), None, steps)[1]

    fast, slow = run()
    return np.asarray(fast), np.asarray(slow)


FAST = [
    (0.95, 0.5),
    (0.95125, 0.625),
    (0.9036875, 0.3125),
    (0.9048765625, 0.390625),
    (0.859632734375, 0.1953125),
    (0.860763830078, 0.244140625),
]
SLOW_AFTER_FOUR = {
    "maintain": (0.91141984, 0.2728),
    "reset": (0.94322944, 0.5329),
    "pullback": (0.92732464, 0.40285),
}


def test_worked_numbers(x64: None) -> None:
    expected, _ = reference(START, lambda x, t: CURVATURES * x, 6, rate=0.05)
    np.testing.assert_allclose(expected, FAST, rtol=TWELVE_DIGITS)
    fast, slow = descend(optimizers.lookahead(optax.sgd(0.05), 2, 0.5), 6)
    np.testing.assert_allclose(fast, expected, rtol=1e-12)
    np.testing.assert_array_equal(slow[[1, 3, 5]], fast[[1, 3, 5]])
    np.testing.assert_array_equal(slow[0], START)
    np.testing.assert_array_equal(slow[2], fast[1])


@pytest.mark.parametrize("inner_state", ["maintain", "reset", "pullback"])
def test_momentum_at_synchronization(inner_state: str, x64: None) -> None:
    _, expected = reference(
        START,
        lambda x, t: CURVATURES * x,
        8,
        rate=0.02,
        momentum=0.9,
        inner_state=inner_state,
    )
    numbers = SLOW_AFTER_FOUR[inner_state]
    np.testing.assert_allclose(expected[1], numbers, rtol=TWELVE_DIGITS)
    heavy_ball = optax.sgd(0.02, momentum=0.9)
    _, slow = descend(
        optimizers.lookahead(heavy_ball, 2, 0.5, inner_state=inner_state), 8
    )
    np.testing.assert_allclose(slow[1::2], expected, rtol=1e-12)


@pytest.mark.parametrize("reset", [False, True])
def test_equals_optax(reset: bool, x64: None) -> None:
    sequence = support.random_sequence(12)
    inner = optimizers.adam(0.1)
    mode = "reset" if reset else "maintain"
    ours = optimizers.lookahead(inner, 3, 0.8, inner_state=mode)
    params, _ = support.run(ours, sequence)
    theirs = optax.lookahead(inner, 3, 0.8, reset_state=reset)

    @jax.jit
    def scan(start: support.PyTree, gradients: support.PyTree) -> support.PyTree:
        def step(carry: tuple, g: support.PyTree) -> tuple:
            pair, state = carry
            updates, state = theirs.update(g, state, pair)
            pair = optax.apply_updates(pair, updates)
            return (pair, state), pair.fast

        pair = optax.LookaheadParams.init_synced(start)
        return jax.lax.scan(step, (pair, theirs.init(pair)), gradients)[1]

    with jax.numpy_dtype_promotion("standard"):  # optax multiplies by booleans
        expected = scan(*jax.tree.map(jnp.asarray, tuple(sequence)))
    support.assert_close(params, expected, 1e-12)


def test_limits(x64: None) -> None:
    """Of the slow step: 1 is the optimizer, 0 stays. Of the period: 1 shrinks SGD."""
    sequence = support.random_sequence(12, seed=1)
    inner = optimizers.adam(0.1)
    whole, _ = support.run(optimizers.lookahead(inner, 3, 1.0), sequence)
    support.assert_close(whole, support.run(inner, sequence)[0], 1e-14)
    nothing, _ = support.run(optimizers.lookahead(inner, 3, 0.0), sequence)
    for got, start in zip(
        jax.tree.leaves(nothing), jax.tree.leaves(sequence.start), strict=True
    ):
        for t in (2, 5, 8, 11):
            np.testing.assert_allclose(got[t], start, rtol=1e-15)
    every, _ = support.run(optimizers.lookahead(optax.sgd(0.1), 1, 0.5), sequence)
    support.assert_close(every, support.run(optax.sgd(0.05), sequence)[0], 1e-12)


def test_slow_weights_change_only_at_synchronization(x64: None) -> None:
    fast, slow = descend(optimizers.lookahead(optimizers.adam(0.1), 5, 0.5), 12)
    changed = np.any(np.diff(np.vstack([START, slow]), axis=0) != 0.0, axis=1)
    np.testing.assert_array_equal(np.flatnonzero(changed), [4, 9])
    np.testing.assert_array_equal(slow[[4, 9]], fast[[4, 9]])


@pytest.mark.parametrize(
    ("sync_period", "slow_step_size", "ratio"),
    [
        (5, 0.5, 0.442972964693),
        (5, 0.8, 0.760821625552),
        (10, 0.5, 0.402749461982),
        (20, 0.5, 0.359298129982),
    ],
)
def test_variance_on_noisy_quadratics(
    sync_period: int, slow_step_size: float, ratio: float
) -> None:
    """In the steady state, Zhang et al., Proposition 2; here below 3 % of noise."""
    rate, alpha, kept = 0.1, slow_step_size, 0.9**sync_period
    formula = alpha**2 * (1 - kept**2)
    formula /= formula + 2 * alpha * (1 - alpha) * (1 - kept)
    np.testing.assert_allclose(formula, ratio, rtol=TWELVE_DIGITS)
    variance = rate**2 / (1 - (1 - rate) ** 2)
    np.testing.assert_allclose(variance, 0.0526315789474, rtol=TWELVE_DIGITS)
    optimizer = optimizers.lookahead(optax.sgd(rate), sync_period, alpha)

    @jax.jit
    def run() -> jax.Array:
        chains = jnp.zeros(20_000)

        def step(t: int, carry: tuple) -> tuple:
            x, state = carry
            noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), t), x.shape)
            updates, state = optimizer.update(x - noise, state, x)
            return optax.apply_updates(x, updates), state

        x, state = jax.lax.fori_loop(0, 200, step, (chains, optimizer.init(chains)))
        return jnp.var(optimizers.lookahead_params(state, x))

    np.testing.assert_allclose(float(run()), variance * ratio, rtol=0.03)


def test_best_slow_step_on_a_quadratic(x64: None) -> None:
    """It minimizes the loss at the slow weights after one cycle."""
    fast = START * (1 - 0.15 * CURVATURES) ** 5
    moved = START - fast
    best = np.sum(START * CURVATURES * moved) / np.sum(moved * CURVATURES * moved)
    np.testing.assert_allclose(best, 0.993107352372, rtol=TWELVE_DIGITS)

    def loss(slow_step_size: float) -> float:
        optimizer = optimizers.lookahead(optax.sgd(0.15), 5, slow_step_size)
        return float(np.sum(CURVATURES * descend(optimizer, 5)[1][-1] ** 2))

    assert loss(best) < min(loss(best - 1e-3), loss(best + 1e-3))


def test_fish_is_lookahead_over_domains(x64: None) -> None:
    """Shi et al. (2022), Algorithm 1, on two parabolas: worked numbers."""
    optimizer = optimizers.lookahead(optax.sgd(0.1), sync_period=2, slow_step_size=0.5)
    x = jnp.asarray(0.5)
    state = optimizer.init(x)
    reached = []
    for t in range(6):
        gradient = x - 1.0 if t % 2 == 0 else 4.0 * (x + 1.0)
        updates, state = optimizer.update(gradient, state, x)
        x = optax.apply_updates(x, updates)
        if t % 2 == 1:
            reached.append(float(optimizers.lookahead_params(state, x)))
    np.testing.assert_allclose(reached, [0.215, -0.00445, -0.1734265], rtol=1e-12)


def test_fish_follows_the_product_of_domain_gradients(x64: None) -> None:
    """Averaged over both orders, the step adds -(a^2/2)(H1 g2 + H2 g1)."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(2, 3, 3))
    hessians = factors @ factors.transpose(0, 2, 1)
    centres, x = rng.normal(size=(2, 3)), rng.normal(size=3)
    rate = 0.05
    optimizer = optimizers.lookahead(optax.sgd(rate), 2, 1.0)

    def moved(order: tuple[int, int]) -> np.ndarray:
        q = jnp.asarray(x)
        state = optimizer.init(q)
        for domain in order:
            gradient = hessians[domain] @ (q - centres[domain])
            updates, state = optimizer.update(gradient, state, q)
            q = optax.apply_updates(q, updates)
        return x - np.asarray(q)

    g = [hessians[i] @ (x - centres[i]) for i in (0, 1)]
    average = (moved((0, 1)) + moved((1, 0))) / 2
    expected = -(rate**2 / 2) * (hessians[0] @ g[1] + hessians[1] @ g[0])
    np.testing.assert_allclose(average - rate * (g[0] + g[1]), expected, atol=1e-14)
