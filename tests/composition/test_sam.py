"""The SAM family inside the pipelines that people build: chains, wrappers, devices."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix
import pytest
from flax import nnx

import optimizers
from optimizers import (
    _friendly_sam,
    _gsam,
    _imbsam,
    _looksam,
    _sharpness_aware,
    catalog,
)
from optimizers._sam_value_and_grad import sam_value_and_grad
from optimizers._sharpness_aware import sam, sharpness_aware
from optimizers.catalog import Kind
from tests.devices import run_on_eight_devices
from tests.reference.landscapes import Q, run

PyTree = Any
PREFIXES = [
    _sharpness_aware.sharpness_aware,
    _gsam.gsam_gradient,
    _looksam.looksam_gradient,
    _friendly_sam.friendly_sam_gradient,
    _imbsam.imbsam_gradient,
]
WRAPPERS = [
    _sharpness_aware.sam,
    _sharpness_aware.asam,
    _gsam.gsam,
    _looksam.looksam,
    _friendly_sam.friendly_sam,
    _imbsam.imbsam,
]
prefixes = pytest.mark.parametrize("prefix", PREFIXES, ids=lambda f: f.__name__)
wrappers = pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda f: f.__name__)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Counted:
    """Params beside a counter; accepts only arrays."""

    w: Any
    count: Any

    def __post_init__(self) -> None:
        if (np.shape(self.w), np.shape(self.count)) != ((2,), ()):
            msg = f"expected arrays of shapes (2,) and (), got {self.w}, {self.count}"
            raise TypeError(msg)
        if self.count is None or self.w is None:
            msg = "expected arrays, got None"
            raise TypeError(msg)


def loss(params: PyTree) -> jax.Array:
    return jnp.sum(params["a"] ** 2) + 3 * jnp.sum((params["b"] - 1.0) ** 2)


PARAMS = {"a": np.array([1.0, -2.0], np.float32), "b": np.ones((2, 2), np.float32) * 3}
gradient = jax.grad(loss)


@prefixes
def test_checked_containers_may_hold_integers(prefix: Any) -> None:
    height = lambda p: p.w[0] ** 2 + 3 * p.w[1] ** 2  # noqa: E731
    slope = jax.grad(height, allow_int=True)
    params = Counted(jnp.array([1.0, -2.0]), jnp.array(3))
    grads = slope(params)
    tx = prefix()
    given = {"grad_fn": slope, "tail_grad_fn": slope}
    first, state = tx.update(grads, tx.init(params), params, **given)
    second, _ = tx.update(grads, state, params, **given)
    assert first.count is second.count is grads.count
    assert not np.array_equal(first.w, grads.w)


def step(tx: Any, state: Any, params: PyTree) -> tuple[PyTree, Any]:
    """The training step that serves every optimizer."""
    value, grads = jax.value_and_grad(loss)(params)
    return tx.update(
        grads,
        state,
        params,
        value=value,
        grad=grads,
        value_fn=loss,
        tail_grad_fn=gradient,
    )


def updates_of(tx: Any, steps: int = 1) -> PyTree:
    """The updates of the last of some steps from PARAMS."""
    params = jax.tree.map(jnp.asarray, PARAMS)
    state, updates = tx.init(params), None
    jitted = jax.jit(lambda s, p: step(tx, s, p))
    for _ in range(steps):
        updates, state = jitted(state, params)
    return updates


def assert_close(actual: PyTree, expected: PyTree, rtol: float = 1e-5) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=rtol, atol=1e-6)


def test_accumulation_after_it_is_m_sharpness() -> None:
    def loss_of_rows(x: jax.Array, rows: jax.Array) -> jax.Array:
        return jnp.mean(jnp.logaddexp(0.0, -rows @ x))

    x = jnp.array([0.5, -0.25])
    rows = jnp.array([[1.0, 2.0], [-1.0, 0.5], [0.3, -1.0], [2.0, 1.0]])
    accumulating = optax.MultiSteps(optax.sgd(0.5), 2).gradient_transformation()
    tx = optax.chain(sharpness_aware(0.1), accumulating)
    state = tx.init(x)

    @jax.jit
    def update(state: Any, rows: jax.Array) -> tuple[jax.Array, Any]:
        value = lambda x: loss_of_rows(x, rows)  # noqa: E731
        return tx.update(jax.grad(value)(x), state, x, value_fn=value)

    first, state = update(state, rows[:2])
    second, state = update(state, rows[2:])
    np.testing.assert_array_equal(first, [0.0, 0.0])
    _, grads = sam_value_and_grad(loss_of_rows, 0.1, microbatches=2)(x, rows)
    np.testing.assert_allclose(second, -0.5 * grads, rtol=1e-5)
    whole = sam_value_and_grad(loss_of_rows, 0.1)(x, rows)[1]
    assert np.abs(whole - grads).max() > 1e-3 * np.abs(grads).max()


def test_injected_radius() -> None:
    expected = updates_of(sam(optax.sgd(0.1), 0.5))

    def make(rho: Any) -> Any:
        return sam(optax.sgd(0.1), rho)

    assert_close(updates_of(optax.inject_hyperparams(make)(rho=0.5)), expected)
    schedule = optax.linear_schedule(0.9, 0.1, 4)  # 0.5 at the third update
    scheduled = optax.inject_hyperparams(make)(rho=schedule)
    assert_close(updates_of(scheduled, 3), expected)
    assert_close(updates_of(sam(optax.sgd(0.1), schedule), 3), expected)


@prefixes
def test_every_hyperparameter_may_be_injected(prefix: Any) -> None:
    tx = optax.chain(optax.inject_hyperparams(prefix)(), optax.scale(-0.1))
    expected = updates_of(optax.chain(prefix(), optax.scale(-0.1)), 2)
    assert_close(updates_of(tx, 2), expected)


@wrappers
def test_nonfinite_gradients_are_rejected(wrapper: Any) -> None:
    tx = optax.apply_if_finite(wrapper(optax.sgd(0.1)), 3)
    assert_close(updates_of(tx), updates_of(wrapper(optax.sgd(0.1))))
    params = jax.tree.map(jnp.asarray, PARAMS)
    spoiled = jax.tree.map(lambda x: jnp.nan * x, params)
    updates, state = tx.update(
        spoiled, tx.init(params), params, value_fn=loss, tail_grad_fn=gradient
    )
    assert state.total_notfinite == 1
    assert all(not np.any(u) for u in jax.tree.leaves(updates))


def test_schedule_free_inside_and_after() -> None:
    base = optax.contrib.schedule_free(optax.sgd(0.1), 0.1)
    params = jax.tree.map(jnp.asarray, PARAMS)
    tx = sam(base, 0.1)
    by_hand, grads = sam_value_and_grad(loss, 0.1)(params)
    assert by_hand == loss(params)
    expected, _ = base.update(grads, base.init(params), params)
    assert_close(updates_of(tx), expected)
    around = optax.contrib.schedule_free(sam(optax.sgd(0.1), 0.1), 0.1)
    assert all(np.isfinite(u).all() for u in jax.tree.leaves(updates_of(around, 2)))


def test_partition_and_masks_after_it() -> None:
    groups: Any = {"slow": optax.sgd(0.01), "fast": optax.sgd(0.1)}
    tx = sam(optax.partition(groups, {"a": "slow", "b": "fast"}), 0.3)
    expected = updates_of(sam(optax.sgd(0.1), 0.3))
    expected["a"] = 0.1 * expected["a"]
    assert_close(updates_of(tx), expected)
    masked = sam(optax.masked(optax.sgd(0.1), {"a": True, "b": False}), 0.3)
    assert updates_of(masked)["b"].shape == (2, 2)


@prefixes
def test_partition_and_masks_around_it_raise(prefix: Any) -> None:
    message = r"MaskedNode.*Put it outside.*chain.*argument mask"
    for tx in (
        optax.masked(prefix(), {"a": True, "b": False}),
        optax.partition({"x": prefix(), "y": optax.sgd(0.1)}, {"a": "x", "b": "y"}),
    ):
        with pytest.raises(ValueError, match=message):
            tx.init(PARAMS)
    state = optax.MaskedState(prefix().init(PARAMS))
    masked = optax.masked(
        prefix(), {"a": True, "b": False}, mask_compatible_extra_args=True
    )
    with pytest.raises(ValueError, match=message):
        step(masked, state, jax.tree.map(jnp.asarray, PARAMS))
    # Where nothing is hidden, nothing is wrong.
    assert_close(
        updates_of(optax.masked(prefix(), {"a": True, "b": True})),
        updates_of(prefix()),
    )


@wrappers
def test_other_extra_arguments_reach_the_base(wrapper: Any) -> None:
    seen: dict[str, Any] = {}

    def record(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        seen.update(extra_args, params=params)
        return updates, state

    base = optax.GradientTransformationExtraArgs(optax.identity().init, record)
    tx = wrapper(base)
    grads = gradient(PARAMS)
    given = {"value_fn": loss, "tail_grad_fn": gradient, "grad": grads, "foreign": 7}
    tx.update(grads, tx.init(PARAMS), PARAMS, **given)
    assert all(seen[name] is given[name] for name in given)
    assert seen["params"] is PARAMS
    plain = optax.GradientTransformation(
        optax.identity().init, lambda updates, state, params=None: (updates, state)
    )
    wrapper(plain).update(grads, wrapper(plain).init(PARAMS), PARAMS, **given)


def test_lookahead_inside_and_around() -> None:
    """Its slow weights are those of SAM's steps, on either side."""
    params = jax.tree.map(jnp.asarray, PARAMS)
    fast = params
    state = sam(optax.sgd(0.1), 0.3).init(params)
    for _ in range(2):
        updates, state = step(sam(optax.sgd(0.1), 0.3), state, fast)
        fast = optax.apply_updates(fast, updates)
    middle = jax.tree.map(lambda x, y: 0.5 * (x + y), params, fast)
    for tx in (
        sam(optimizers.lookahead(optax.sgd(0.1), 2), 0.3),
        optimizers.lookahead(sam(optax.sgd(0.1), 0.3), 2),
    ):
        state, slow = tx.init(params), params
        for _ in range(2):
            updates, state = step(tx, state, slow)
            slow = optax.apply_updates(slow, updates)
        assert_close(slow, middle)


