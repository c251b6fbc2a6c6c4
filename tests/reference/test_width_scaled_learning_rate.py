"""Rates by width: the printed table, the rule behind it, and real networks."""

import dataclasses
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from tests.reference import support

LAYERS = ("embedding", "hidden", "readout")

# Exponents of the width for embedding, hidden, readout.
TABLE = {
    ("standard", "full"): {
        "sgd": "1/2 -1/2 -1",
        "adam": "0 -1 -1",
        "adafactor": "0 -1/2 -1/2",
    },
    ("ntk", "full"): {
        "sgd": "1/2 1/2 0",
        "adam": "0 -1/2 -1/2",
        "adafactor": "0 -1/2 -1/2",
    },
    ("mup", "full"): {
        "sgd": "0 0 0",
        "adam": "-1/2 -1 -1/2",
        "adafactor": "0 -1/2 0",
    },
    ("mean_field", "full"): {
        "sgd": "1 1 1",
        "adam": "0 -1/2 0",
        "adafactor": "0 -1/2 0",
    },
    ("standard", "none"): {
        "sgd": "1/2 0 -1/2",
        "adam": "0 -1/2 -1/2",
        "adafactor": "0 0 0",
    },
    ("ntk", "none"): {
        "sgd": "1/2 1 1/2",
        "adam": "0 0 0",
        "adafactor": "0 0 0",
    },
    ("mup", "none"): {
        "sgd": "0 1/2 1/2",
        "adam": "-1/2 -1/2 0",
        "adafactor": "0 0 1/2",
    },
    ("mean_field", "none"): {
        "sgd": "1 3/2 3/2",
        "adam": "0 0 1/2",
        "adafactor": "0 0 1/2",
    },
}

CELLS = [
    (*row, optimizer, cells)
    for row, columns in TABLE.items()
    for optimizer, cells in columns.items()
]


def scaled(
    labels: support.PyTree, updates: support.PyTree, **options: str
) -> support.PyTree:
    """The updates after the scaling, at a ratio of 16."""
    scaling = optimizers.width_scaled_learning_rate(labels, 16.0, **options)
    return scaling.update(updates, scaling.init(updates))[0]


@pytest.mark.parametrize(("parameterization", "alignment", "optimizer", "cells"), CELLS)
def test_table(
    parameterization: str, alignment: str, optimizer: str, cells: str, x64: None
) -> None:
    factors = scaled(
        {layer: layer for layer in LAYERS},
        {layer: jnp.ones([]) for layer in LAYERS},
        parameterization=parameterization,
        alignment=alignment,
        optimizer=optimizer,
    )
    for layer, cell in zip(LAYERS, cells.split(), strict=True):
        np.testing.assert_allclose(
            np.log(factors[layer]) / np.log(16), float(Fraction(cell)), atol=1e-15
        )


def test_defaults(x64: None) -> None:
    labels = {layer: layer for layer in LAYERS}
    updates = {layer: jnp.full(2, 3.0) for layer in LAYERS}
    expected = {"embedding": 3.0, "hidden": 3 / 16, "readout": 3 / 16}
    support.assert_close(
        scaled(labels, updates),
        {layer: np.full(2, expected[layer]) for layer in LAYERS},
        0.0,
    )


def test_a_ratio_of_one_has_no_effect() -> None:
    updates = support.cast(support.random_sequence(1).gradients, jnp.float32)
    for optimizer in ("sgd", "adam", "adafactor"):
        scaling = optimizers.width_scaled_learning_rate(
            "hidden", 1.0, optimizer=optimizer
        )
        result, _ = scaling.update(updates, scaling.init(updates))
        jax.tree.map(np.testing.assert_array_equal, result, updates)


def test_labels_as_a_prefix_and_as_a_function() -> None:
    updates = {"in": jnp.ones(2), "blocks": [jnp.ones(3), {"w": jnp.ones(())}]}
    whole = {"in": "embedding", "blocks": ["hidden", {"w": "hidden"}]}
    prefix = {"in": "embedding", "blocks": "hidden"}

    def by_name(tree: support.PyTree) -> support.PyTree:
        return {name: prefix[name] for name in tree}

    expected = {"in": np.ones(2), "blocks": [np.ones(3) / 16, {"w": np.ones(()) / 16}]}
    for labels in (whole, prefix, by_name):
        support.assert_close(scaled(labels, updates), expected, 0.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Model:
    kernel: Any
    bias: Any

    def __call__(self, x: jax.Array) -> jax.Array:
        raise NotImplementedError


def test_labels_may_be_a_callable_tree() -> None:
    params = _Model(jnp.ones((2, 2)), jnp.ones(2))
    labels = _Model("hidden", "embedding")
    tx = optimizers.width_scaled_learning_rate(labels, 4.0)
    updates, _ = tx.update(params, tx.init(params))
    np.testing.assert_array_equal(updates.kernel, np.full((2, 2), 0.25))
    np.testing.assert_array_equal(updates.bias, np.ones(2))


def test_masked_leaves_are_supported() -> None:
    params = {"in": jnp.ones(2), "out": jnp.ones(2)}
    labels = {"in": "embedding", "out": "readout"}
    scaling = optax.masked(
        optimizers.width_scaled_learning_rate(labels, 4.0), {"in": False, "out": True}
    )
    result, _ = scaling.update(params, scaling.init(params))
    expected = {"in": np.ones(2), "out": np.full(2, 0.25)}
    support.assert_close(result, expected, 0.0)


def test_keeps_dtypes() -> None:
    updates = {
        "half": jnp.ones(2, jnp.float16),
        "brain": jnp.ones(2, jnp.bfloat16),
        "complex": jnp.ones(2, jnp.complex64),
    }
    for ratio in (16.0, np.float64(16.0), jnp.float32(16.0), jnp.int32(16)):
        scaling = optimizers.width_scaled_learning_rate("hidden", ratio)
        result, _ = jax.jit(scaling.update)(updates, scaling.init(updates))
        for name, update in updates.items():
            assert result[name].dtype == update.dtype
            np.testing.assert_array_equal(result[name], update / 16)


# What multiplies the weights of each layer and how they start: the powers of 1 / width.
NETWORKS = {
    "standard": ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5)),
    "ntk": ((0.0, 0.5, 0.5), (0.0, 0.0, 0.0)),
    "mup": ((-0.5, 0.0, 0.5), (0.5, 0.5, 0.5)),
    "mean_field": ((0.0, 0.5, 1.0), (0.0, 0.0, 0.0)),
}


