"""Lookahead inside and around other transformations, and on trees of every kind."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import lookahead, lookahead_params, sam, sharpness_aware

START = {"bias": jnp.array([1.0, -2.0]), "kernel": jnp.arange(6.0).reshape(2, 3)}


def loss(params: Any) -> jax.Array:
    return sum(jnp.sum((x - 3.0) ** 2) for x in jax.tree.leaves(params)) / 2


def descend(
    optimizer: optax.GradientTransformation, steps: int, params: Any = None
) -> tuple[Any, Any]:
    """Params and state after so many steps of one compiled program."""
    start = START if params is None else params

    @jax.jit
    def run(params: Any) -> tuple[Any, Any]:
        def step(_: int, carry: tuple) -> tuple:
            params, state = carry
            grads = jax.grad(loss)(params)
            updates, state = optax.with_extra_args_support(optimizer).update(
                grads, state, params, value_fn=loss, value=loss(params), foreign=1.0
            )
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, steps, step, (params, optimizer.init(params)))

    return run(start)


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-6) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        actual,
        expected,
    )


@pytest.fixture(scope="module")
def alone() -> Any:
    """The slow weights after 7 steps with a synchronization at 3 and 6."""
    params, state = descend(lookahead(optax.sgd(0.1), 3, 0.5), 7)
    slow = lookahead_params(state, params)
    assert not np.allclose(slow["bias"], params["bias"])
    return slow


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: optax.chain(optax.scale(2.0), optax.scale(0.5), tx),
        lambda tx: optax.named_chain(("first", optax.identity()), ("then", tx)),
        lambda tx: optax.masked(tx, {"bias": True, "kernel": True}),
        lambda tx: optax.masked(tx, True),
        lambda tx: optax.partition({"a": tx, "b": tx}, {"bias": "a", "kernel": "b"}),
        lambda tx: optax.apply_if_finite(tx, 3),
        lambda tx: optax.MultiSteps(tx, 1).gradient_transformation(),
    ],
    ids=["chain", "named_chain", "masked", "prefix", "partition", "finite", "multi"],
)
def test_works_inside_wrappers(wrap: Any, alone: Any) -> None:
    tx = wrap(lookahead(optax.sgd(0.1), 3, 0.5))
    params, state = descend(tx, 7)
    assert_close(lookahead_params(state, params), alone)


def test_hyperparameters_may_be_injected(alone: Any) -> None:
    tx = optax.inject_hyperparams(lookahead)(optax.sgd(0.1), 3, 0.5)
    params, state = descend(tx, 7)
    assert_close(lookahead_params(state, params), alone)
    state.hyperparams["slow_step_size"] = jnp.zeros_like(
        state.hyperparams["slow_step_size"]
    )
    for _ in range(2):  # the ninth step is the next synchronization
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
    assert_close(params, alone)


def test_inside_multi_steps_counts_whole_steps(alone: Any) -> None:
    tx = optax.MultiSteps(lookahead(optax.sgd(0.1), 3, 0.5), 2)
    params, state = descend(tx.gradient_transformation(), 14)
    assert_close(lookahead_params(state, params), alone)


def test_masked_out_leaves_are_those_of_the_params(alone: Any) -> None:
    nested = {"net": START, "rest": {"a": jnp.ones(2), "b": jnp.ones(3)}}
    tx = optax.partition(
        {"free": lookahead(optax.sgd(0.1), 3, 0.5), "still": optax.set_to_zero()},
        {"net": "free", "rest": "still"},  # a prefix, for a subtree each
    )
    params, state = descend(tx, 7, nested)
    assert_close(lookahead_params(state, params), {**nested, "net": alone})


def test_extra_arguments_reach_the_optimizer() -> None:
    seen = []

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        seen.append((sorted(extra), params))
        return updates, state

    tx = lookahead(optax.GradientTransformationExtraArgs(lambda params: (), update))
    x = jnp.zeros(2)
    tx.update(x, tx.init(x), x, value=1.0, foreign=2.0)
    assert seen == [(["foreign", "value"], x)]


def test_schedule_and_line_search_inside() -> None:
    schedule = optax.linear_schedule(0.4, 0.1, 10)
    params, state = descend(lookahead(optax.sgd(schedule), 3, 0.5), 90)
    assert_close(
        lookahead_params(state, params), jax.tree.map(lambda x: 0 * x + 3, START), 0.1
    )
    assert state.inner_state[1].count == 90
    search = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(10))

    x = jnp.ones(2)
    tx = lookahead(search, 2)
    grads = jax.grad(loss)(x)
    _, state = tx.update(grads, tx.init(x), x, value=loss(x), grad=grads, value_fn=loss)
    assert np.isfinite(state.inner_state[1].learning_rate)


def test_sharpness_aware_before_or_inside_is_the_same() -> None:
    prefix = optax.chain(sharpness_aware(0.05), lookahead(optax.sgd(0.1), 3))
    inside = lookahead(sam(optax.sgd(0.1), 0.05), 3)
    one, other = descend(prefix, 7), descend(inside, 7)
    assert_close(one[0], other[0])
    assert_close(lookahead_params(one[1], one[0]), lookahead_params(other[1], other[0]))


def test_leaves_without_gradients_survive() -> None:
    """Integers, keys, None and masked nodes, in the params and in the state."""
    params = {
        "x": jnp.array([1.0, 2.0], jnp.bfloat16),
        "n": jnp.arange(3),
        "key": jax.random.key(7),
        "none": None,
        "masked": optax.MaskedNode(),
    }
    grads = {
        **jax.tree.map(lambda x: np.zeros(x.shape, jax.dtypes.float0), params),
        "x": jnp.ones(2, jnp.bfloat16),
    }

    def init(params: Any) -> Any:
        return {"key": jax.random.key(0), "n": jnp.zeros(2, jnp.int32), "none": None}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        state = {**state, "key": jax.random.split(state["key"])[0], "n": state["n"] + 1}
        return {**updates, "x": -0.25 * updates["x"]}, state

    tx = lookahead(optax.GradientTransformation(init, update), 2, inner_state="reset")
    step, state = jax.jit(tx.update), jax.jit(tx.init)(params)
    for t in range(2):
        updates, state = step(grads, state, params)
        np.testing.assert_array_equal(state.inner_state["n"], [1 - t, 1 - t])
        params["x"] = params["x"] + updates["x"]
    first = jax.random.key_data(jax.random.key(0))
    np.testing.assert_array_equal(jax.random.key_data(state.inner_state["key"]), first)
    assert updates["n"].dtype == jax.dtypes.float0
    got = lookahead_params(state, params)
    assert got["x"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(state.slow["x"], np.array([0.75, 1.75], np.float32))
    np.testing.assert_array_equal(got["n"], np.arange(3))
    assert got["key"] is params["key"]
    assert got["masked"] == optax.MaskedNode()
    assert got["none"] is None


def test_slow_weights_of_narrow_params_do_not_stall() -> None:
    """Steps of a thousandth of the weight, half of which bfloat16 cannot add."""
    tx = lookahead(optax.sgd(1.0), 1, 0.125)
    x = jnp.ones(2, jnp.bfloat16)
    state, step = tx.init(x), jax.jit(tx.update)
    for _ in range(64):  # the params stay: what counts is where the slow weights go
        _, state = step(jnp.full(2, 2.0**-7, jnp.bfloat16), state, x)
    assert state.slow.dtype == jnp.float32
    expected = (1.0 - 2.0**-7) + 2.0**-7 * 0.875**64
    np.testing.assert_allclose(state.slow, expected, rtol=1e-6)


@pytest.mark.parametrize("inner_state", ["maintain", "reset", "pullback"])
def test_buffers_may_be_donated(inner_state: str) -> None:
    tx = lookahead(optimizers.adam(0.1), 2, inner_state=inner_state)
    params = jax.tree.map(jnp.copy, START)
    state = tx.init(params)

    def update(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(update, donate_argnums=(0, 1))
    for _ in range(3):
        params, state = step(params, state, START)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((params, state)))


def test_needs_no_memory_beyond_its_state() -> None:
    """Nor a second copy of the optimizer's step."""
    tx = lookahead(optimizers.adam(0.1))
    x = jax.ShapeDtypeStruct((100_000,), jnp.float32)

    def update(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.eval_shape(tx.init, x)
    step = jax.jit(update, donate_argnums=(0, 1)).lower(x, state, x).compile()
    assert step.memory_analysis().temp_size_in_bytes < 4 * 1000


@pytest.mark.parametrize("inner_state", ["maintain", "pullback"])
def test_slow_weights_and_momenta_are_mapped_as_params(inner_state: str) -> None:
    tx = lookahead(optimizers.adam(0.1), inner_state=inner_state)
    state = tx.init(START)
    names = {"bias": "bias", "kernel": "kernel"}
    mapped = optax.tree.map_params(tx, lambda _, name: name, state, names)
    assert mapped.slow == names
    assert mapped.inner_state[0].mu == names
    if inner_state == "pullback":
        assert mapped.momenta == [names]


def test_pullback_leaves_second_moments() -> None:
    tx = lookahead(optimizers.adam(0.1), 1, 0.25, inner_state="pullback")
    plain = lookahead(optimizers.adam(0.1), 1, 0.25)
    (_, pulled), (_, kept) = descend(tx, 1), descend(plain, 1)
    assert_close(pulled.inner_state[0].nu, kept.inner_state[0].nu, 0.0)
    quarter = jax.tree.map(lambda m: 0.25 * m, kept.inner_state[0].mu)
    assert_close(pulled.inner_state[0].mu, quarter)
    assert_close(pulled.momenta[0], quarter)


def test_reset_starts_from_the_synchronized_params() -> None:
    tx = lookahead(optimizers.prodigy(d0=0.1), 2, 0.5, inner_state="reset")
    params, state = descend(tx, 2)
    assert_close(state.inner_state[0].start, params, 0.0)
    assert state.inner_state[0].count == 0


@pytest.mark.parametrize(
    "optimizer", [None, optax.sgd, 0.1, optax.constant_schedule(1)]
)
def test_base_must_be_a_transformation(optimizer: Any) -> None:
    with pytest.raises(TypeError, match=r"^lookahead: optimizer .*optax\.sgd\(0\.1\)"):
        lookahead(optimizer)


@pytest.mark.parametrize(
    "options",
    [
        {"sync_period": 0},
        {"sync_period": float("nan")},
        {"slow_step_size": -0.1},
        {"inner_state": "keep"},
    ],
    ids=str,
)
def test_hyperparameters_are_checked(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=rf"^lookahead: {name} must be .*got"):
        lookahead(optax.sgd(0.1), **options)


def test_error_messages() -> None:
    x = jnp.zeros(2)
    tx = lookahead(optax.sgd(0.1))
    with pytest.raises(ValueError, match="update\\(grads, state, params\\)"):
        tx.update(x, tx.init(x))
    with pytest.raises(ValueError, match=r"at \['a'\] got \(1,\), not \(2,\)"):
        tx.update({"a": jnp.zeros(1)}, tx.init({"a": x}), {"a": x})
    with pytest.raises(ValueError, match="there is no lookahead in this state"):
        lookahead_params(optax.adam(0.1).init(x), x)
    with pytest.raises(ValueError, match="needs an optimizer with momentum"):
        lookahead(optax.sgd(0.1), inner_state="pullback").init(x)
