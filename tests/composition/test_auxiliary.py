"""Methods with an auxiliary gradient inside optax, and on eight devices."""

import doctest
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from tests.devices import run_on_eight_devices

PyTree = Any

METHODS: dict[str, Callable[..., optax.GradientTransformationExtraArgs]] = {
    "bloop": functools.partial(optimizers.bloop, 0.5, ema_rate=0.3),
    "several": functools.partial(optimizers.bloop, (0.5, 0.2), ema_rate=0.3),
    "mixed_gradients": functools.partial(optimizers.mixed_gradients, 0.5),
    "pcgrad": functools.partial(optimizers.pcgrad, 0.5),
    "dynamic_barrier": functools.partial(optimizers.dynamic_barrier, 0.5),
    "mgda": optimizers.mgda,
    "cagrad": optimizers.cagrad,
    "gradvac": optimizers.gradvac,
}
methods = pytest.mark.parametrize("name", METHODS)
REDUCING = {
    **METHODS,
    "clip_by_global_norm": functools.partial(optimizers.clip_by_global_norm, 0.5),
}

PARAMS = {"b": jnp.array([0.5, -1.0, 2.0]), "w": jnp.ones((2, 3))}
MAIN = [
    {"b": jnp.array([1.0, 2.0, -1.0]), "w": jnp.arange(6.0).reshape(2, 3)},
    {"b": jnp.array([0.5, -1.0, 0.25]), "w": jnp.cos(jnp.arange(6.0)).reshape(2, 3)},
]
AUX = [
    {"b": jnp.array([0.3, -1.0, 2.0]), "w": jnp.sin(jnp.arange(6.0)).reshape(2, 3)},
    {"b": jnp.array([1.0, 1.0, 1.0]), "w": -jnp.arange(6.0).reshape(2, 3)},
]


def aux_for(name: str, aux: PyTree) -> PyTree:
    other = lambda x: x + 1.0 if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    return (aux, jax.tree.map(other, aux)) if name == "several" else aux


def run(tx: Any, main: list[PyTree], aux: list[PyTree], params: PyTree = PARAMS) -> Any:
    """The updates of each step, and the final state."""
    update = jax.jit(tx.update)
    state, rows = tx.init(params), []
    for g, a in zip(main, aux, strict=True):
        updates, state = update(g, state, params, aux_grads=a)
        rows.append(updates)
    return rows, state


def assert_close(actual: PyTree, expected: PyTree, rtol: float = 1e-5) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=rtol, atol=1e-6),
        actual,
        expected,
    )


@pytest.mark.parametrize("name", [n for n in METHODS if n != "several"])
def test_example_of_the_docstring_runs(name: str) -> None:
    factory = getattr(optimizers, name)
    [example] = doctest.DocTestFinder(recurse=False).find(factory, name)
    printed: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=printed.append)
    assert example.examples
    assert not printed, "".join(printed)


@methods
def test_before_an_optimizer_in_a_chain(name: str) -> None:
    """Adam sees the direction as if it were the gradient; the rest is ignored."""
    aux = [aux_for(name, a) for a in AUX]
    directions, _ = run(METHODS[name](), MAIN, aux)
    expected, _ = run(optimizers.adam(0.1), directions, aux)
    chained = optax.chain(METHODS[name](), optimizers.adam(0.1))
    got, _ = run(chained, MAIN, aux)
    assert_close(got, expected)
    bound = jax.jit(functools.partial(chained.update, value=1.0, an_unknown_one=2.0))
    updates, _ = bound(MAIN[0], chained.init(PARAMS), PARAMS, aux_grads=aux[0])
    assert_close(updates, expected[0])


@methods
def test_other_leaves_pass_through(name: str) -> None:
    nothing = {"none": None, "masked": optax.MaskedNode()}
    key = jax.random.key(3)

    def around(tree: PyTree, steps: Any) -> PyTree:
        return {"tree": tree, "key": key, "steps": steps, **nothing}

    count = jnp.arange(3)
    no_gradient = np.zeros(3, jax.dtypes.float0)
    params = around(PARAMS, count)
    aux = [aux_for(name, a) for a in AUX]
    expected, _ = run(METHODS[name](), MAIN, aux)
    tx = METHODS[name]()
    state = tx.init(params)
    for step, (g, a) in enumerate(zip(MAIN, AUX, strict=True)):
        steps = count if step else no_gradient
        wrapped = around(g, steps)
        updates, state = tx.update(
            wrapped, state, params, aux_grads=aux_for(name, around(a, steps))
        )
        assert_close(updates["tree"], expected[step])
        assert updates["steps"] is steps
        assert updates["key"] is key
        assert jax.tree.structure(updates) == jax.tree.structure(wrapped)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    mapped = optax.tree.map_params(tx, lambda x: x, state)
    assert jax.tree.structure(mapped) == jax.tree.structure(state)