def test_a_line_search_follows() -> None:
    base = optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(max_backtracking_steps=5)
    )
    tx, params = sam(base, 0.01), jax.tree.map(jnp.asarray, PARAMS)
    value, grads = jax.value_and_grad(loss)(params)
    given = {"value": value, "grad": grads, "value_fn": loss}  # it refuses any other
    updates, _ = tx.update(grads, tx.init(params), params, **given)
    assert loss(optax.apply_updates(params, updates)) < value


OPTAX = [
    *(optax.adabelief, optax.adadelta, optax.adafactor, optax.adagrad, optax.adam),
    *(optax.adamaxw, optax.adamw, optax.adan, optax.amsgrad, optax.fromage),
    *(optax.lamb, optax.lars, optax.lion, optax.nadam, optax.novograd),
    *(optax.optimistic_gradient_descent, optax.polyak_sgd, optax.radam, optax.rmsprop),
    *(optax.rprop, optax.sgd, optax.sign_sgd, optax.sm3, optax.yogi),
    *(optax.contrib.ademamix, optax.contrib.dadapt_adamw, optax.contrib.prodigy),
    *(optax.contrib.muon, optax.contrib.momo, optax.contrib.schedule_free_adamw),
]


OURS = catalog.functions(
    optimizers,
    Kind.OPTIMIZER,
    Kind.PRIMITIVE,
    Kind.WRAPPER,
    Kind.GRADIENT_TRANSFORMATION,
).values()


