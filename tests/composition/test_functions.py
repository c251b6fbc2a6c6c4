"""Functions handed to update(): what is wrong with them is said where they are used."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import optimizers
from optimizers import sam_value_and_grad

PARAMS = {"w": jnp.array([1.0, 2.0]), "b": jnp.array(0.5)}


def loss(params: Any) -> jax.Array:
    return jnp.sum((params["w"] - 3.0) ** 2) + params["b"] ** 2


def update(name: str = "sam", **extra_args: Any) -> Any:
    tx = getattr(optimizers, name)(optax.sgd(0.1))
    grads = jax.grad(loss)(PARAMS)
    return tx.update(grads, tx.init(PARAMS), PARAMS, **extra_args)


def with_aux(params: Any) -> Any:
    return loss(params), {"correct": 3}


BAD_VALUES: list[tuple[Callable[..., Any], str]] = [
    (with_aux, r"a tuple\. .*value_fn=lambda params: loss\(params\)\[0\]"),
    (lambda params: params["w"], r"an array of shape \(2,\)"),
    (lambda params: (params["w"] > 0).sum(), "an array of .* int32"),
    (lambda params: None, "None"),
]


@pytest.mark.parametrize(
    ("value_fn", "says"), BAD_VALUES, ids=["pair", "vector", "count", "none"]
)
def test_value_fn_returns_the_loss(value_fn: Any, says: str) -> None:
    message = rf"^sam: value_fn must return the loss, a real number, got {says}"
    with pytest.raises(TypeError, match=message):
        update(value_fn=value_fn)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", ["sam", "gsam", "looksam", "friendly_sam"])
def test_value_fn_uses_its_argument(name: str, jit: bool) -> None:
    """A closure has the gradient 0, with which an optimizer would stand still."""

    def step(params: Any) -> Any:
        return update(name, value_fn=lambda _: loss(params))

    with pytest.raises(ValueError, match=rf"^{name}: .*value_fn .* does not depend"):
        (jax.jit(step) if jit else step)(PARAMS)


BAD_GRADIENTS: dict[str, tuple[Any, str]] = {
    "value and gradient": (jax.value_and_grad(loss), "only the element 1"),
    "gradient and aux": (jax.grad(with_aux, has_aux=True), "only the element 0"),
    "loss": (loss, "pass it as value_fn"),
}


@pytest.mark.parametrize("kind", BAD_GRADIENTS)
def test_grad_fn_returns_the_gradient(kind: str) -> None:
    grad_fn, says = BAD_GRADIENTS[kind]
    with pytest.raises(ValueError, match=rf"^sam: .*grad_fn returns.*{says}"):
        update(grad_fn=grad_fn)


def test_tail_grad_fn_returns_the_gradient() -> None:
    message = r"^imbsam: .*tail_grad_fn returns.*tail_grad_fn=jax\.grad\(\.\.\.\)"
    with pytest.raises(ValueError, match=message):
        update("imbsam", tail_grad_fn=loss)


@pytest.mark.parametrize("argument", ["value_fn", "grad_fn"])
def test_a_number_is_no_function(argument: str) -> None:
    with pytest.raises(TypeError, match=rf"^sam: {argument} must be a function"):
        update(**{argument: loss(PARAMS)})


def test_a_function_of_more_arguments_is_told_by_a_note() -> None:
    with pytest.raises(TypeError) as error:
        update(value_fn=lambda params, batch: loss(params) + batch)
    (note,) = (note for note in error.value.__notes__ if note.startswith("sam: "))
    assert note.startswith("sam: value_fn was called with one argument, params")


class Model(nnx.Module):
    def __init__(self) -> None:
        self.layer = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        self.calls = nnx.BatchStat(jnp.array(0.0))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.layer(x)


def model_loss(model: Model) -> jax.Array:
    return jnp.sum((model(jnp.ones((1, 2))) - 3.0) ** 2)


def test_nnx_modules_are_merged() -> None:
    """The form that the messages advise works; the two that people write do not."""
    model = Model()
    optimizer = nnx.Optimizer(model, optimizers.sam(optax.sgd(0.01)), wrt=nnx.Param)
    graph, params, others = nnx.split(model, nnx.Param, ...)
    advised = "nnx.merge(graph, params, others)"
    grads = nnx.grad(model_loss)(model)
    with pytest.raises(ValueError, match="does not depend") as error:
        optimizer.update(model, grads, value_fn=lambda params: model_loss(model))
    assert advised in str(error.value)
    with pytest.raises(TypeError, match="not callable") as raised:
        optimizer.update(model, grads, value_fn=model_loss)
    assert advised in raised.value.__notes__[0]
    before = model_loss(model)
    merged = lambda params: model_loss(nnx.merge(graph, params, others))  # noqa: E731
    optimizer.update(model, jax.grad(merged)(params), value_fn=merged)
    assert model_loss(model) < before


def test_the_loss_of_sam_value_and_grad() -> None:
    with pytest.raises(TypeError, match=r"loss must be a function, got a float"):
        sam_value_and_grad(3.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got a tuple\. Pass has_aux=True"):
        sam_value_and_grad(with_aux)(PARAMS)
    with pytest.raises(TypeError, match=r"with has_aux=True.*pair.*got an array"):
        sam_value_and_grad(lambda p: p["w"] ** 2, has_aux=True)(PARAMS)
    with pytest.raises(ValueError, match=r"^sam_value_and_grad: .*does not depend"):
        sam_value_and_grad(lambda p: loss(PARAMS))(PARAMS)
