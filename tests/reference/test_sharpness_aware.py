"""SAM and ASAM against NumPy, worked numbers, optax and their theory."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optimizers import _sharpness_aware
from optimizers._sam_value_and_grad import sam_value_and_grad
from optimizers._sharpness_aware import (
    asam,
    sam,
    sharpness_aware,
)
from tests.reference import landscapes
from tests.reference.landscapes import Q, Z, point_of, run
from tests.reference.support import TWELVE_DIGITS

PyTree = Any
NORMS = (1, 4 / 3, 2, 4, math.inf)


def all_leaves(params: PyTree) -> PyTree:
    return jax.tree.map(lambda _: True, params)


def dual(g: np.ndarray, rho: float, p: float) -> np.ndarray:
    """The step of p-norm rho with the largest inner product with g."""
    if p == math.inf:
        return rho * np.sign(g)
    if p == 1:
        largest = np.abs(g) == np.abs(g).max()
        return rho * np.sign(g) * largest / largest.sum()
    q = p / (p - 1)
    powers = np.sign(g) * np.abs(g) ** (q - 1)
    return rho * powers / np.sum(np.abs(g) ** q) ** (1 / p)


def reference(
    landscape: landscapes.Landscape,
    steps: int,
    rate: float,
    *,
    rho: float = 0.05,
    p: float = 2,
    ascent_steps: int = 1,
    per_leaf: bool = False,
    eta: float = 0.01,
    adaptive: tuple[slice, ...] = (),
) -> np.ndarray:
    def direction(x: np.ndarray, gradient: Callable) -> np.ndarray:
        point = x
        for _ in range(ascent_steps):
            stretch = np.ones_like(x)
            for leaf in adaptive:
                stretch[leaf] = np.abs(point[leaf]) + eta
            slopes = stretch * gradient(point)
            groups = landscape.leaves if per_leaf else (slice(None),)
            e = np.zeros_like(x)
            for group in groups:
                e[group] = dual(slopes[group], rho, p)
            point = point + stretch * e
        return gradient(point)

    return landscapes.descend(direction, landscape, steps, rate)


WORKED_Q = [
    [0.899502481405, -0.0497518595105],
    [0.805176901281, 0.024200144706],
    [0.719870814251, -0.0143918557212],
    [0.64298075663, 0.00980216514269],
    [0.573739789051, -0.00753537992303],
]
WORKED_Q_TWO_ASCENTS = [
    [0.899025987249, -0.099524294974],
    [0.802953031266, 0.0784007661305],
]


def assert_worked(actual: np.ndarray, expected: Any) -> None:
    # Published with twelve digits, but at least twelve decimals.
    np.testing.assert_allclose(actual, expected, rtol=TWELVE_DIGITS, atol=1e-12)


def test_worked_quadratic(x64: None) -> None:
    grads, start = jax.grad(Q.loss)(jnp.ones(2)), jnp.ones(2)
    climbed = point_of(sharpness_aware(), grads, start) - start
    assert_worked(climbed, (0.00497518595105, 0.0497518595105))
    assert_worked(jax.grad(Q.loss)(start + climbed), (1.00497518595, 10.4975185951))
    assert_worked(reference(Q, 5, 0.1), WORKED_Q)
    assert_worked(run(sam(optax.sgd(0.1)), Q, 5), WORKED_Q)
    two = run(sam(optax.sgd(0.1), ascent_steps=2), Q, 2)
    assert_worked(two, WORKED_Q_TWO_ASCENTS)
    assert_worked(reference(Q, 2, 0.1, ascent_steps=2), WORKED_Q_TWO_ASCENTS)


WORKED_Z = {
    "euclidean": (sam, {}, (0.727037495403, -0.0328500056871, 0.137497498208)),
    "per leaf": (
        sam,
        {"per_leaf": True},
        (0.727455930132, -0.0188079168196, 0.148480108465),
    ),
    "largest entry": (
        sam,
        {"p": math.inf},
        (0.733631605018, -0.00778922950195, 0.153589653387),
    ),
    "p = 4": (sam, {"p": 4}, (0.729913062973, -0.0227334073172, 0.143865436363)),
    "released asam": (
        asam,
        {"adaptive": {"w": True, "b": False}},
        (0.718251288931, -0.0485386365196, 0.130218317425),
    ),
    "asam without eta, all leaves": (
        asam,
        {"adaptive": all_leaves, "eta": 0.0},
        (0.718176722932, -0.0518461471661, 0.127617048508),
    ),
}


@pytest.mark.parametrize("variant", WORKED_Z)
def test_worked_logistic(variant: str, x64: None) -> None:
    wrapper, options, expected = WORKED_Z[variant]
    assert_worked(run(wrapper(optax.sgd(0.5), 0.1, **options), Z, 1)[0], expected)


def test_worked_logistic_sgd(x64: None) -> None:
    """Without a radius it is SGD."""
    params = jax.tree.map(jnp.asarray, Z.start)
    grads = jax.grad(Z.loss)(params)
    slopes = -0.423352312113, -0.382099859595, -0.0516685004082
    assert_worked(Z.vector(grads), slopes)
    assert_worked(np.linalg.norm(flat(grads)), 0.572623014564)
    point = point_of(sharpness_aware(0.1, per_leaf=True), grads, params)
    climbed = np.linalg.norm(flat(point) - flat(params))
    assert_worked(climbed, 0.141421356237)
    expected = 0.711676156056, -0.0589500702025, 0.125834250204
    assert_worked(run(sam(optax.sgd(0.5), 0.0), Z, 1)[0], expected)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (sam(optax.sgd(0.5), 0.1), (1.05662242922, 0.181713440577, 0.111397294928)),
        (
            asam(optax.sgd(0.5), 0.1, adaptive={"w": True, "b": False}),
            (1.0442828247, 0.15542164461, 0.0977676208666),
        ),
        (sam(optax.adam(0.1), 0.1), (0.798549509491, 0.0430988414083, 0.306697362952)),
        (
            sam(optax.adamw(0.1, weight_decay=0.1), 0.1),
            (0.780755616569, 0.047583549412, 0.299750972066),
        ),
    ],
    ids=["sam", "asam", "adam", "adamw"],
)
def test_worked_three_steps(optimizer: Any, expected: Any, x64: None) -> None:
    with jax.numpy_dtype_promotion("standard"):  # optax's
        assert_worked(run(optimizer, Z, 3)[-1], expected)


def test_worked_decay_inside_and_outside(x64: None) -> None:
    decayed = Z._replace(
        loss=lambda p: Z.loss(p) + 0.05 * (jnp.sum(p["w"] ** 2) + p["b"] ** 2)
    )
    inside = run(sam(optax.sgd(0.5), 0.1), decayed, 1)[0]
    assert_worked(inside, (0.705254748208, -0.015744286661, 0.133710154776))
    base = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.5))
    outside = run(sam(base, 0.1), Z, 1)[0]
    assert_worked(outside, (0.702037495403, -0.0203500056871, 0.132497498208))


@pytest.mark.parametrize(
    "options",
    [
        {"p": 1},
        {"p": 4 / 3},
        {"p": 4, "per_leaf": True},
        {"p": math.inf, "ascent_steps": 3},
        {"ascent_steps": 2, "per_leaf": True},
        {"adaptive": True, "eta": 0.2, "ascent_steps": 2},
        {"adaptive": True, "p": 3},
    ],
    ids=str,
)
def test_follows_the_equations(options: dict[str, Any], x64: None) -> None:
    chosen, slices = dict(options), dict(options)
    if "adaptive" in options:
        chosen["adaptive"] = {"w": True, "b": False}
        slices["adaptive"] = (slice(0, 2),)
    optimizer = optax.chain(sharpness_aware(0.3, **chosen), optax.sgd(0.5))
    expected = reference(Z, 20, 0.5, rho=0.3, **slices)
    np.testing.assert_allclose(run(optimizer, Z, 20), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ascent_steps", [1, 2])
def test_equals_optax(ascent_steps: int, x64: None) -> None:
    climb = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    optaxs = optax.contrib.sam(
        optax.adam(0.1), climb, sync_period=ascent_steps + 1, opaque_mode=True
    )
    with jax.numpy_dtype_promotion("standard"):
        expected = run(optaxs, Q, 20, grad_fn=lambda x, _: jax.grad(Q.loss)(x))
        ours = run(sam(optax.adam(0.1), ascent_steps=ascent_steps), Q, 20)
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


def test_ends_in_the_two_cycle_of_the_theory(x64: None) -> None:
    a, rate, rho = 1.5, 0.1, 0.05
    line = Q._replace(start=np.array([1.0]), loss=lambda x: 0.5 * a * jnp.sum(x**2))
    last = run(sam(optax.sgd(rate), rho), line, 300)[-2:, 0]
    size = rate * rho * a / (2 - rate * a)
    np.testing.assert_allclose(np.sort(last), [-size, size], rtol=1e-12)
    np.testing.assert_allclose(size, 0.00405405405405, rtol=TWELVE_DIGITS)


# The radius, at the point where the second gradient is asked for.


def random_tree(seed: int, scale: float = 1.0) -> PyTree:
    rng = np.random.default_rng(seed)
    shapes = {"a": (3, 4), "b": (5,), "c": ()}
    draw = lambda s: scale * rng.normal(size=s) * 10 ** rng.uniform(-2, 2, s)  # noqa: E731
    return {k: jnp.asarray(draw(s)) for k, s in shapes.items()}


def flat(tree: PyTree) -> np.ndarray:
    leaves = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)]
    return np.concatenate(leaves)


def step_of(transform: Any, grads: PyTree) -> PyTree:
    return point_of(transform, grads, jax.tree.map(jnp.zeros_like, grads))


@pytest.mark.parametrize("p", [*NORMS, 1.5, 3, 50])
def test_radius_is_exact(p: float, x64: None) -> None:
    for seed, scale in enumerate((1.0, 1e-30, 1e25, 1e-200, 1e200)):
        e = flat(step_of(sharpness_aware(0.05, p=p), random_tree(seed, scale)))
        np.testing.assert_allclose(np.linalg.norm(e, p), 0.05, rtol=1e-15)


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e25])
def test_radius_is_exact_in_float32(p: float, scale: float) -> None:
    grads = random_tree(0, scale)
    assert grads["a"].dtype == jnp.float32
    e = flat(step_of(sharpness_aware(0.05, p=p), grads))
    np.testing.assert_allclose(np.linalg.norm(e, p), 0.05, rtol=3e-6)
    g = flat(grads)
    np.testing.assert_allclose(e @ g, 0.05 * np.linalg.norm(g, conjugate(p)), rtol=1e-5)


def conjugate(p: float) -> float:
    """q, of which the largest inner product with g is rho |g|_q."""
    return {1: math.inf, math.inf: 1.0}.get(p) or p / (p - 1)


def test_largest_entries_share_equally(x64: None) -> None:
    e = step_of(sharpness_aware(0.6, p=1), jnp.array([2.0, -2.0, 1.0, 2.0]))
    np.testing.assert_allclose(e, [0.2, -0.2, 0.0, 0.2], rtol=1e-15)


def test_radius_is_exact_across_thousands_of_bfloat16_leaves() -> None:
    grads = [jnp.ones(1, jnp.bfloat16)] * 2000
    params = [jnp.zeros(1, jnp.float32)] * 2000
    e = flat(point_of(sharpness_aware(0.05), grads, params))
    np.testing.assert_allclose(np.linalg.norm(e), 0.05, rtol=1e-6)


def test_point_is_rounded_once() -> None:
    """In bfloat16 1 + e is 1 for e < 1/256, but no step before that rounds."""
    params, grads = jnp.ones(3, jnp.bfloat16), jnp.array([1.0, 1e-3, -2.0], "bfloat16")
    point = point_of(sharpness_aware(0.02), grads, params)
    exact = np.asarray(grads, np.float64)
    expected = 1.0 + 0.02 * exact / np.linalg.norm(exact)
    assert point.dtype == jnp.bfloat16
    np.testing.assert_array_equal(point, jnp.asarray(expected, jnp.bfloat16))


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("adaptive", [False, True])
def test_zero_gradient_gives_no_perturbation(p: float, adaptive: bool) -> None:
    params = {"a": jnp.ones((2, 2)), "b": jnp.ones(2)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    transform = sharpness_aware(p=p, adaptive=adaptive)
    with jax.debug_nans(True):
        point = point_of(transform, zeros, params)
        updates, _ = jax.jit(
            lambda g, x: transform.update(g, transform.init(x), x, grad_fn=lambda x: x)
        )(zeros, params)
    np.testing.assert_array_equal(flat(point), flat(params))
    np.testing.assert_array_equal(flat(updates), flat(params))


@pytest.mark.parametrize("p", NORMS)
def test_nan_is_propagated(p: float) -> None:
    grads = jnp.array([1.0, math.nan, 2.0])
    e = step_of(sharpness_aware(p=p), grads)
    assert np.isnan(np.asarray(e)).any()


def test_scale_of_the_loss_has_no_effect_on_any_bit() -> None:
    grads = random_tree(1)
    for p in NORMS:
        transform = sharpness_aware(0.05, p=p)
        scaled = step_of(transform, jax.tree.map(lambda g: 2.0**12 * g, grads))
        np.testing.assert_array_equal(flat(scaled), flat(step_of(transform, grads)))


def test_clipping_before_it_has_no_effect(x64: None) -> None:
    base = sam(optax.sgd(0.1))
    clipped = optax.chain(optax.clip_by_global_norm(1e-3), base)
    np.testing.assert_allclose(run(clipped, Q, 10), run(base, Q, 10), rtol=1e-12)


def test_radius_zero_equals_the_base_exactly() -> None:
    base = optax.adam(0.1)
    with jax.numpy_dtype_promotion("standard"):
        ours, expected = run(sam(base, 0.0), Q, 20), run(base, Q, 20)
        scheduled = run(sam(base, optax.constant_schedule(0.0)), Q, 20)
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_allclose(scheduled, expected, rtol=1e-6)


# Adaptive neighbourhoods.


def test_adaptive_radius_is_that_of_the_stretched_step(x64: None) -> None:
    params, grads = random_tree(2), random_tree(3)
    for p in NORMS:
        point = point_of(sharpness_aware(0.5, p=p, adaptive=True), grads, params)
        e = jax.tree.map(jnp.subtract, point, params)
        stretch = {"a": jnp.abs(params["a"]) + 0.01, "b": 1.0, "c": 1.0}
        shrunk = flat(jax.tree.map(jnp.divide, e, stretch))
        np.testing.assert_allclose(np.linalg.norm(shrunk, p), 0.5, rtol=1e-11)


def test_vectors_are_not_adaptive() -> None:
    params, grads = jnp.array([3.0, -1.0]), jnp.array([1.0, 2.0])
    plain = point_of(sharpness_aware(), grads, params)
    adaptive = point_of(sharpness_aware(adaptive=True), grads, params)
    np.testing.assert_array_equal(adaptive, plain)
    every = point_of(sharpness_aware(adaptive=all_leaves), grads, params)
    assert not np.array_equal(every, plain)


def test_sharpness_is_invariant_to_rescaled_weights(x64: None) -> None:
    """Of the two, only ASAM without eta knows that the networks are one function."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(16, 3)))
    y = jnp.asarray(rng.normal(size=(16, 2)))

    def loss(params: list[jax.Array]) -> jax.Array:
        return jnp.mean((jax.nn.relu(x @ params[0]) @ params[1] - y) ** 2)

    first, second = rng.normal(size=(3, 8)), rng.normal(size=(8, 2))
    networks = [[jnp.asarray(first * c), jnp.asarray(second / c)] for c in (1.0, 7.0)]

    def highest(**options: Any) -> list[float]:
        transform = sharpness_aware(0.5, **options)
        return [
            float(loss(point_of(transform, jax.grad(loss)(net), net)))
            for net in networks
        ]

    one, other = highest(adaptive=True, eta=0.0)
    np.testing.assert_allclose(one, other, rtol=1e-12)
    one, other = highest()
    assert abs(one - other) > 0.1 * one


