"""Error messages begin with the name of the function that the user called."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import optimizers
from optimizers import catalog
from optimizers.catalog import Kind

Factory = Callable[..., optax.GradientTransformationExtraArgs]

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
BAD_GRADIENTS = {
    "other shapes": ({"w": jnp.ones((3, 2)), "b": jnp.ones(3)}, "shapes"),
    "other structure": ([jnp.ones((2, 3)), jnp.ones(3)], "structure"),
    "integers": ({"w": jnp.ones((2, 3), jnp.int32), "b": jnp.ones(3)}, "int32"),
}

FACTORIES = catalog.functions(optimizers, Kind.OPTIMIZER, Kind.PRIMITIVE)
factories = pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)


def _numbers(factory: Factory) -> list[str]:
    """The arguments that are a number by default, and the learning rate."""
    return [
        parameter.name
        for parameter in inspect.signature(factory).parameters.values()
        if parameter.name == "learning_rate" or type(parameter.default) in (int, float)
    ]


def _make(factory: Factory, **arguments: Any) -> optax.GradientTransformationExtraArgs:
    if "learning_rate" in inspect.signature(factory).parameters:
        arguments = {"learning_rate": 0.1, **arguments}
    return factory(**arguments)


def _assert_names(message: str, factory: Factory) -> None:
    name = factory.__name__
    assert message.startswith(f"{name}: ")
    assert "scale_by_" not in message.removeprefix(name)


@pytest.mark.parametrize(
    ("factory", "argument"),
    [
        pytest.param(factory, argument, id=f"{name}-{argument}")
        for name, factory in FACTORIES.items()
        for argument in _numbers(factory)
    ],
)
def test_bad_hyperparameters(factory: Factory, argument: str) -> None:
    with pytest.raises(ValueError, match=re.escape(argument)) as error:
        _make(factory, **{argument: float("nan")})
    _assert_names(str(error.value), factory)


@factories
@pytest.mark.parametrize("fault", BAD_GRADIENTS)
def test_bad_gradients(factory: Factory, fault: str) -> None:
    gradients, word = BAD_GRADIENTS[fault]
    optimizer = _make(factory)
    state = jax.eval_shape(optimizer.init, PARAMS)
    with pytest.raises(ValueError, match=word) as error:
        jax.eval_shape(optimizer.update, gradients, state, PARAMS)
    _assert_names(str(error.value), factory)


def test_params_of_another_structure() -> None:
    optimizer = optimizers.adamw(0.1)
    for params, found in (
        ({"w": PARAMS["w"]}, "the params have no leaf at ['b']"),
        ({**PARAMS, "c": 1.0}, "no value for the leaf of the params at ['c']"),
        ({"w": PARAMS["w"], "b": (1.0, 1.0)}, "stands for several params"),
    ):
        message = f"^adamw: the params must have the structure .*{re.escape(found)}"
        with pytest.raises(ValueError, match=message):
            optimizer.update(PARAMS, optimizer.init(PARAMS), params)


@factories
def test_bad_params(factory: Factory) -> None:
    with pytest.raises(ValueError, match="int32") as error:
        _make(factory).init({"w": jnp.ones(3, jnp.int32)})
    _assert_names(str(error.value), factory)


@pytest.mark.parametrize(
    "factory",
    [
        pytest.param(factory, id=name)
        for name, factory in FACTORIES.items()
        if "weight_decay" in inspect.signature(factory).parameters
    ],
)
def test_missing_params(factory: Factory) -> None:
    optimizer = _make(factory, weight_decay=0.1)
    state = jax.eval_shape(optimizer.init, PARAMS)
    with pytest.raises(ValueError, match="params") as error:
        jax.eval_shape(optimizer.update, PARAMS, state)
    _assert_names(str(error.value), factory)
