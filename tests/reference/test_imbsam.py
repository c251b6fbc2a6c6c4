"""ImbSAM against NumPy, worked numbers and its limits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optimizers._imbsam import imbsam, imbsam_gradient
from optimizers._sharpness_aware import sam
from tests.reference import landscapes
from tests.reference.landscapes import Q, logistic, point_of, run
from tests.reference.support import TWELVE_DIGITS

# Of two examples, the first is of a frequent class and the second of a rare one.
HEAD, TAIL = logistic((0.5, 0.0)), logistic((0.0, 0.5))
NOTHING = lambda x: jax.tree.map(jnp.zeros_like, x)  # noqa: E731


def reference(steps: int, rho: float, tail_weight: float) -> np.ndarray:
    def direction(x: np.ndarray, head: Any) -> np.ndarray:
        g = TAIL.gradient(x)
        higher = TAIL.gradient(x + rho * g / np.linalg.norm(g))
        return head(x) + tail_weight * higher

    return landscapes.descend(direction, HEAD, steps, 0.5)


@pytest.mark.parametrize(
    ("tail_weight", "expected"),
    [
        (1.0, (0.720588553142, -0.0634062687452, 0.116921853119)),
        (2.0, (0.822421903153, -0.114322943751, 0.0150885031073)),
    ],
    ids=["paper", "release"],
)
def test_worked_numbers(tail_weight: float, expected: Any, x64: None) -> None:
    tx = imbsam(optax.sgd(0.5), 0.1, tail_weight=tail_weight)
    actual = run(tx, HEAD, 1, tail_grad_fn=jax.grad(TAIL.loss))[0]
    np.testing.assert_allclose(actual, expected, rtol=TWELVE_DIGITS)
    np.testing.assert_allclose(
        reference(1, 0.1, tail_weight)[0], expected, rtol=TWELVE_DIGITS
    )


def test_follows_the_equations(x64: None) -> None:
    transform = imbsam_gradient(0.3, tail_weight=1.5)
    tx = optax.chain(transform, optax.sgd(0.5))
    actual = run(tx, HEAD, 25, tail_grad_fn=jax.grad(TAIL.loss))
    np.testing.assert_allclose(actual, reference(25, 0.3, 1.5), rtol=1e-12, atol=1e-12)


def test_without_a_head_it_is_sam(x64: None) -> None:
    flat = Q._replace(loss=lambda x: 0.0 * jnp.sum(x))
    ours = run(imbsam(optax.sgd(0.1)), flat, 10, tail_grad_fn=jax.grad(Q.loss))
    expected = run(sam(optax.sgd(0.1)), Q, 10)
    np.testing.assert_allclose(ours, expected, rtol=1e-14)


def test_without_a_tail_it_is_the_base_to_the_bit() -> None:
    ours = run(imbsam(optax.sgd(0.1)), Q, 10, tail_grad_fn=NOTHING)
    np.testing.assert_array_equal(ours, run(optax.sgd(0.1), Q, 10))


def test_without_radius_it_weights_the_tail() -> None:
    grads = jnp.array([1.0, 2.0])
    calls = []

    def tail_grad_fn(x: jax.Array) -> jax.Array:
        calls.append(x)
        return jnp.array([10.0, 20.0])

    transform = imbsam_gradient(0.0, tail_weight=0.5)
    found, _ = transform.update(grads, (), jnp.zeros(2), tail_grad_fn=tail_grad_fn)
    np.testing.assert_array_equal(found, [6.0, 12.0])
    assert len(calls) == 1


def test_only_the_tail_is_perturbed() -> None:
    tail, head = jnp.array([3.0, 4.0]), jnp.array([5.0, -7.0])
    asked = []

    def tail_grad_fn(x: jax.Array) -> jax.Array:
        asked.append(x)
        return tail

    transform = imbsam_gradient(0.5)
    found, _ = transform.update(head, (), jnp.zeros(2), tail_grad_fn=tail_grad_fn)
    np.testing.assert_array_equal(asked[0], [0.0, 0.0])
    np.testing.assert_allclose(asked[1], [0.3, 0.4], rtol=1e-6)
    np.testing.assert_array_equal(found, head + tail)


def test_leaves_python_numbers_and_dtypes() -> None:
    params = {"f": 1.0, "i": jnp.arange(2), "n": None, "w": jnp.ones(2)}
    grads = {"f": 0.5, "i": params["i"], "n": None, "w": jnp.ones(2, jnp.bfloat16)}
    transform = imbsam_gradient()
    with jax.debug_nans(True):
        found, _ = transform.update(
            grads, transform.init(params), params, tail_grad_fn=NOTHING
        )
    assert found["i"] is grads["i"]
    assert found["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(found["f"], 0.5)


def test_schedule() -> None:
    transform = imbsam_gradient(optax.linear_schedule(0.5, 0.0, 2))
    x = jnp.array([1.0, 0.0])
    state: Any = transform.init(x)
    for radius in (0.5, 0.25, 0.0):
        point = point_of(transform, x, 0 * x, state, "tail_grad_fn")
        np.testing.assert_allclose(point, [radius, 0.0])
        _, state = transform.update(x, state, x, tail_grad_fn=lambda x: x)


def test_errors() -> None:
    with pytest.raises(ValueError, match="imbsam: tail_weight"):
        imbsam(optax.sgd(0.1), tail_weight=-1.0)
    with pytest.raises(TypeError, match="imbsam: optimizer must be"):
        imbsam(optax.sgd)  # pyright: ignore[reportArgumentType]
    tx, x = imbsam(optax.sgd(0.1)), jnp.ones(2)
    with pytest.raises(ValueError, match=r"imbsam: update\(\) needs tail_grad_fn"):
        tx.update(x, tx.init(x), x, grad_fn=lambda x: x)
    with pytest.raises(ValueError, match="gradients that tail_grad_fn returns must"):
        tx.update(x, tx.init(x), x, tail_grad_fn=lambda x: (x, x))
    with pytest.raises(ValueError, match=r"imbsam: update\(\) needs params"):
        tx.update(x, tx.init(x), tail_grad_fn=lambda x: x)
