"""Clipping by the global norm and unit by unit, against NumPy and optax."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optimizers import adaptive_grad_clip, clip_by_global_norm


def clip(tx: optax.GradientTransformation, grads: Any, params: Any = None) -> Any:
    return jax.jit(tx.update)(grads, tx.init(grads), params)[0]


def unitwise(
    g: np.ndarray, w: np.ndarray, axes: tuple[int, ...], clipping: float, eps: float
) -> np.ndarray:
    """Brock et al., equation (3), unit by unit in a loop."""
    clipped = np.array(g)
    units = [
        range(n) if i not in axes else [slice(None)] for i, n in enumerate(g.shape)
    ]
    for unit in np.ndindex(*map(len, units)):
        where = tuple(list(u)[i] for u, i in zip(units, unit, strict=True))
        size, limit = np.linalg.norm(g[where]), max(np.linalg.norm(w[where]), eps)
        if size > clipping * limit:
            clipped[where] = g[where] * (clipping * limit / size)
    return clipped


def random_tree(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {
        "scalar": (),
        "vector": (5,),
        "norm": (1, 1, 5),
        "dense": (3, 4),
        "heads": (3, 2, 4),
        "hwio": (2, 2, 3, 4),
        "dhwio": (2, 2, 2, 3, 2),
    }
    return {k: np.asarray(rng.normal(size=shape)) for k, shape in shapes.items()}


AXES = {
    "scalar": (),
    "vector": (0,),
    "norm": (0, 1, 2),
    "dense": (0,),
    "heads": (0,),
    "hwio": (0, 1, 2),
    "dhwio": (0, 1, 2, 3),
}


def test_worked_units(x64: None) -> None:
    w = np.array([[3.0, 0.0, 1e-4], [4.0, 0.0, 0.0]])
    g = np.array([[3.0, 1e-5, 1.0], [4.0, 0.0, 0.0]])
    expected = [[0.3, 1e-5, 1e-4], [0.4, 0.0, 0.0]]
    np.testing.assert_allclose(unitwise(g, w, (0,), 0.1, 1e-3), expected, rtol=1e-14)
    got = clip(adaptive_grad_clip(0.1), g, w)
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    vector = clip(adaptive_grad_clip(0.1), np.array([30.0, 40.0]), np.array([3.0, 4.0]))
    np.testing.assert_allclose(vector, [0.3, 0.4], rtol=1e-14)


def test_units_follow_the_equation_and_optax(x64: None) -> None:
    grads, params = random_tree(0), random_tree(1)
    expected = {k: unitwise(grads[k], params[k], AXES[k], 0.9, 1e-3) for k in grads}
    touched = [not np.array_equal(expected[k], grads[k]) for k in grads]
    assert any(touched)
    assert not all(touched)
    got = clip(adaptive_grad_clip(0.9), grads, params)
    theirs = clip(optax.adaptive_grad_clip(0.9), grads, params)
    for k in grads:
        np.testing.assert_allclose(got[k], expected[k], rtol=1e-13, err_msg=k)
        np.testing.assert_allclose(got[k], theirs[k], rtol=1e-13, err_msg=k)


def test_axes_of_other_layouts(x64: None) -> None:
    grads, params = random_tree(0), random_tree(1)
    picked = {"heads": (0, 1), "dense": 1}

    def axis_fn(path: Any, leaf: Any) -> Any:
        assert leaf.shape == grads[path[0].key].shape
        return picked.get(path[0].key)

    got = clip(adaptive_grad_clip(0.2, axis_fn=axis_fn), grads, params)
    for k, axes in (AXES | {"heads": (0, 1), "dense": (1,)}).items():
        expected = unitwise(grads[k], params[k], axes, 0.2, 1e-3)
        np.testing.assert_allclose(got[k], expected, rtol=1e-13, err_msg=k)
    same = clip(adaptive_grad_clip(0.2, 1e-3, (0, 1)), grads["heads"], params["heads"])
    np.testing.assert_array_equal(same, got["heads"])


def test_properties_of_units(x64: None) -> None:
    grads, params = random_tree(2), random_tree(3)
    tx = adaptive_grad_clip(0.1)
    once = clip(tx, grads, params)
    twice = clip(tx, once, params)
    for k, axes in AXES.items():
        size = np.sqrt(np.sum(np.square(once[k]), axes))
        limit = 0.1 * np.maximum(np.sqrt(np.sum(np.square(params[k]), axes)), 1e-3)
        assert np.all(size <= limit * (1 + 1e-15)), k
        np.testing.assert_allclose(twice[k], once[k], rtol=1e-15, err_msg=k)
        np.testing.assert_allclose(np.sign(once[k]), np.sign(grads[k]), err_msg=k)
    untouched = clip(adaptive_grad_clip(float("inf")), grads, params)
    jax.tree.map(np.testing.assert_array_equal, untouched, grads)


@pytest.mark.parametrize("scale", [1e-30, 1e25, 1e37])
def test_norms_neither_over_nor_underflow(scale: float) -> None:
    """Where optax sees a norm of 0 or infinity, all in float32."""
    g = {"a": jnp.array([3.0, 0.0]) * scale, "b": jnp.array(4.0) * scale}
    limit = 1e-31 if scale < 1.0 else 1.0
    got = clip(clip_by_global_norm(limit), g)
    np.testing.assert_allclose(got["a"], [0.6 * limit, 0.0], rtol=1e-5)
    np.testing.assert_allclose(got["b"], 0.8 * limit, rtol=1e-5)
    w = jnp.array([3.0, 4.0])
    unit = clip(adaptive_grad_clip(1e-31 if scale < 1 else 0.1, 0.0), w * scale, w)
    share = 1e-31 if scale < 1.0 else 0.1
    np.testing.assert_allclose(unit, share * w, rtol=1e-5)
    large = clip(clip_by_global_norm(3e38), g)
    jax.tree.map(np.testing.assert_array_equal, large, g)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e25])
def test_norms_of_constants(size: float) -> None:
    # A loss without params has such gradients. XLA merges factors of constants.
    tx = clip_by_global_norm(1.0)
    for dtype in ("float32", "bfloat16", "complex64"):

        def clipped(dtype: str = dtype) -> jax.Array:
            grads = jnp.full(3, size, dtype)
            return tx.update(grads, tx.init(grads))[0]

        np.testing.assert_allclose(
            np.asarray(jax.jit(clipped)(), np.complex64),
            np.asarray(clipped(), np.complex64),
            rtol=1e-6,
        )


def test_norm_of_many_narrow_leaves() -> None:
    """A running sum in bfloat16 stops at 256; the norm of 400 ones is 20."""
    g = [jnp.ones((), jnp.bfloat16)] * 400
    got, _ = clip_by_global_norm(1.0).update(g, optax.EmptyState())
    assert got[0].dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(got[0]), 0.05, rtol=2**-8)


def test_worked_global_norm(x64: None) -> None:
    g = {"a": np.array([3.0]), "b": np.array(4.0)}
    got = clip(clip_by_global_norm(1.0), g)
    np.testing.assert_allclose([got["a"][0], got["b"]], [0.6, 0.8], rtol=1e-15)
    zero = clip(clip_by_global_norm(1.0), np.zeros(3))
    np.testing.assert_array_equal(zero, np.zeros(3))


@pytest.mark.parametrize("limit", [0.0, 0.3, 4.99, 5.01, float("inf")])
def test_global_norm_equals_optax(limit: float, x64: None) -> None:
    grads = {k: random_tree(4)[k] for k in ("scalar", "dense")}
    size = np.sqrt(sum(np.sum(np.square(g)) for g in grads.values()))
    grads = {k: 5.0 * g / size for k, g in grads.items()}
    got = clip(clip_by_global_norm(limit), grads)
    for k, expected in clip(optax.clip_by_global_norm(min(limit, 1e9)), grads).items():
        np.testing.assert_allclose(got[k], expected, rtol=1e-14, err_msg=k)
        if limit > 5.0:
            np.testing.assert_array_equal(got[k], grads[k])


def test_nonfinite_gradients_are_propagated() -> None:
    for bad in (jnp.inf, jnp.nan):
        g = {"a": jnp.array([1.0, bad]), "b": jnp.ones(2)}
        clipped = clip(clip_by_global_norm(1.0), g)
        assert not all(np.isfinite(x).all() for x in jax.tree.leaves(clipped))
        clipped = clip(adaptive_grad_clip(0.1), g, jax.tree.map(jnp.ones_like, g))
        assert not np.isfinite(clipped["a"]).all()
        assert np.isfinite(clipped["b"]).all()


def test_leaves_without_gradients_are_unchanged() -> None:
    g = {"x": jnp.array([3.0, 4.0]), "n": jnp.arange(3), "none": None}
    for tx in (clip_by_global_norm(1.0), adaptive_grad_clip(0.2)):
        got, _ = tx.update(g, tx.init(g), g | {"x": jnp.array([0.0, 5.0])})
        np.testing.assert_allclose(got["x"], [0.6, 0.8], rtol=1e-6)
        assert got["n"] is g["n"]
        assert got["none"] is None


def test_reduces_over_devices() -> None:
    """Each of four devices holds one entry; the norm is that of all of them."""
    g = jnp.array([3.0, 0.0, 4.0, 12.0])
    tx = clip_by_global_norm(1.0, reduce=lambda x: jax.lax.psum(x, "data"))
    got = jax.vmap(lambda x: clip(tx, x), axis_name="data")(g)
    np.testing.assert_allclose(got, g / 13.0, rtol=1e-6)


def test_clipping_allows_the_learning_rate_without_normalization() -> None:
    """Ten layers at a rate where plain SGD leaves the finite numbers."""
    keys = jax.random.split(jax.random.key(0), 12)
    params = [jax.random.normal(k, (16, 16)) * (2 / 16) ** 0.5 for k in keys[:10]]
    x = jax.random.normal(keys[10], (64, 16))
    y = jax.random.normal(keys[11], (64, 16))

    def loss(params: list[jax.Array]) -> jax.Array:
        h = x
        for w in params[:-1]:
            h = jax.nn.relu(h @ w)
        return jnp.mean(jnp.sum((h @ params[-1] - y) ** 2, 1))

    def train(clipper: optax.GradientTransformation) -> float:
        tx = optax.chain(clipper, optax.sgd(0.2))

        @jax.jit
        def run() -> jax.Array:
            def step(_: int, carry: tuple) -> tuple:
                params, state = carry
                updates, state = tx.update(jax.grad(loss)(params), state, params)
                return optax.apply_updates(params, updates), state

            return loss(jax.lax.fori_loop(0, 100, step, (params, tx.init(params)))[0])

        return float(run())

    assert not train(optax.identity()) < loss(params)
    assert train(adaptive_grad_clip(0.05)) < 0.8 * loss(params)


@pytest.mark.parametrize("value", [-1.0, float("nan"), -float("inf"), "one"], ids=str)
def test_limits_are_checked(value: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^clip_by_global_norm: max_norm must be .*got"
    ):
        clip_by_global_norm(value)
    with pytest.raises(
        ValueError, match=r"^adaptive_grad_clip: clipping must be .*got"
    ):
        adaptive_grad_clip(value)
    with pytest.raises(ValueError, match=r"^adaptive_grad_clip: eps must be .*got"):
        adaptive_grad_clip(0.1, value)


def test_error_messages() -> None:
    tx, x = adaptive_grad_clip(0.1), {"a": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"Call update\(grads, state, params\)"):
        clip(tx, x)
    with pytest.raises(ValueError, match=r"^adaptive_grad_clip: .* structure"):
        clip(tx, x, {"b": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"at \['a'\] got \(1,\), not \(2,\)"):
        clip(tx, {"a": jnp.ones(1)}, x)
    six = {"a": jnp.ones((1, 2, 1, 2, 1, 1))}
    with pytest.raises(ValueError, match=r"\['a'\] has shape .* give axis or axis_fn"):
        clip(tx, six, six)
    with pytest.raises(ValueError, match="not both"):
        adaptive_grad_clip(0.1, axis=0, axis_fn=lambda path, leaf: None)
