"""Adam with critical momenta against NumPy, worked numbers and theory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from tests.reference import support
from tests.reference.support import (
    T5,
    PyTree,
    assert_close,
    assert_worked_numbers,
    flat,
    run,
)


def reference(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    capacity: int = 5,
    decay: float = 0.7,
    learning_rate: float = 0.1,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The paper's order: aggregate, average the squares, insert, decay."""
    x, m, v = start, np.zeros_like(start), np.zeros_like(start)
    buffer: list[np.ndarray] = []
    keys: list[float] = []
    trajectory = []
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        total = m + np.mean(buffer, axis=0) if buffer else m
        v = b2 * v + (1 - b2) * total**2
        key = float(np.linalg.norm(g.ravel()))
        if len(buffer) < capacity:
            buffer.append(m)
            keys.append(key)
        elif keys and key > min(keys):
            lowest = int(np.argmin(keys))
            buffer[lowest], keys[lowest] = m, key
        keys = [decay * k for k in keys]
        x = x - learning_rate * (total / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        trajectory.append(x)
    return np.stack(trajectory), {
        "mu": m,
        "nu": v,
        "buffer": np.stack(buffer) if buffer else np.zeros((0, *start.shape)),
        "keys": np.array(keys),
    }


def states(
    optimizer: optax.GradientTransformation, start: PyTree, gradients: PyTree
) -> PyTree:
    """The state after each step."""

    def step(state: optax.OptState, g: PyTree) -> tuple[optax.OptState, PyTree]:
        _, state = optimizer.update(g, state)
        return state, state

    start, gradients = jax.tree.map(jnp.asarray, (start, gradients))
    return jax.lax.scan(step, optimizer.init(start), gradients)[1]


def test_worked_numbers(x64: None) -> None:
    worked = (
        [
            9.99999896223e-08,
            0.0740811538545,
            0.376678071182,
            -0.180133382275,
            -0.588106368592,
        ],
        (-2.99999999, -4.49591112131),
    )
    expected, _ = reference(*T5, capacity=2)
    assert_worked_numbers(expected, *worked)
    params, _ = run(optimizers.adam_cm(0.1, capacity=2), T5)
    # The first is 1 minus nearly 1: its twelve digits are not twelve of the result's.
    np.testing.assert_allclose(params[0, 0], worked[0][0], rtol=0, atol=1e-15)
    np.testing.assert_allclose(params[1:], expected[1:], rtol=1e-13)


def test_the_released_order_differs_in_the_first_step_only(x64: None) -> None:
    """There it moves nothing and stores the gradient itself in place of a momentum."""
    optimizer = optimizers.adam_cm(0.1, capacity=2)
    first, *gradients = jnp.asarray(T5.gradients)
    x = jnp.asarray(T5.start)
    own, *rest = optimizer.init(x)
    own = own._replace(
        count=own.count + 1,
        buffer=(first, own.buffer[1]),
        keys=own.keys.at[0].set(0.7 * jnp.linalg.norm(first)),
    )
    params, state = [x], (own, *rest)
    for g in gradients:
        updates, state = optimizer.update(g, state, x)
        x = optax.apply_updates(x, updates)
        params.append(x)
    worked = [1.0, 0.255863189584, 0.05149249045, -0.325177942423, -0.643654653819]
    assert_worked_numbers(np.stack(params), worked, (-2.0, -3.44285944862))
    own = state[0]
    np.testing.assert_allclose(own.keys, [1.6890825956, 1.9600000612], rtol=3e-11)
    np.testing.assert_allclose(own.buffer, [[1, 10], [0.283, -0.2699]], rtol=1e-12)
    np.testing.assert_allclose(own.mu, [0.1547, -0.04291], rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"capacity": 1, "decay": 0.99},
        {"capacity": 3, "decay": 0.0},
        {"capacity": 3, "decay": 1.0, "b1": 0.0},
        {"capacity": 0},
        {"capacity": 20, "b1": 0.5, "b2": 0.7, "eps": 1e-3},
    ],
    ids=str,
)
def test_follows_the_equations_over_the_whole_tree(
    options: dict[str, float], x64: None
) -> None:
    sequence = support.random_sequence(50)
    params, (state, *_) = run(optimizers.adam_cm(0.1, **options), sequence)
    expected, last = reference(
        flat(sequence.start), flat(sequence.gradients, 1), **options
    )
    np.testing.assert_allclose(flat(params, 1), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(state.keys, last["keys"], rtol=1e-13)
    buffer = [flat(m) for m in state.buffer]
    np.testing.assert_allclose(
        np.reshape(buffer, last["buffer"].shape), last["buffer"], rtol=1e-12
    )
    np.testing.assert_allclose(flat(state.mu), last["mu"], rtol=1e-12)
    np.testing.assert_allclose(flat(state.nu), last["nu"], rtol=1e-12)
    assert state.count == 50


def test_the_default_capacity_is_five(x64: None) -> None:
    sequence = support.random_sequence(20)
    default, _ = run(optimizers.adam_cm(0.1), sequence)
    five, _ = run(optimizers.adam_cm(0.1, capacity=5), sequence)
    assert_close(default, five, 0.0)


def test_no_capacity_is_adam_on_squares_of_the_moment(x64: None) -> None:
    sequence = support.random_sequence(50)
    params, _ = run(optimizers.adam_cm(0.1, capacity=0), sequence)

    def adam(start: np.ndarray, gradients: np.ndarray) -> tuple[np.ndarray, dict]:
        x, m, v, path = start, np.zeros_like(start), np.zeros_like(start), []
        for t, g in enumerate(gradients, start=1):
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * m**2
            m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
            x = x - 0.1 * m_hat / (np.sqrt(v_hat) + 1e-8)
            path.append(x)
        return np.stack(path), {}

    assert_close(params, support.run_reference(adam, sequence), 1e-12)


@pytest.mark.parametrize("b1", [0.0, 0.9])
def test_first_step(b1: float, x64: None) -> None:
    sequence = support.Sequence(np.zeros(2), np.array([[-5.0, 300.0]]))
    params, _ = run(optimizers.adam_cm(1.0, b1=b1), sequence)
    np.testing.assert_allclose(params[0], [1 / (1 - b1), -1 / (1 - b1)], rtol=1e-6)


def test_constant_gradients_double_the_moment_and_make_unit_steps(x64: None) -> None:
    """The buffer fills with momenta that grow to g; v then grows to |2g|^2."""
    constant = np.tile([3.0, -0.1], (12_000, 1))
    params, _ = run(optimizers.adam_cm(1.0), support.Sequence(np.zeros(2), constant))
    np.testing.assert_allclose(params[-2] - params[-1], [1.0, -1.0], rtol=1e-4)


def test_the_buffer_fills_and_keys_are_bounded(x64: None) -> None:
    gradients = support.random_sequence(50).gradients["bias"]
    history = states(optimizers.scale_by_adam_cm(capacity=4), np.zeros(3), gradients)
    used = np.count_nonzero([np.any(m, axis=1) for m in history.buffer], axis=0)
    np.testing.assert_array_equal(used, np.minimum(np.arange(1, 51), 4))
    norms = np.linalg.norm(gradients, axis=1)
    largest = np.maximum.accumulate(norms)[:, None]
    assert (np.asarray(history.keys) <= 0.7 * largest * (1 + 1e-12)).all()
    # A key is a norm decayed once for each step since: the largest bounds them all.
    decayed = [
        max(norms[s] * 0.7 ** (t - s + 1) for s in range(t + 1)) for t in range(50)
    ]
    np.testing.assert_allclose(np.max(history.keys, axis=1), decayed, rtol=1e-12)


def test_leaves_may_come_in_any_order(x64: None) -> None:
    sequence = support.random_sequence(40)
    leaves = jax.tree.leaves(sequence.start), jax.tree.leaves(sequence.gradients)
    backwards = support.Sequence(*(one[::-1] for one in leaves))
    params, _ = run(optimizers.adam_cm(0.1), sequence)
    reverse, _ = run(optimizers.adam_cm(0.1), backwards)
    assert_close(jax.tree.leaves(params), reverse[::-1], 1e-12)


@pytest.mark.parametrize("size", [1e-25, 1e19, 1e30])
def test_huge_and_tiny_gradients_leave_keys_finite_and_decaying(size: float) -> None:
    gradients = np.array([[size, -size], [1.0, 1.0], [0.0, 0.0]], np.float32)
    history = states(
        optimizers.scale_by_adam_cm(capacity=1), np.zeros(2, np.float32), gradients
    )
    assert np.isfinite(history.keys).all()
    assert (np.diff(history.keys[1:], axis=0) < 0).all()


def test_reduce_makes_parts_act_as_the_whole(x64: None) -> None:
    """Two devices, simulated by vmap, hold half of the params each."""
    gradients = jnp.asarray(np.random.default_rng(0).normal(size=(9, 2, 3)))
    parts = optimizers.scale_by_adam_cm(reduce=lambda x: jax.lax.psum(x, "data"))
    keys = jax.vmap(
        lambda g: states(parts, jnp.zeros(3), g).keys, in_axes=1, axis_name="data"
    )(gradients)
    whole = states(optimizers.scale_by_adam_cm(), jnp.zeros((2, 3)), gradients).keys
    np.testing.assert_allclose(keys, np.stack([whole, whole]), rtol=1e-13)


@pytest.mark.parametrize("capacity", [-1, 2.5, "5"])
def test_bad_capacities_are_refused(capacity: object) -> None:
    with pytest.raises(ValueError, match="adam_cm: capacity must be an integer >= 0"):
        optimizers.adam_cm(0.1, capacity=capacity)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("decay", [1.5, -0.1, float("nan")])
def test_bad_decays_are_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="adam_cm: decay must be"):
        optimizers.adam_cm(0.1, decay=decay)


