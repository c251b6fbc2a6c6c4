"""The gradient of SAM as a function of the loss, and m-sharpness."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optimizers import sam_value_and_grad, sharpness_aware
from tests.reference.landscapes import Z
from tests.reference.support import TWELVE_DIGITS, flat

PyTree = Any

ROWS = np.array([[1.0, 2.0, 1.0], [-1.0, 0.5, -1.0]])  # inputs and sign


def loss_of_rows(params: PyTree, rows: jax.Array) -> jax.Array:
    margins = rows[:, 2] * (rows[:, :2] @ params["w"] + params["b"])
    return jnp.mean(jnp.logaddexp(0.0, -margins))


def test_value_and_grad_is_the_transform(x64: None) -> None:
    params = jax.tree.map(jnp.asarray, Z.start)
    for options in ({}, {"p": 4}, {"adaptive": True, "ascent_steps": 2}):
        value, grads = sam_value_and_grad(loss_of_rows, 0.1, **options)(params, ROWS)
        transform = sharpness_aware(0.1, **options)
        expected, _ = transform.update(
            jax.grad(Z.loss)(params), (), params, grad_fn=jax.grad(Z.loss)
        )
        np.testing.assert_allclose(value, 0.554554207373, rtol=TWELVE_DIGITS)
        np.testing.assert_allclose(flat(grads), flat(expected), rtol=1e-12)


def test_value_and_grad_with_radius_zero_equals_jax() -> None:
    params = jax.tree.map(jnp.float32, Z.start)
    rows = jnp.asarray(ROWS, jnp.float32)
    ours = sam_value_and_grad(loss_of_rows, 0.0)(params, rows)
    expected = jax.value_and_grad(loss_of_rows)(params, rows)
    np.testing.assert_array_equal(flat(ours), flat(expected))


def test_worked_microbatches(x64: None) -> None:
    params = jax.tree.map(jnp.asarray, Z.start)
    value_and_grad = sam_value_and_grad(loss_of_rows, 0.1, microbatches=2)
    value, grads = jax.jit(value_and_grad)(params, ROWS)
    moved = Z.vector(jax.tree.map(lambda x, g: x - 0.5 * g, params, grads))
    np.testing.assert_allclose(
        moved,
        (0.73587683266, -0.0328297097084, 0.132210132637),
        rtol=TWELVE_DIGITS,
        atol=1e-12,
    )
    np.testing.assert_allclose(value, 0.554554207373, rtol=TWELVE_DIGITS)


def test_one_microbatch_is_sam() -> None:
    params = jax.tree.map(jnp.float32, Z.start)
    rows = jnp.asarray(ROWS, jnp.float32)
    whole = sam_value_and_grad(loss_of_rows)(params, rows)
    one = sam_value_and_grad(loss_of_rows, microbatches=1)(params, rows)
    np.testing.assert_array_equal(flat(one), flat(whole))


def test_value_and_aux_are_those_of_the_first_pass_with_the_same_key() -> None:
    def loss(x: jax.Array, rows: jax.Array, key: jax.Array, *, scale: float) -> Any:
        drawn = jax.random.normal(key, x.shape)
        return scale * jnp.sum((rows @ x) ** 2) + jnp.sum(drawn * x), {"params": x}

    x, rows, key = jnp.array([1.0, 2.0]), jnp.eye(2), jax.random.key(0)
    value_and_grad = sam_value_and_grad(loss, 0.5, has_aux=True)
    (value, aux), grads = value_and_grad(x, rows, key, scale=2.0)
    drawn = jax.random.normal(key, x.shape)
    np.testing.assert_array_equal(aux["params"], x)
    np.testing.assert_allclose(value, 10.0 + drawn @ x, rtol=1e-6)
    # The gradient is 4 x + drawn; another key would give a point at another distance.
    point = (grads - drawn) / 4.0
    np.testing.assert_allclose(np.linalg.norm(point - x), 0.5, rtol=1e-5)


def test_microbatches_split_the_named_arguments() -> None:
    def loss(x: jax.Array, table: Any, batch: Any) -> Any:
        errors = batch["rows"] @ x - batch["targets"] + table[0]
        return jnp.mean(errors**2), batch["rows"].sum()

    x, table = jnp.array([1.0, 2.0]), jnp.ones(3)
    rows = jnp.arange(8.0).reshape(4, 2)
    batch = {"rows": rows, "targets": jnp.ones(4)}
    options: Any = {"has_aux": True, "microbatches": 2, "batch_argnums": (2,)}
    (value, aux), grads = sam_value_and_grad(loss, 0.1, **options)(x, table, batch)
    halves = [jax.tree.map(lambda v, i=i: v[i : i + 2], batch) for i in (0, 2)]
    single = sam_value_and_grad(loss, 0.1, has_aux=True)
    groups = [single(x, table, half) for half in halves]
    np.testing.assert_allclose(value, np.mean([g[0][0] for g in groups]), rtol=1e-6)
    np.testing.assert_allclose(aux, [g[0][1] for g in groups])
    mean = np.mean([g[1] for g in groups], axis=0)
    np.testing.assert_allclose(grads, mean, rtol=1e-6)


def test_examples_that_cannot_be_split_are_refused() -> None:
    params = jax.tree.map(jnp.float32, Z.start)
    halves = sam_value_and_grad(loss_of_rows, microbatches=2)
    with pytest.raises(
        ValueError, match=r"argument 1 has the shape \(3, 3\).* 2 micro"
    ):
        halves(params, jnp.ones((3, 3)))
    with pytest.raises(ValueError, match=r"argument 1\['a'\] has the shape \(\)"):
        halves(params, {"a": 1.0})
    with pytest.raises(ValueError, match=r"batch_argnums has 1, .*by position"):
        halves(params, rows=jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="microbatches must be an integer >= 1, got 0"):
        sam_value_and_grad(loss_of_rows, microbatches=0)
    with pytest.raises(ValueError, match="rho must be a number"):
        sam_value_and_grad(loss_of_rows, lambda count: 0.1)