def _network(
    parameterization: str, width: int
) -> tuple[dict[str, jax.Array], dict[str, float]]:
    """The params of a network with 8 inputs and 1 output, and what multiplies them."""
    rng = np.random.default_rng(width)
    powers, deviations = NETWORKS[parameterization]
    shapes = ((8, width), (width, width), (width, 1))
    params = {
        layer: jnp.asarray(rng.normal(size=shape) / width**deviation)
        for layer, shape, deviation in zip(LAYERS, shapes, deviations, strict=True)
    }
    multipliers = {
        layer: width**-power for layer, power in zip(LAYERS, powers, strict=True)
    }
    return params, multipliers


def _forward(
    params: dict[str, jax.Array], multipliers: dict[str, float]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The output, and what comes into each layer."""
    x, inputs = jnp.asarray(np.random.default_rng(0).normal(size=8)), {}
    for layer in LAYERS:
        inputs[layer] = x
        x = multipliers[layer] * (x @ params[layer])
        x = jnp.tanh(x) if layer != "readout" else x
    return x[0], inputs


def _moved(parameterization: str, optimizer: str, width: int) -> dict[str, float]:
    """How far one step moves what each layer puts out, its input staying the same.

    The step follows the gradient of the very inputs that are measured, so that they
    are aligned with it.
    """
    params, multipliers = _network(parameterization, width)
    rule = optimizers.adam(1e-3) if optimizer == "adam" else optax.sgd(1e-3)
    scaling = optimizers.width_scaled_learning_rate(
        {layer: layer for layer in LAYERS},
        width / 64,
        parameterization=parameterization,
        optimizer=optimizer,
    )
    chain = optax.chain(rule, scaling)
    gradient, inputs = jax.grad(_forward, has_aux=True)(params, multipliers)
    if optimizer == "adam":  # otherwise its eps stands above the gradients
        gradient = jax.tree.map(lambda g: 1e6 * g, gradient)
    updates, _ = chain.update(gradient, chain.init(params), params)
    changes = {n: multipliers[n] * (inputs[n] @ updates[n]) for n in LAYERS}
    return {n: float(jnp.sqrt(jnp.mean(c**2))) for n, c in changes.items()}


@pytest.mark.parametrize(
    ("parameterization", "exponents"),
    [
        ("standard", [-0.5, -0.5, 0.0]),
        ("ntk", [-0.5, -1.0, -0.5]),
        ("mup", [-0.5, -1.0, -0.5]),
        ("mean_field", [-1.0, -1.5, -1.0]),
    ],
)
def test_gradients_shrink_with_the_width_as_the_eps_should(
    parameterization: str, exponents: list[float], x64: None
) -> None:
    """The sizes of gradients in one network of each width."""

    def sizes(width: int) -> np.ndarray:
        params, multipliers = _network(parameterization, width)
        gradient, _ = jax.grad(_forward, has_aux=True)(params, multipliers)
        return np.array([jnp.sqrt(jnp.mean(gradient[n] ** 2)) for n in LAYERS])

    slopes = np.log(sizes(1024) / sizes(64)) / np.log(16)
    np.testing.assert_allclose(slopes, exponents, atol=0.06)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("parameterization", NETWORKS)
def test_steps_change_wide_networks_as_much_as_narrow_ones(
    parameterization: str, optimizer: str, x64: None
) -> None:
    narrow, wide = (_moved(parameterization, optimizer, n) for n in (64, 1024))
    for layer in LAYERS:
        slope = np.log(wide[layer] / narrow[layer]) / np.log(16)
        assert abs(slope) < 0.1, (layer, slope)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": "input"}, "the label must be one of 'embedding', 'hidden'"),
        ({"labels": {"a": "input"}}, r"the label at \['a'\] must be one of"),
        ({"width_ratio": 0.0}, "width_ratio must be a finite number > 0"),
        ({"parameterization": "sp"}, "parameterization must be one of 'standard'"),
        ({"optimizer": "lion"}, "optimizer must be one of 'sgd', 'adam'"),
        ({"alignment": "half"}, "alignment must be one of 'full', 'none'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^width_scaled_learning_rate: {message}"):
        optimizers.width_scaled_learning_rate(
            **{"labels": "hidden", "width_ratio": 2.0} | arguments
        )


def test_labels_of_another_structure_are_refused() -> None:
    with pytest.raises(ValueError, match="the labels have the structure"):
        scaled({"a": "hidden"}, {"b": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"the label at \['b'\] must be one of"):
        scaled(lambda tree: dict.fromkeys(tree, "bias"), {"b": jnp.ones(2)})