def test_complex_gradients_as_pairs_of_real_ones(x64: None) -> None:
    pairs = np.random.default_rng(0).normal(size=(2, 2, 2, 5))  # [main or aux, step]
    joined = pairs[:, :, 0] + 1j * pairs[:, :, 1]

    @jax.jit
    def every(main: jax.Array, aux: jax.Array) -> list[jax.Array]:
        seconds = []
        for name, factory in REDUCING.items():
            tx = factory()
            state = tx.init(main[0])
            for g, a in zip(main, aux, strict=True):
                given = (a, g) if name == "several" else a
                direction, state = tx.update(g, state, aux_grads=given)
            seconds.append(direction)
        return seconds

    for got, expected in zip(every(*joined), every(*pairs), strict=True):
        np.testing.assert_allclose(got, expected[0] + 1j * expected[1], rtol=1e-12)


def test_the_state_is_like_the_params_for_optax() -> None:
    tx = optax.chain(METHODS["several"](), optimizers.adam(0.1))
    seen: list[Any] = []
    optax.tree.map_params(tx, lambda x: seen.append(x.shape) or x, tx.init(PARAMS))
    assert sorted(seen) == sorted(4 * [(3,), (2, 3)])  # m, m_1, mu and nu


def test_multi_steps_after_it_accumulates_directions() -> None:
    """The way to accumulate: each mini-batch has its own auxiliary gradient."""
    directions, _ = run(METHODS["bloop"](), MAIN, AUX)
    mean = jax.tree.map(lambda a, b: 0.5 * (a + b), *directions)
    after = optax.chain(METHODS["bloop"](), optax.MultiSteps(optax.sgd(0.1), 2))
    updates, _ = run(after, MAIN, AUX)
    assert_close(updates[1], jax.tree.map(lambda x: -0.1 * x, mean))


def test_multi_steps_around_it_sees_the_last_auxiliary_gradient() -> None:
    around = optax.MultiSteps(METHODS["bloop"](), 2)
    updates, state = run(around, MAIN, AUX)
    mean = jax.tree.map(lambda a, b: 0.5 * (a + b), *MAIN)
    expected, inner = run(METHODS["bloop"](), [mean], AUX[1:])
    assert_close(updates[1], expected[0])
    assert_close(state.inner_opt_state.grad_average, inner.grad_average)


@pytest.mark.parametrize("name", [n for n in METHODS if n != "several"])
def test_masked_and_partition_run_on_their_group(name: str) -> None:
    """Sums run over the leaves of the group: the method as if these were all."""
    alone = lambda trees: [{"w": tree["w"]} for tree in trees]  # noqa: E731
    expected, _ = run(METHODS[name](), alone(MAIN), alone(AUX), {"w": PARAMS["w"]})
    masked = optax.masked(
        METHODS[name](), {"b": False, "w": True}, mask_compatible_extra_args=True
    )
    parts = optax.partition(
        {"surgery": METHODS[name](), "plain": optax.identity()},
        {"b": "plain", "w": "surgery"},
        mask_compatible_extra_args=True,
    )
    for tx in (masked, parts):
        updates, _ = run(tx, MAIN, AUX)
        assert_close([{"w": u["w"]} for u in updates], expected)
        np.testing.assert_array_equal(updates[1]["b"], MAIN[1]["b"])


def test_masked_without_its_argument_raises() -> None:
    tx = optax.masked(METHODS["bloop"](), {"b": False, "w": True})
    with pytest.raises(ValueError, match="mask_compatible_extra_args=True"):
        tx.update(MAIN[0], tx.init(PARAMS), PARAMS, aux_grads=AUX[0])
    several = optax.masked(
        METHODS["several"](), {"b": False, "w": True}, mask_compatible_extra_args=True
    )
    with pytest.raises(ValueError, match="aux_grads"):
        several.update(MAIN[0], several.init(PARAMS), PARAMS, aux_grads=tuple(AUX))


