"""INNAprop against the released form in NumPy, worked numbers, Adam and theory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import testing
from tests.reference import support
from tests.reference.support import T5, assert_close, assert_worked_numbers, run


def reference(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    learning_rate: float | np.ndarray,
    alpha: float = 0.1,
    beta: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Bolte et al., Algorithm 1, with psi and without a division by beta - rate."""
    rates = np.broadcast_to(learning_rate, len(gradients))
    x, v = start, np.zeros_like(start.real)
    psi = (1 - alpha * beta) * start
    trajectory = []
    for t, g in enumerate(gradients, start=1):
        rate = rates[t - 1]
        x = (1 - rate * weight_decay) * x
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        scaled = g / (np.sqrt(v / (1 - b2**t)) + eps)
        pull = (1 / beta - alpha) * x - psi / beta
        x = x + rate * (pull - beta * scaled)
        psi = psi + rate * pull
        trajectory.append(x)
    velocity = (1 / beta - alpha) * x - psi / beta
    return np.stack(trajectory), {"nu": v, "psi": psi, "velocity": velocity}


def released(
    start: np.ndarray, gradients: np.ndarray, *, rates: np.ndarray
) -> np.ndarray:
    """The order of the released code, which moves psi first, at its defaults."""
    alpha, beta, b2, eps, decay = 0.1, 0.9, 0.999, 1e-8, 0.01
    x, v, psi = start, np.zeros_like(start), (1 - alpha * beta) * start
    trajectory = []
    for t, (rate, g) in enumerate(zip(rates, gradients, strict=True), start=1):
        x = x - rate * decay * x
        v = b2 * v + (1 - b2) * g**2
        psi = (1 - rate / beta) * psi + rate * (1 / beta - alpha) * x
        kept = 1 + rate * (1 - alpha * beta) / (beta - rate)
        x = kept * x - rate / (beta - rate) * psi
        x = x - rate * beta * g / (np.sqrt(v) / np.sqrt(1 - b2**t) + eps)
        trajectory.append(x)
    return np.stack(trajectory)


WORKED = {
    (0.1, 0.9, 0.0): (
        [0.9100000009, 1.01472491504, 0.983205641452, 0.826126757804, 0.852039367268],
        (-2.08999999991, -2.10994366686),
    ),
    (0.1, 0.9, 0.01): (
        [
            0.908898889789,
            1.01252290526,
            0.979698651674,
            0.821251478432,
            0.845875093734,
        ],
        (-2.08779777769, -2.09657460751),
    ),
    (2.0, 2.0, 0.0): (
        [0.800000002, 1.08294425514, 0.993404311975, 0.646670469862, 0.793641200393],
        (-2.1999999998, -2.12299006702),
    ),
}


@pytest.mark.parametrize("arguments", WORKED, ids=str)
def test_worked_numbers(arguments: tuple[float, float, float], x64: None) -> None:
    options = dict(zip(("alpha", "beta", "weight_decay"), arguments, strict=True))
    expected, _ = reference(*T5, learning_rate=0.1, **options)
    assert_worked_numbers(expected, *WORKED[arguments])
    params, _ = run(optimizers.innaprop(0.1, **options), T5)
    assert_worked_numbers(params, *WORKED[arguments])


def test_worked_state(x64: None) -> None:
    _, expected = reference(*T5, learning_rate=0.1, weight_decay=0.0)
    params, state = run(optimizers.innaprop(0.1, weight_decay=0.0), T5)
    velocity = np.asarray(state[0].velocity)
    np.testing.assert_allclose(velocity, expected["velocity"], rtol=1e-12)
    psi = (1 - 0.1 * 0.9) * params[-1] - 0.9 * velocity
    np.testing.assert_allclose(psi, [0.88569522, -1.84684274], atol=5e-9)
    np.testing.assert_allclose(state[0].nu, expected["nu"], rtol=1e-14)
    assert state[0].count == 5


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.0},
        {"alpha": 2.0, "beta": 2.0, "weight_decay": 0.1},
        {"alpha": 0.0, "beta": 0.5, "b2": 0.7, "eps": 1e-3},
    ],
    ids=str,
)
def test_follows_the_equations(options: dict[str, float]) -> None:
    testing.assert_matches_reference(
        optimizers.innaprop(0.1, **options),
        lambda x, g: reference(x, g, learning_rate=0.1, **options)[0],
    )