def trace_scan(tx: Any, **others: Any) -> None:
    """The training step in a scan, which refuses a step that changes a type."""

    def train(carry: tuple[PyTree, Any], _: None) -> tuple[Any, None]:
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(
            grads, state, params, value=value, grad=grads, value_fn=loss, **others
        )
        return (optax.apply_updates(params, updates), state), None

    params = jax.tree.map(jnp.asarray, PARAMS)
    start = jax.eval_shape(lambda p: (p, tx.init(p)), params)
    jax.eval_shape(lambda carry: jax.lax.scan(train, carry, None, length=2), start)


@pytest.mark.parametrize(
    "factory", [*OURS, *OPTAX], ids=lambda f: getattr(f, "func", f).__name__
)
def test_one_training_step_serves_every_optimizer(factory: Any) -> None:
    """Also as the base of SAM."""
    base = catalog.example(factory)
    for tx in (base, sam(base)):
        trace_scan(tx, aux_grads=PARAMS, tail_grad_fn=gradient)


def test_one_training_step_serves_line_searches() -> None:
    """They refuse what is for others."""
    for tx in (optax.lbfgs(), sam(optax.lbfgs())):
        trace_scan(tx)


def test_complex_params_as_pairs_of_real_ones(x64: None) -> None:
    root = np.random.default_rng(0).normal(size=(6, 6))
    join = lambda x: x[:3] + 1j * x[3:]  # noqa: E731
    real = lambda x: root @ (root.T @ x)  # noqa: E731
    whole = lambda z: join(real(jnp.concatenate([z.real, z.imag])))  # noqa: E731

    def twice(prefix: Any, x: jax.Array, gradient: Any) -> jax.Array:
        state = prefix.init(x)
        for _ in range(2):
            given = {"grad_fn": gradient, "tail_grad_fn": gradient}
            updates, state = prefix.update(gradient(x), state, x, **given)
            x = x - 0.01 * updates
        return x

    @functools.partial(jax.jit, static_argnames="gradient")
    def every(x: jax.Array, gradient: Any) -> list[jax.Array]:
        return [twice(prefix(), x, gradient) for prefix in PREFIXES]

    x = jnp.asarray(root[0])
    with jax.numpy_dtype_promotion("standard"):
        got, expected = every(join(x), whole), every(x, real)
    assert_close(got, list(map(join, expected)), 1e-12)