@pytest.mark.parametrize(
    "factory",
    [
        optimizers.bloop,
        optimizers.mixed_gradients,
        optimizers.pcgrad,
        optimizers.dynamic_barrier,
    ],
)
def test_weights_are_injected_scheduled_and_swept(factory: Any) -> None:
    expected, _ = run(factory(0.5), MAIN, AUX)
    injected = optax.inject_hyperparams(factory)(aux_weight=0.5)
    got, _ = run(injected, MAIN, AUX)
    assert_close(got, expected)
    schedule = lambda count: jnp.where(count < 1, 0.5, 0.0)  # noqa: E731
    for tx in (factory(schedule), optax.inject_hyperparams(factory)(schedule)):
        got, _ = run(tx, MAIN, AUX)
        assert_close(got, [expected[0], MAIN[1]])
    first = lambda weight: run(factory(weight), MAIN[:1], AUX[:1])[0][0]  # noqa: E731
    weights = jnp.array([0.5, 0.0])
    swept = jax.vmap(first)(weights)
    assert_close(jax.tree.map(lambda x: x[0], swept), expected[0])
    assert_close(jax.tree.map(lambda x: x[1], swept), MAIN[0])
    slope = jax.grad(lambda weight: jnp.sum(first(weight)["w"]))(0.0)
    assert jnp.isfinite(slope)
    assert slope != 0.0


@methods
def test_a_step_that_is_not_finite_changes_no_state(name: str) -> None:
    tx = optax.apply_if_finite(METHODS[name](), max_consecutive_errors=3)
    bad = jax.tree.map(lambda x: x * jnp.nan, MAIN[1])
    aux = [aux_for(name, a) for a in AUX]
    _, before = run(tx, MAIN[:1], aux[:1])
    updates, after = run(tx, [MAIN[0], bad], aux)
    assert_close(updates[1], jax.tree.map(jnp.zeros_like, bad))
    jax.tree.map(np.testing.assert_array_equal, before.inner_state, after.inner_state)


def test_inside_schedule_free() -> None:
    base = optax.chain(METHODS["bloop"](), optax.sgd(0.1))
    tx = optax.contrib.schedule_free(base, 0.1, b1=0.9)
    updates, state = run(tx, MAIN, AUX)
    plain, _ = run(optax.contrib.schedule_free(optax.sgd(0.1), 0.1, b1=0.9), MAIN, AUX)
    assert not np.allclose(updates[1]["w"], plain[1]["w"])
    _, alone = run(METHODS["bloop"](), MAIN, AUX)
    assert_close(state.base_optimizer_state[0].grad_average, alone.grad_average)


# Prints the largest error, relative to the largest entry, of the second direction of
# each method: for sharded params under jit, and for parts under shard_map.
PROGRAM = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from tests.composition.test_auxiliary import REDUCING, aux_for

assert jax.device_count() == 8
rng = np.random.default_rng(0)
grads, aux = (
    [{"b": rng.normal(size=16).astype("f"), "w": rng.normal(size=(8, 3)).astype("f")}
     for _ in range(2)]
    for _ in range(2)
)

def second(grads, aux, reduce=None):
    answers = {}
    for name, factory in REDUCING.items():
        sums = reduce is not None and name != "mixed_gradients"
        tx = factory(reduce=reduce) if sums else factory()
        state = tx.init(grads[0])
        for g, a in zip(grads, aux):
            direction, state = tx.update(g, state, aux_grads=aux_for(name, a))
        answers[name] = direction
    return answers

expected = jax.jit(second)(grads, aux)
mesh = jax.make_mesh((8,), ("data",))
sharded = jax.device_put((grads, aux), NamedSharding(mesh, P("data")))
under_jit = jax.jit(second)(*sharded)
parts = jax.shard_map(
    lambda g, a: second(g, a, lambda x: jax.lax.psum(x, "data")),
    mesh=mesh, in_specs=P("data"), out_specs=P("data"),
)
under_shard_map = jax.jit(parts)(*sharded)

def error(got, wanted):
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(wanted))
    return max(float(np.abs(g - w).max() / np.abs(w).max()) for g, w in pairs)

json.dump({n: [error(under_jit[n], e), error(under_shard_map[n], e)]
           for n, e in expected.items()}, sys.stdout)
"""


def test_eight_devices_equal_one() -> None:
    errors = run_on_eight_devices(PROGRAM)
    assert errors.keys() == REDUCING.keys()
    for name, found in errors.items():
        assert max(found) < 1e-5, (name, found)