def test_equals_the_released_order_at_any_rate(x64: None) -> None:
    """The rate starts and ends at 0, and the params decay."""
    rates = 0.3 * np.sin(np.linspace(0.0, np.pi, 50))
    sequence = support.random_sequence(50, seed=1)
    params, _ = run(
        optimizers.innaprop(lambda count: jnp.asarray(rates)[count]), sequence
    )
    expected = jax.tree.map(lambda x, g: released(x, g, rates=rates), *sequence)
    assert_close(params, expected, 1e-12)
    also = support.run_reference(
        lambda x, g: reference(x, g, learning_rate=rates), sequence
    )
    assert_close(params, also, 1e-12)


def test_a_rate_of_beta_is_no_singularity(x64: None) -> None:
    sequence = support.random_sequence(50)
    params, _ = run(optimizers.innaprop(0.9), sequence)
    expected = support.run_reference(
        lambda x, g: reference(x, g, learning_rate=0.9), sequence
    )
    assert_close(params, expected, 1e-12)


def test_decay_follows_schedule_and_mask(x64: None) -> None:
    decays = np.linspace(0.0, 0.5, 50)
    sequence = support.random_sequence(50, seed=2)
    mask = {"bias": False, "layers": True, "scale": False}
    optimizer = optimizers.innaprop(
        0.1,
        weight_decay=lambda count: jnp.asarray(decays)[count],
        weight_decay_mask=mask,
    )
    params, _ = run(optimizer, sequence)
    plain, _ = run(optimizers.innaprop(0.1, weight_decay=0.0), sequence)
    for name in ("bias", "scale"):
        np.testing.assert_array_equal(params[name], plain[name])

    x, v = sequence.start["layers"][0], 0.0
    psi = (1 - 0.1 * 0.9) * x
    for t, g in enumerate(sequence.gradients["layers"][0], start=1):
        x = (1 - 0.1 * decays[t - 1]) * x
        v = 0.999 * v + 0.001 * g**2
        pull = (1 / 0.9 - 0.1) * x - psi / 0.9
        x = x + 0.1 * (pull - 0.9 * g / (np.sqrt(v / (1 - 0.999**t)) + 1e-8))
        psi = psi + 0.1 * pull
    np.testing.assert_allclose(params["layers"][0][-1], x, rtol=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 2.0), (2.0, 0.5), (1.0, 1.0)])
def test_reciprocal_damping_is_adam_without_momentum(
    alpha: float, beta: float, x64: None
) -> None:
    sequence = support.random_sequence(50)
    params, state = run(
        optimizers.innaprop(0.1, alpha, beta, weight_decay=0.0), sequence
    )
    expected, _ = run(optimizers.adam(0.1 * beta, b1=0.0), sequence)
    assert_close(params, expected, 1e-14)
    for velocity in jax.tree.leaves(state[0].velocity):
        np.testing.assert_array_equal(velocity, 0.0)


def test_first_step(x64: None) -> None:
    sequence = support.Sequence(np.zeros(3), np.array([[5.0, -300.0, 0.0]]))
    params, _ = run(optimizers.innaprop(0.1), sequence)
    np.testing.assert_allclose(params[0], [-0.09, 0.09, 0.0], rtol=1e-8)


def test_updates_are_invariant_to_translation(x64: None) -> None:
    sequence = support.random_sequence(50)
    params, _ = run(optimizers.innaprop(0.1, weight_decay=0.0), sequence)
    moved = jax.tree.map(lambda x: x + 3.0, sequence.start)
    shifted, _ = run(
        optimizers.innaprop(0.1, weight_decay=0.0),
        support.Sequence(moved, sequence.gradients),
    )
    assert_close(jax.tree.map(lambda x: x - 3.0, shifted), params, 1e-13)


def test_updates_are_invariant_to_gradient_scale_without_eps(x64: None) -> None:
    sequence = support.random_sequence(50)
    params, _ = run(optimizers.innaprop(0.1, eps=0.0), sequence)
    for factor in (2.0**-40, 2.0**40):
        scaled = jax.tree.map(lambda g, f=factor: f * g, sequence.gradients)
        result, _ = run(
            optimizers.innaprop(0.1, eps=0.0), support.Sequence(sequence.start, scaled)
        )
        jax.tree.map(np.testing.assert_array_equal, result, params)