def test_an_injected_capacity_must_be_static() -> None:
    inject = optax.inject_hyperparams(optimizers.adam_cm)(0.1, capacity=3)
    with pytest.raises(ValueError, match=r'adam_cm: capacity .*static_args="capacity"'):
        jax.eval_shape(inject.init, jnp.zeros(2))
    static = optax.inject_hyperparams(optimizers.adam_cm, static_args="capacity")
    state = jax.eval_shape(static(0.1, capacity=3).init, jnp.zeros(2))
    assert len(state.inner_state[0].buffer) == 3


def test_leaves_sharp_minima_where_adam_stays(x64: None) -> None:
    """x^2 / 20 with a dip of width w at -3; 29 starts around it, 500 steps."""
    widths, starts = jnp.array([0.05, 0.1, 0.2]), jnp.linspace(-6, -3.2, 29)

    def slope(x: jax.Array, w: jax.Array) -> jax.Array:
        return 0.1 * x + jnp.exp(-(((x + 3) / w) ** 2) / 2) * (x + 3) / w**2

    def escaped(
        make: Callable[[Any], optax.GradientTransformation], rates: list[float]
    ) -> np.ndarray:
        """Whether x ends outside the dip, by learning rate, width and start."""

        def descend(rate: jax.Array, w: jax.Array, x: jax.Array) -> jax.Array:
            optimizer = make(rate)

            def step(carry: PyTree, _: None) -> tuple[PyTree, None]:
                x, state = carry
                update, state = optimizer.update(slope(x, w), state, x)
                return (optax.apply_updates(x, update), state), None

            (x, _), _ = jax.lax.scan(step, (x, optimizer.init(x)), length=500)
            return x

        lanes = jnp.meshgrid(jnp.asarray(rates), widths, starts, indexing="ij")
        return np.abs(jax.jit(jnp.vectorize(descend))(*lanes) + 3) > 0.5

    shares = escaped(optimizers.adam_cm, [0.1, 0.03]).mean(axis=-1)
    np.testing.assert_array_equal(shares, [[1, 1, 1], [1, 14 / 29, 0]])
    adam = escaped(optimizers.adam, [0.1, 0.03, 0.3])
    assert not adam[:2].any()
    # From -4, a larger rate takes Adam out of the narrowest dip alone.
    np.testing.assert_array_equal(adam[2, :, 20], [True, False, False])