@pytest.mark.parametrize("value_fn_only", [sam, _looksam.looksam])
def test_optimistix_minimizes(value_fn_only: Any) -> None:
    solver = optimistix.OptaxMinimiser(
        value_fn_only(optax.adam(0.3), 1e-3), rtol=1e-4, atol=1e-4
    )
    found = optimistix.minimise(
        lambda y, args: loss(y),
        solver,
        jax.tree.map(jnp.asarray, PARAMS),
        max_steps=500,
    )
    np.testing.assert_allclose(found.value["a"], [0.0, 0.0], atol=0.02)
    np.testing.assert_allclose(found.value["b"], np.ones((2, 2)), atol=0.02)


def test_nnx_optimizer_steps_as_by_hand() -> None:
    class Model(nnx.Module):
        def __init__(self) -> None:
            self.a = nnx.Param(jnp.asarray(PARAMS["a"]))
            self.b = nnx.Param(jnp.asarray(PARAMS["b"]))
            self.calls = nnx.BatchStat(jnp.zeros(()))

    model = Model()
    tx = sam(optax.adam(0.1), 0.3)
    trainer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def train(model: Model, trainer: nnx.Optimizer) -> None:
        graph, _, others = nnx.split(model, nnx.Param, ...)

        def value(params: PyTree) -> jax.Array:
            whole = nnx.merge(graph, params, others)
            return loss({"a": whole.a[...], "b": whole.b[...]})

        params = nnx.state(model, nnx.Param)
        trainer.update(model, jax.grad(value)(params), value_fn=value)

    train(model, trainer)
    expected = optax.apply_updates(jax.tree.map(jnp.asarray, PARAMS), updates_of(tx))
    assert_close({"a": model.a[...], "b": model.b[...]}, expected)


def quartic(x: jax.Array, rows: jax.Array) -> jax.Array:
    return jnp.mean(jnp.cos(rows @ x) + 0.1 * (rows @ x) ** 4)


ROWS = np.array([[1.0, 0.5], [-0.3, 2.0], [0.7, -0.4], [1.1, 0.2]])


