"""Error messages begin with the name of the function that the user called."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from flax.core import FrozenDict

import optimizers
from optimizers import catalog
from optimizers._common.typing import Scalar
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
        ({"w": PARAMS["w"]}, "no leaf at ['b'] in the params"),
        ({**PARAMS, "c": 1.0}, "no leaf at ['c'] in the gradients"),
        (
            {"w": PARAMS["w"], "b": (1.0, 1.0)},
            "no leaf at ['b'] in the params, and none at ['b'][0] in the gradients",
        ),
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


NUMBERS_ONLY = [
    pytest.param(factory, parameter.name, id=f"{name}-{parameter.name}")
    for name, factory in catalog.functions(optimizers).items()
    for parameter in inspect.signature(factory).parameters.values()
    if parameter.annotation in (Scalar, Scalar | None)
]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "got None."),
        ("fast", "got 'fast'."),
        (jnp.ones(1), "got shape (1,)."),
        (jnp.ones(3), "got shape (3,)."),
    ],
    ids=["None", "string", "one element", "three elements"],
)
@pytest.mark.parametrize("name", ["adam", "prodigy", "adabound", "innaprop"])
def test_schedules_return_a_number(name: str, value: Any, found: str) -> None:
    def warmup(_: jax.Array) -> Any:
        return value

    tx = getattr(optimizers, name)(warmup)
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match="warmup must return a scalar") as raised:
        tx.update(PARAMS, state, PARAMS)
    assert str(raised.value).endswith(found)


@pytest.mark.parametrize(("factory", "argument"), NUMBERS_ONLY)
def test_schedules_of_numbers(factory: Factory, argument: str) -> None:
    schedule = lambda count: 0.5  # noqa: E731
    with pytest.raises(ValueError, match=rf"^{factory.__name__}: {argument} ") as error:
        catalog.example(factory, **{argument: schedule})
    if argument != "rho":  # sam_value_and_grad is no optimizer
        assert f"inject_hyperparams({factory.__name__})(..., {argument}=" in str(
            error.value
        )


LAYERS = {f"l{i}": {"kernel": jnp.ones(2), "bias": jnp.ones(2)} for i in range(40)}


@pytest.mark.parametrize(
    ("gradients", "difference"),
    [
        (
            LAYERS | {"l3": {"kernel": 1.0, "bais": 1.0}},
            "there is no leaf at ['l3']['bias'] in the gradients, and none at "
            "['l3']['bais'] in the params of init()",
        ),
        (LAYERS | {"l3": {"bias": 1.0}}, "there is no leaf at ['l3']['kernel'] in"),
        (LAYERS | {"head": 1.0}, "there is no leaf at ['head'] in the params"),
        (None, "no leaf at ['l0']['bias'] in the gradients"),
        (FrozenDict(LAYERS), "<class 'flax.core.frozen_dict.FrozenDict'>"),
        (
            LAYERS | {"l3": (1.0, 1.0)},
            "no leaf at ['l3']['bias'] in the gradients, and none at ['l3'][0] in",
        ),
    ],
    ids=["misspelt", "missing", "surplus", "none", "container", "tuple"],
)
def test_another_structure_is_told_by_its_first_difference(
    gradients: Any, difference: str
) -> None:
    tx = optimizers.adam(0.1)
    with pytest.raises(ValueError, match=re.escape(difference)) as error:
        tx.update(gradients, tx.init(LAYERS))
    assert str(error.value).startswith("adam: the gradients must have the structure")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "several", [(PARAMS, PARAMS), [PARAMS, PARAMS]], ids=["tuple", "list"]
)
def test_several_auxiliary_gradients_need_several_weights(several: Any) -> None:
    message = r"^(bloop|cagrad): .* got a (tuple|list) of 2.* aux_weight=\[0\.1, 0\.1\]"
    for tx in (optimizers.bloop(0.1), optimizers.cagrad()):
        with pytest.raises(ValueError, match=message):
            tx.update(PARAMS, tx.init(PARAMS), PARAMS, aux_grads=several)
    tx = optimizers.bloop([0.1, 0.1])
    tx.update(PARAMS, tx.init(PARAMS), PARAMS, aux_grads=several)


def test_a_pair_of_value_and_auxiliary_gradient_is_refused() -> None:
    tx = optimizers.bloop(0.1)
    with pytest.raises(ValueError, match=r"pair of value and gradient.*element 1"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, aux_grads=(jnp.array(1.0), PARAMS))