def test_velocity_decays_at_the_rate_of_its_friction(x64: None) -> None:
    """One gradient, then zeros: p shrinks by 1 - alpha rate, and x follows it."""
    gradients = np.zeros((40, 1))
    gradients[0] = 2.0
    params, _ = run(
        optimizers.innaprop(0.1, 0.5, 0.9, weight_decay=0.0),
        support.Sequence(np.ones(1), gradients),
    )
    steps = np.diff(params[:, 0])
    np.testing.assert_allclose(steps[1:] / steps[:-1], 1 - 0.5 * 0.1, rtol=1e-12)
    np.testing.assert_allclose(steps[0], -0.1 * 0.1 * (1 - 0.45), rtol=1e-8)


def test_a_rate_of_zero_freezes_params_and_velocity(x64: None) -> None:
    sequence = support.random_sequence(3)
    optimizer = optimizers.innaprop(lambda count: jnp.where(count < 2, 0.1, 0.0))
    params, state = run(optimizer, sequence)
    _, before = run(
        optimizers.innaprop(0.1),
        support.Sequence(
            sequence.start, jax.tree.map(lambda g: g[:2], sequence.gradients)
        ),
    )
    jax.tree.map(np.testing.assert_array_equal, state[0].velocity, before[0].velocity)
    for trajectory in jax.tree.leaves(params):
        np.testing.assert_array_equal(trajectory[2], trajectory[1])


def test_damping_along_the_curvature_prevents_overshoot(x64: None) -> None:
    """INNA, which does not scale the gradient, on x^2 / 2 from 1: the lowest x.

    An eps of 1e12 scales the gradient by 1e-12 and nothing else; in units of a
    million for time that is the equation with a scale of 1.
    """

    def lowest(alpha: float, beta: float) -> float:
        optimizer = optimizers.innaprop(
            0.05e6, 1e-6 * alpha, 1e6 * beta, eps=1e12, weight_decay=0.0
        )

        def step(carry: support.PyTree, _: None) -> tuple[support.PyTree, jax.Array]:
            x, state = carry
            updates, state = optimizer.update(x, state, x)
            x = optax.apply_updates(x, updates)
            return (x, state), x

        x = jnp.ones([])
        return float(jax.lax.scan(step, (x, optimizer.init(x)), length=1000)[1].min())

    found = [lowest(0.5, beta) for beta in (0.01, 0.1, 0.5, 1.0)]
    expected = [-0.4737, -0.4055, -0.2062, -0.0852]
    np.testing.assert_allclose(found, expected, atol=5e-5)
    assert lowest(2.0, 2.0) > 0.0


def test_complex_gradients_keep_their_phase(x64: None) -> None:
    rng = np.random.default_rng(0)
    start, *gradients = rng.normal(size=(51, 3)) + 1j * rng.normal(size=(51, 3))
    sequence = support.Sequence(start, np.stack(gradients))
    params, state = run(optimizers.innaprop(0.1), sequence)
    assert_close(params, reference(*sequence, learning_rate=0.1)[0], 1e-12)
    assert state[0].nu.dtype == np.float64
    assert state[0].velocity.dtype == np.complex128


def test_velocity_of_bfloat16_params_does_not_stall() -> None:
    """In bfloat16 p would stop where a step adds less than half a unit in its place."""
    gradients = np.ones((2000, 1))
    primitive = optimizers.scale_by_innaprop(0.001, weight_decay=0.0)
    sequence = support.Sequence(np.zeros(1), gradients)
    _, state = run(primitive, support.cast(sequence, jnp.bfloat16))
    assert state.velocity.dtype == jnp.float32
    expected = reference(*sequence, learning_rate=0.001, weight_decay=0.0)[1]
    np.testing.assert_allclose(state.velocity, expected["velocity"], rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": -0.1}, "alpha must be a finite number >= 0"),
        ({"beta": 0.0}, "beta must be a finite number > 0"),
        ({"b2": 1.0}, "b2 must be in"),
        ({"eps": -1.0}, "eps must be a finite number >= 0"),
        ({"weight_decay": -1.0}, "weight_decay must be a finite number >= 0"),
    ],
)
def test_refuses(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^innaprop: {message}"):
        optimizers.innaprop(0.1, **arguments)
    with pytest.raises(ValueError, match=f"^scale_by_innaprop: {message}"):
        optimizers.scale_by_innaprop(0.1, **arguments)


def test_decay_needs_params() -> None:
    optimizer = optimizers.innaprop(0.1)
    state = optimizer.init(jnp.ones(2))
    with pytest.raises(ValueError, match=r"^innaprop: update\(\) needs params"):
        optimizer.update(jnp.ones(2), state)