# Which leaves.


@pytest.mark.parametrize(
    "mask",
    [
        {"x": {"a": True, "b": True}, "y": False},
        {"x": True, "y": False},
        lambda params: {"x": True, "y": False},
    ],
    ids=["tree", "prefix", "function"],
)
def test_mask_chooses_the_perturbed_leaves(mask: Any) -> None:
    params = {"x": {"a": jnp.ones(2), "b": jnp.ones(1)}, "y": jnp.ones(2)}
    grads = jax.tree.map(lambda x: 2.0 * x, params)
    point = point_of(sharpness_aware(0.3, mask=mask), grads, params)
    np.testing.assert_array_equal(point["y"], params["y"])
    moved = flat(point["x"]) - 1.0
    np.testing.assert_allclose(moved, np.full(3, 0.3 / math.sqrt(3.0)), rtol=1e-6)


def test_leaves_without_gradients_are_unchanged() -> None:
    params = {
        "flag": jnp.array(True),
        "key": jax.random.key(3),
        "none": None,
        "steps": jnp.arange(3),
        "w": jnp.array([[3.0, 4.0]]),
    }
    loss = lambda p: jnp.sum(p["w"] ** 2)  # noqa: E731
    grads = jax.grad(loss, allow_int=True)(params)
    for options in (
        {},
        {"ascent_steps": 2, "adaptive": True},
        {"p": 4, "mask": lambda p: {**all_leaves(p), "w": True}},
        {"p": math.inf, "per_leaf": True},
    ):
        transform = sharpness_aware(0.5, **options)
        state = transform.init(params)

        @jax.jit
        def update(
            params: PyTree, transform: Any = transform, state: Any = state
        ) -> PyTree:
            grads = jax.grad(loss, allow_int=True)(params)
            return transform.update(grads, state, params, value_fn=loss)[0]["w"]

        updates, _ = transform.update(grads, state, params, value_fn=loss)
        assert np.all(np.abs(updates["w"]) > np.abs(grads["w"]))
        np.testing.assert_allclose(update(params), updates["w"], rtol=1e-6)
        for name in ("flag", "key", "steps"):
            assert updates[name] is grads[name]
        point = point_of(transform, grads, params)
        np.testing.assert_array_equal(point["steps"], params["steps"])
        assert jnp.array_equal(point["key"], params["key"])