def trained(make: Any, options: dict[str, Any], x: jax.Array) -> jax.Array:
    """The loss after three steps in a scan from x."""
    rows = jnp.asarray(ROWS)
    optimizer = make(optax.sgd(0.1), 0.3, **options)

    def train(carry: Any, _: None) -> tuple[Any, None]:
        x, state = carry
        grad_fn = jax.grad(quartic)
        updates, state = optimizer.update(
            grad_fn(x, rows), state, x, grad_fn=lambda x: grad_fn(x, rows)
        )
        return (optax.apply_updates(x, updates), state), None

    (x, _), _ = jax.lax.scan(train, (x, optimizer.init(x)), length=3)
    return quartic(x, rows)


def trained_by_gradients(options: dict[str, Any], x: jax.Array) -> jax.Array:
    """As `trained`, with `sam_value_and_grad`."""
    value_and_grad = sam_value_and_grad(quartic, 0.3, **options)

    def train(x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return x - 0.1 * value_and_grad(x, jnp.asarray(ROWS))[1], None

    return quartic(jax.lax.scan(train, x, length=3)[0], jnp.asarray(ROWS))


def chained(base: Any, rho: float, **options: Any) -> Any:
    return optax.chain(sharpness_aware(rho, **options), base)


LOOPS = {
    "sharpness_aware": functools.partial(trained, chained, {"ascent_steps": 3}),
    "sharpness_aware, JAX integer": functools.partial(
        trained, chained, {"ascent_steps": jnp.asarray(2)}
    ),
    "sam": functools.partial(trained, sam, {"ascent_steps": 2}),
    "asam": functools.partial(
        trained, _sharpness_aware.asam, {"ascent_steps": 3, "adaptive": lambda _: True}
    ),
    "looksam": functools.partial(trained, _looksam.looksam, {"period": 2}),
    "sam_value_and_grad": functools.partial(
        trained_by_gradients, {"ascent_steps": 3, "microbatches": 2}
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_are_differentiable_in_both_modes(name: str, x64: None) -> None:
    end, x, direction = LOOPS[name], jnp.array([0.8, -0.6]), jnp.array([0.6, 0.8])
    reverse = jax.jit(jax.grad(end))(x)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(end))(x), reverse, rtol=1e-12)
    h = 1e-5
    quotient = (end(x + h * direction) - end(x - h * direction)) / (2.0 * h)
    np.testing.assert_allclose(reverse @ direction, quotient, rtol=1e-6)


@wrappers
def test_every_wrapper_learns_in_a_scan(wrapper: Any) -> None:
    path = run(wrapper(optax.adam(0.05)), Q, 150, tail_grad_fn=jax.grad(Q.loss))
    assert np.abs(path[-1]).max() < 0.05


# Prints [method, way, largest difference] of updates on eight devices and on one.
PROGRAM = """
import json, sys
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import NamedSharding, PartitionSpec as P
from optimizers import _friendly_sam, _gsam, _imbsam, _looksam
from optimizers import _sam_value_and_grad, _sharpness_aware

assert jax.device_count() == 8
auto, explicit = (
    jax.make_mesh((8,), ("data",), axis_types=(kind,))
    for kind in (jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit)
)
mesh = auto
split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
a = np.tile(np.float32([0.5, 2.0]), 8)  # every device has the same part of it
params = {"w": np.cos(np.arange(16.0)).astype(np.float32), "v": np.ones((8, 2), "f4")}
total = lambda x: jax.lax.psum(x, "data")

def gradient(x):
    return {"w": a[: x["w"].size] * x["w"] + jnp.sin(x["w"]), "v": x["v"] ** 3}

def twice(prefix):
    def updates(params):
        state = prefix.init(params)
        for _ in range(2):
            found, state = prefix.update(
                gradient(params), state, params,
                grad_fn=gradient, tail_grad_fn=gradient,
            )
            params = jax.tree.map(lambda x, d: x - 0.1 * d, params, found)
        return params
    return updates

makers = {
    "sam": _sharpness_aware.sharpness_aware,
    "two ascents": lambda **k: _sharpness_aware.sharpness_aware(ascent_steps=2, **k),
    "asam": lambda **k: _sharpness_aware.sharpness_aware(0.5, adaptive=True, **k),
    "max": lambda **k: _sharpness_aware.sharpness_aware(p=np.inf, **k),
    "leaves": lambda **k: _sharpness_aware.sharpness_aware(per_leaf=True, **k),
    "gsam": _gsam.gsam_gradient,
    "looksam": lambda **k: _looksam.looksam_gradient(period=2, **k),
    "friendly": _friendly_sam.friendly_sam_gradient,
    "imbsam": _imbsam.imbsam_gradient,
}
found = []
for name, make in makers.items():
    one = jax.jit(twice(make()))(params)
    many = jax.jit(twice(make()))(jax.device_put(params, split))
    with jax.set_mesh(explicit):
        typed = jax.jit(twice(make()))(
            jax.device_put(params, NamedSharding(explicit, P("data")))
        )
    many, typed = jax.device_get((many, typed))
    mapped = jax.jit(jax.shard_map(
        twice(make(reduce=total)), mesh=mesh, in_specs=P("data"), out_specs=P("data")
    ))(params)
    for way, other in (("jit", many), ("types", typed), ("shard_map", mapped)):
        gap = jax.tree.map(lambda x, y: float(np.abs(x - y).max()), one, other)
        found.append([name, way, max(jax.tree.leaves(gap))])

# m-sharpness: every device is a group of two rows.
rows = np.sin(np.arange(32.0)).reshape(16, 2).astype(np.float32)
x = jnp.array([0.5, -0.25])
loss = lambda x, rows: jnp.mean(jnp.logaddexp(0.0, -rows @ x) + (rows @ x) ** 2)
m_sharp = _sam_value_and_grad.sam_value_and_grad(loss, 0.5, microbatches=8)(x, rows)
plain = _sam_value_and_grad.sam_value_and_grad(loss, 0.5)(x, rows)

def local(x, rows):
    x = jax.lax.pcast(x, "data", to="varying")
    found = _sam_value_and_grad.sam_value_and_grad(loss, 0.5)(x, rows)
    return jax.lax.pmean(found, "data")

def linked(x, rows):
    mine = jax.lax.pcast(x, "data", to="varying")
    value = lambda x: loss(x, rows)
    mean = optax.stateless(lambda g, _: jax.lax.pmean(g, "data"))
    tx = optax.chain(_sharpness_aware.sharpness_aware(0.5), mean)
    return tx.update(jax.grad(value)(mine), tx.init(mine), mine, value_fn=value)[0]

def averaged(x, rows):
    gradient = lambda x: jax.grad(lambda x: jax.lax.pmean(loss(x, rows), "data"))(x)
    prefix = _sharpness_aware.sharpness_aware(0.5)
    return prefix.update(gradient(x), prefix.init(x), x, grad_fn=gradient)[0]

def on_devices(f):
    specs = {"in_specs": (P(), P("data")), "out_specs": P()}
    return jax.jit(jax.shard_map(f, mesh=mesh, **specs))(x, rows)

def difference(x, y):
    return float(np.abs(np.asarray(x) - np.asarray(y)).max())

value, grads = on_devices(local)
found.append(["m-sharpness", "function", difference(grads, m_sharp[1])])
found.append(["m-sharpness", "value", difference(value, m_sharp[0])])
found.append(["m-sharpness", "links", difference(on_devices(linked), m_sharp[1])])
found.append(["sam", "averaged first", difference(on_devices(averaged), plain[1])])
sharded = jax.jit(_sam_value_and_grad.sam_value_and_grad(loss, 0.5, microbatches=8))(
    jax.device_put(x, whole), jax.device_put(rows, split)
)
found.append(["m-sharpness", "jit", difference(sharded[1], m_sharp[1])])
assert difference(m_sharp[1], plain[1]) > 1e-3
json.dump(found, sys.stdout)
"""


def test_eight_devices_equal_one() -> None:
    found = run_on_eight_devices(PROGRAM)
    assert len(found) == 32
    for name, way, difference in found:
        assert difference < 1e-5, f"{name}, {way}: differs by {difference}"
