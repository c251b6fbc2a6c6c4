"""Masks and other functions as arguments: their types, structures and injection."""

import dataclasses
import inspect
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import catalog

PARAMS = {"w": np.ones((2, 2), np.float32), "b": np.ones(2, np.float32)}
FUNCTIONS = catalog.functions(optimizers)


def taking(*arguments: str) -> list[tuple[str, str]]:
    return [
        (name, argument)
        for name, function in FUNCTIONS.items()
        for argument in inspect.signature(function).parameters
        if argument in arguments and name != "sam_value_and_grad"
    ]


def call(name: str, make: Any = None, **arguments: Any) -> Any:
    """The public function with few arguments, and weight decay if it has any."""
    function = FUNCTIONS[name]
    if "weight_decay" in inspect.signature(function).parameters:
        arguments.setdefault("weight_decay", 0.5)
    if make is not None:
        function = make(function)
    return catalog.example(function, **arguments)


def update(tx: Any, params: Any = PARAMS) -> Any:
    params = jax.tree.map(jnp.asarray, params)
    grad_fn = lambda p: jax.tree.map(lambda x: x * jnp.arange(1.0, 3.0), p)  # noqa: E731
    updates, _ = tx.update(
        grad_fn(params), tx.init(params), params, grad_fn=grad_fn, tail_grad_fn=grad_fn
    )
    return updates


def matrices(params: Any) -> Any:
    return jax.tree.map(lambda x: x.ndim > 1, params)


MASKS = taking("mask", "weight_decay_mask")
every_mask = pytest.mark.parametrize(("name", "argument"), MASKS)
every_tree_of_booleans = pytest.mark.parametrize(
    ("name", "argument"), [*MASKS, *taking("adaptive")]
)


@every_mask
def test_an_injected_mask_must_be_static(name: str, argument: str) -> None:
    """`optax.inject_hyperparams` calls the mask as a schedule, which returns False."""
    tx = call(name, optax.inject_hyperparams, **{argument: matrices})
    message = rf'^{name}: {argument} must be .*got False.*static_args="{argument}"'
    for init in (tx.init, lambda params: jax.eval_shape(tx.init, params)):
        with pytest.raises(ValueError, match=message):
            init(PARAMS)

    def inject(function: Any) -> Any:
        return optax.inject_hyperparams(function, static_args=argument)

    expected = update(call(name, **{argument: matrices}))
    for leaf, other in zip(
        jax.tree.leaves(update(call(name, inject, **{argument: matrices}))),
        jax.tree.leaves(expected),
        strict=True,
    ):
        np.testing.assert_allclose(leaf, other, rtol=1e-4)


@every_tree_of_booleans
@pytest.mark.parametrize("value", [jnp.bool_(True), jnp.float32(0.5), 0.5, 1, "yes"])
def test_a_single_value_is_no_mask(name: str, argument: str, value: Any) -> None:
    message = rf'^{name}: {argument} must be .*got .*static_args="{argument}"'
    with pytest.raises(ValueError, match=message):
        call(name, **{argument: value})


@every_tree_of_booleans
@pytest.mark.parametrize(
    ("mask", "found"),
    [
        ({"w": "yes", "b": "no"}, "the leaf at ['b'] is 'no'"),
        ({"w": 1, "b": True}, "the leaf at ['w'] is 1"),
        ({"w": np.ones(2, np.bool_), "b": True}, "the leaf at ['w'] is array("),
        ({"w": matrices, "b": matrices}, "the leaf at ['b'] is <function matrices"),
        ({"w": True}, "no leaf at ['b'] in {argument}"),
        (
            {"w": True, "b": {"c": True}},
            "no leaf at ['b'] in {argument}, and none at ['b']['c'] in the params",
        ),
        ({"w": True, "b": True, "c": True}, "there is no leaf at ['c'] in the params"),
        (
            [True, False],
            "no leaf at ['b'] in {argument}, and none at [0] in the params",
        ),
    ],
)
def test_masks_of_another_kind_are_refused(
    name: str, argument: str, mask: Any, found: str
) -> None:
    expected = found.replace("{argument}", argument)
    given = {"tree": mask} if callable(mask) else {"tree": mask, "fn": lambda _: mask}
    for value in given.values():
        message = rf"^{name}: {argument} must .*{re.escape(expected)}"
        with pytest.raises(ValueError, match=message):
            update(call(name, **{argument: value}))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Converting:
    w: Any
    b: Any

    def __post_init__(self) -> None:
        self.w, self.b = jnp.asarray(self.w), jnp.asarray(self.b)


@pytest.mark.parametrize(
    ("name", "argument"),
    [pair for pair in taking("mask", "adaptive") if "sam" in pair[0]],
)
def test_a_class_may_convert_the_booleans(name: str, argument: str) -> None:
    """The rules of the testing kit ask for the same of masks of weight decay."""
    expected = update(call(name, **{argument: matrices}))
    tx = call(name, **{argument: matrices})
    found = jax.jit(lambda params: update(tx, params))(Converting(**PARAMS))
    np.testing.assert_allclose(found.w, expected["w"], rtol=1e-6)
    np.testing.assert_allclose(found.b, expected["b"], rtol=1e-6)


def test_traced_booleans_are_refused() -> None:
    optimizer = optimizers.adamw(0.1, mask=lambda p: jax.tree.map(jnp.any, p))
    update(optimizer)
    with pytest.raises(
        ValueError, match=r"^adamw: mask must be .*at \['b'\] is .*bool"
    ):
        jax.jit(lambda: update(optimizer))()


@every_tree_of_booleans
def test_booleans_of_numpy_are_booleans(name: str, argument: str) -> None:
    expected = update(call(name, **{argument: {"w": True, "b": False}}))
    for mask in (
        {"w": np.True_, "b": np.False_},
        {"w": np.asarray(True), "b": np.asarray(False)},
        {"w": jnp.bool_(True), "b": jnp.bool_(False)},
    ):
        found = update(call(name, **{argument: mask}))
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    for one in (True, False):
        expected = update(call(name, **{argument: one}))
        found = update(call(name, **{argument: np.bool_(one)}))
        jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(("name", "argument"), taking("reduce", "axis_fn"))
def test_other_functions_must_be_static(name: str, argument: str) -> None:
    message = rf'^{name}: {argument} must be .*got .*static_args="{argument}"'
    with pytest.raises(ValueError, match=message):
        call(name, **{argument: jnp.zeros([], jnp.int32)})


def test_labels_of_another_kind_are_refused() -> None:
    make = optimizers.width_scaled_learning_rate
    name = "^width_scaled_learning_rate: "
    message = name + 'labels must be .*got .*static_args="labels"'
    with pytest.raises(ValueError, match=message):
        make(jnp.float32(1.0), 4.0)
    for label in (1, bool, np.ones(2), jnp.ones(2), jnp.float32(1.0)):
        with pytest.raises(ValueError, match=name + r"the label at \['b'\] must be"):
            make({"w": "hidden", "b": label}, 4.0)
    message = name + r"the labels .*no leaf at \['b'\] in the labels"
    with pytest.raises(ValueError, match=message):
        update(make({"w": "hidden"}, 4.0))