def test_value_fn_replaces_grad_fn() -> None:
    transform = sharpness_aware(0.1)
    grads, params = jnp.array([1.0, 2.0]), jnp.array([0.5, -1.0])
    state = transform.init(params)
    expected, _ = transform.update(grads, state, params, grad_fn=jax.grad(Q.loss))
    actual, _ = transform.update(grads, state, params, value_fn=Q.loss)
    np.testing.assert_array_equal(actual, expected)


@jax.numpy_dtype_promotion("standard")
def test_complex_leaves_ascend() -> None:
    """Gradients come conjugated, as optax wants them; value_fn is conjugated here."""
    loss = lambda z: jnp.sum(jnp.abs(z - (1.0 + 2.0j)) ** 2)  # noqa: E731
    z = jnp.array([0.5j, 2.0 + 1.0j], jnp.complex64)
    grads = jnp.conj(jax.grad(loss)(z))
    conjugated = lambda z: jnp.conj(jax.grad(loss)(z))  # noqa: E731
    for p in NORMS:
        point = point_of(sharpness_aware(0.5, p=p), grads, z)
        np.testing.assert_allclose(
            np.linalg.norm(np.abs(np.asarray(point - z)), p), 0.5, rtol=1e-5
        )
        assert loss(point) > loss(z)
    transform = sharpness_aware(0.5)
    expected, _ = transform.update(grads, transform.init(z), z, grad_fn=conjugated)
    actual, _ = transform.update(grads, transform.init(z), z, value_fn=loss)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    _, returned = sam_value_and_grad(loss, 0.5)(z)
    np.testing.assert_allclose(np.conj(returned), expected, rtol=1e-6)


