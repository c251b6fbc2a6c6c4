"""Transformations in a wrong order are refused, and those in the right one work."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import catalog
from optimizers.catalog import Kind

X = jnp.array([1.0, 2.0])
ROWS = jnp.array([[1.0, 2.0], [-1.0, 0.5], [0.3, -1.0], [2.0, 1.0]])


def loss(x: jax.Array) -> jax.Array:
    return jnp.sum((x - 3.0) ** 2)


EXTRAS = {"value_fn": loss, "tail_grad_fn": jax.grad(loss), "aux_grads": X}


def updates_of(tx: Any) -> jax.Array:
    state = tx.init(X)
    return jax.jit(lambda g: tx.update(g, state, X, **EXTRAS)[0])(jax.grad(loss)(X))


# Those that need another gradient or function than that of the chain.
NEEDY = {
    name: catalog.example(factory)
    for name, factory in catalog.functions(
        optimizers, Kind.GRADIENT_TRANSFORMATION
    ).items()
    if "clip" not in name and "width" not in name
}
ENDS = {
    "adam": optimizers.adam(0.1),  # flips the sign with the learning rate
    "prodigy": optimizers.prodigy(),  # flips the sign alone
    "lookahead": optimizers.lookahead(optax.sgd(0.1)),
}


@pytest.mark.parametrize("name", NEEDY)
def test_after_an_optimizer_it_raises(name: str) -> None:
    message = rf"^{name}: .*updates.*optax\.chain\({name}\(\.\.\.\), adam\(\.\.\.\)\)"
    with pytest.raises(ValueError, match=message):
        updates_of(optax.chain(ENDS["adam"], NEEDY[name]))
    assert updates_of(optax.chain(NEEDY[name], ENDS["adam"])) @ jax.grad(loss)(X) < 0.0


@pytest.mark.parametrize("end", ENDS)
def test_every_end_of_an_optimizer_is_known(end: str) -> None:
    tx = optax.chain(ENDS[end], optimizers.bloop(0.1))
    for update in (tx.update, jax.jit(tx.update)):
        with pytest.raises(ValueError, match="before the optimizer"):
            update(X, tx.init(X), X, aux_grads=X)


def test_what_is_not_an_update_is_not_refused() -> None:
    updates, _ = optimizers.adam(0.1).update(X, optimizers.adam(0.1).init(X), X)
    tx = optimizers.bloop(0.1)
    for gradient in (-updates, X, updates.astype(jnp.bfloat16)):
        tx.update(gradient, tx.init(X), X, aux_grads=X)
    # Clipping the updates of an optimizer is meant.
    clipped = optax.chain(optimizers.adam(0.1), optimizers.clip_by_global_norm(1e-3))
    np.testing.assert_allclose(jnp.linalg.norm(updates_of(clipped)), 1e-3, rtol=1e-6)


WRAPPERS = [optimizers.sam, optimizers.asam, optimizers.friendly_sam, optimizers.gsam]


def accumulated(tx: Any) -> jax.Array:
    """The update after two micro-batches of two rows."""
    state, update = tx.init(X), X
    for rows in (ROWS[:2], ROWS[2:]):
        value = lambda x, rows=rows: jnp.mean((rows @ x - 1.0) ** 2)  # noqa: E731
        update, state = tx.update(jax.grad(value)(X), state, X, value_fn=value)
    return update


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_accumulation_inside_sees_every_micro_batch(wrapper: Any) -> None:
    """The mean of the two gradients of SAM, each on its own micro-batch."""
    rho, learning_rate = 0.2, 0.1

    def gradient(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return rows.T @ (rows @ x - 1.0)  # of the mean over two rows

    directions = []
    for rows in np.split(np.asarray(ROWS, np.float64), 2):
        x = np.asarray(X, np.float64)
        g = gradient(x, rows)
        directions.append(gradient(x + rho * g / np.linalg.norm(g), rows))
    options: dict[str, Any] = {
        optimizers.gsam: {"alpha": 0.0},
        optimizers.friendly_sam: {"sigma": 0.0},
        optimizers.asam: {"adaptive": False},
    }.get(wrapper, {})
    steps = optax.MultiSteps(optax.sgd(learning_rate), 2)
    got = accumulated(wrapper(steps, rho, **options))
    np.testing.assert_allclose(got, -learning_rate * np.mean(directions, 0), rtol=1e-5)
    around = accumulated(optax.MultiSteps(wrapper(optax.sgd(learning_rate), rho), 2))
    assert np.abs(around - got).max() > 0.1 * np.abs(got).max()


def test_accumulation_inside_gets_extra_arguments() -> None:
    seen = []

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        seen.append(set(extra))
        return updates, state

    base = optax.GradientTransformationExtraArgs(optax.identity().init, update)
    tx = optimizers.sam(optax.MultiSteps(base, 2))
    tx.update(X, tx.init(X), X, value_fn=loss, value=1.0)
    assert seen[0] == {"value_fn", "value"}


@pytest.mark.parametrize(
    "inner", [optax.MultiSteps(optax.sgd(0.1), 3), optax.apply_every(3)]
)
def test_reset_of_accumulated_gradients_is_refused(inner: Any) -> None:
    tx = optimizers.lookahead(optax.chain(inner), 2, inner_state="reset")
    message = r"^lookahead: inner_state='reset'.*MultiSteps\(lookahead\("
    with pytest.raises(ValueError, match=message):
        tx.init(X)


def test_whole_steps_are_counted_inside_accumulation() -> None:
    """Three gradients of 1 make a step of -0.1; the second one is halved."""
    inside = optimizers.lookahead(optax.sgd(0.1), 2, 0.5, inner_state="reset")
    tx = optax.MultiSteps(inside, 3)
    x, state = X, tx.init(X)
    for _ in range(6):
        updates, state = tx.update(jnp.ones(2), state, x)
        x = optax.apply_updates(x, updates)
    np.testing.assert_allclose(x, X - 0.1, rtol=1e-6)


def test_lookahead_leaves_the_gradients_to_its_optimizer() -> None:
    """Differentially private SGD takes the gradients of single examples."""
    inner = optax.chain(
        optax.contrib.differentially_private_aggregate(1e6, 0.0, key=0),
        optax.sgd(0.1),
    )
    examples = jnp.array([[1.0, 3.0], [3.0, 5.0]])
    tx = optimizers.lookahead(inner, 2, 0.5)
    x, state = X, tx.init(X)
    for _ in range(2):
        updates, state = jax.jit(tx.update)(examples, state, x)
        x = optax.apply_updates(x, updates)
    np.testing.assert_allclose(x, X - 0.1 * np.array([2.0, 4.0]), rtol=1e-6)