def test_gradients_keep_their_dtype() -> None:
    params = {"a": jnp.ones((2, 2)), "b": jnp.ones(2, jnp.bfloat16)}
    grads = {"a": jnp.ones((2, 2), jnp.bfloat16), "b": jnp.ones(2, jnp.float32)}
    for options in ({}, {"p": 3}, {"adaptive": True, "ascent_steps": 2}):
        transform = sharpness_aware(**options)
        updates, _ = transform.update(
            grads, transform.init(params), params, grad_fn=lambda x: x
        )
        assert [x.dtype for x in updates.values()] == [jnp.bfloat16, jnp.float32]


# Hyperparameters and errors.


def test_schedule_counts_from_zero() -> None:
    transform = sharpness_aware(lambda count: 0.1 * (count + 1).astype(jnp.float32))
    params, grads = jnp.zeros(2), jnp.array([3.0, 4.0])
    state = transform.init(params)
    for radius in (0.1, 0.2, 0.3):
        point = point_of(transform, grads, params, state)
        np.testing.assert_allclose(np.linalg.norm(point), radius, rtol=1e-6)
        _, state = transform.update(grads, state, params, grad_fn=lambda x: x)
    assert state.count == 3
    assert sharpness_aware(0.1).init(params) == optax.EmptyState()
    assert jax.eval_shape(lambda r: sharpness_aware(r).init(params), 0.1) == ()


@pytest.mark.parametrize("name", ["p", "ascent_steps", "eta", "rho"])
def test_hyperparameters_may_be_traced(name: str) -> None:
    params, grads = jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]])
    options = {"rho": 0.5, "p": 2, "ascent_steps": 3, "eta": 0.1, "adaptive": True}

    def update(value: Any) -> jax.Array:
        transform = sharpness_aware(**{**options, name: value})
        return transform.update(
            grads, transform.init(params), params, value_fn=jnp.sum
        )[0]

    def point(value: Any) -> jax.Array:
        transform = sharpness_aware(**{**options, name: value})
        identity = lambda x: x  # noqa: E731
        return transform.update(
            grads, transform.init(params), params, grad_fn=identity
        )[0]

    np.testing.assert_allclose(
        jax.jit(point)(options[name]), point(options[name]), rtol=1e-6
    )
    assert update(options[name]).shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rho": -0.1}, r"sharpness_aware: rho .* -0\.1"),
        ({"rho": math.inf}, "rho .* inf"),
        ({"p": 0.5}, r"p must be at least 1, got 0\.5"),
        ({"p": math.nan}, "p must be"),
        ({"eta": -1.0}, "eta must be"),
        ({"ascent_steps": 0}, "ascent_steps must be an integer >= 1, got 0"),
        ({"ascent_steps": 1.5}, "ascent_steps must be an integer"),
        ({"p": 3, "reduce": abs}, "p must be the number 2 or infinity with re"),
    ],
    ids=str,
)
def test_bad_hyperparameters_are_refused(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sharpness_aware(**options)


def test_messages_name_missing_arguments() -> None:
    transform, x = sharpness_aware(), jnp.ones(2)
    with pytest.raises(ValueError, match=r"grad_fn.*Call update.*grad_fn=jax\.grad"):
        transform.update(x, optax.EmptyState(), x)
    with pytest.raises(ValueError, match=r"needs params.*Call update"):
        transform.update(x, optax.EmptyState(), grad_fn=lambda x: x)
    tx = sam(optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"^sam: .*grad_fn"):
        tx.update(x, tx.init(x), x)


def test_trees_of_other_structures_are_refused() -> None:
    transform, params = sharpness_aware(), {"w": jnp.ones(2)}
    with pytest.raises(
        ValueError, match="the gradients must have the structure of the params"
    ):
        transform.update({"v": jnp.ones(2)}, (), params, grad_fn=lambda x: x)
    with pytest.raises(
        ValueError, match=r"gradients must have .* at \['w'\] got \(1,\)"
    ):
        transform.update({"w": jnp.ones(1)}, (), params, grad_fn=lambda x: x)
    with pytest.raises(
        ValueError, match=r"grad_fn returns must have .* at \['w'\] got \(\)"
    ):
        transform.update(params, (), params, grad_fn=lambda x: {"w": x["w"].sum()})
    with pytest.raises(
        ValueError, match="that grad_fn returns must have the structure"
    ):
        transform.update(params, (), params, grad_fn=lambda x: x["w"])
    with pytest.raises(TypeError, match=r"grad_fn must be .* got a dict\. Call update"):
        transform.update(params, (), params, grad_fn=params)


@pytest.mark.parametrize("wrapper", [sam, asam])
@pytest.mark.parametrize("base", [0.1, optax.sgd, None, jnp.ones(2)])
def test_base_must_be_a_transformation(wrapper: Any, base: Any) -> None:
    name = wrapper.__name__
    with pytest.raises(
        TypeError, match=rf"(?s){name}: optimizer must be .*{name}\(opt"
    ):
        wrapper(base)


def test_public_names_are_all_defined() -> None:
    assert all(hasattr(_sharpness_aware, name) for name in _sharpness_aware.__all__)
