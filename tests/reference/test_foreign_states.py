"""Runs that began in PyTorch or Keras and go on here, against the whole runs there."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers

RECORDED = Path(__file__).parent / "recorded"
TORCH = json.loads((RECORDED / "torch_states.json").read_text())["cases"]
KERAS = json.loads((RECORDED / "keras_states.json").read_text())["cases"]
DECAY = {"weight_decay": 0.1}
HAT = optimizers.epsilon_hat(1e-7, b2=0.999)
IN_PLACE_OF_TORCH = [
    optax.chain(optax.add_decayed_weights(0.1), optimizers.adam(0.01)),
    optimizers.amsgrad(0.01, variant="torch"),
    optimizers.adamw(0.01, b1=0.8, b2=0.95, **DECAY),
    optimizers.adamax(0.01),
    optimizers.nadam(0.01, momentum_decay=0.004),
    optimizers.adabound(0.01),
    optimizers.amsbound(0.01),
    optimizers.dadapt_adam(d0=1e-3),
    optimizers.prodigy(d0=1e-3, growth_rate=1.5, bias_correction=False),
]
IN_PLACE_OF_KERAS = [
    optimizers.adam(0.01, eps=HAT),
    optimizers.amsgrad(0.01, eps=HAT, variant="torch"),
    optimizers.adamw(0.01, 0.8, 0.95, optimizers.epsilon_hat(1e-7, 0.95), **DECAY),
    optimizers.adamax(0.01, eps=1e-7, variant="keras"),
    optimizers.nadam(0.01, eps=1e-7, momentum_decay=1.0),
]


class Variable(NamedTuple):
    """What is used of a variable of Keras."""

    path: str
    value: Any

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self.value, dtype)


def convert(arrays: list[np.ndarray]) -> Any:
    """Weights of PyTorch's layers are transposed here."""
    weight, bias = arrays
    return {"layer": {"bias": np.asarray(bias), "kernel": np.asarray(weight).T}}


def params_of(values: list[Any]) -> Any:
    arrays = [np.array(x, np.float32) for x in values]
    return jax.tree.map(jnp.asarray, convert(arrays))


def state_dict_of(case: dict[str, Any]) -> dict[str, Any]:
    """With the keys and arrays that JSON does not have."""
    entries = {
        int(index): {key: np.array(x, np.float32) for key, x in entry.items()}
        for index, entry in case["state_dict"]["state"].items()
    }
    return case["state_dict"] | {"state": entries}


def variables_of(case: dict[str, Any]) -> list[Variable]:
    return [Variable(path, value) for path, value in case["variables"]]


def assert_goes_on(tx: Any, state: Any, case: dict[str, Any]) -> None:
    """The next ten updates are those of the original."""
    params = params_of(case["params"])
    for gradients, expected in zip(
        case["next_gradients"], case["next_params"], strict=True
    ):
        updates, state = tx.update(params_of(gradients), state, params)
        params = optax.apply_updates(params, updates)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6),
            params,
            params_of(expected),
        )


def identity(case: dict[str, Any]) -> str:
    return f"{case['class']}-{case['arguments']}"


@pytest.mark.parametrize(
    ("case", "tx"),
    list(zip(TORCH, IN_PLACE_OF_TORCH, strict=True)),
    ids=map(identity, TORCH),
)
def test_a_run_of_torch_goes_on(case: dict[str, Any], tx: Any) -> None:
    new = tx.init(params_of(case["params"]))
    state = optimizers.from_torch_state(state_dict_of(case), new, convert)
    jax.tree.map(lambda x, y: _assert_same_kind(x, y), state, new)
    assert_goes_on(tx, state, case)


@pytest.mark.parametrize(
    ("case", "tx"),
    list(zip(KERAS, IN_PLACE_OF_KERAS, strict=True)),
    ids=map(identity, KERAS),
)
def test_a_run_of_keras_goes_on(case: dict[str, Any], tx: Any) -> None:
    new = tx.init(params_of(case["params"]))
    state = optimizers.from_keras_state(variables_of(case), new, convert)
    jax.tree.map(lambda x, y: _assert_same_kind(x, y), state, new)
    assert_goes_on(tx, state, case)


def _assert_same_kind(x: jax.Array, y: jax.Array) -> None:
    assert (x.shape, x.dtype) == (y.shape, y.dtype)


def test_schedules_go_on() -> None:
    """Their counts, also those of optax, become that of the original."""
    case = TORCH[0]
    tx = optax.chain(
        optax.add_decayed_weights(0.1),
        optimizers.scale_by_adam(),
        optax.scale_by_schedule(lambda count: jnp.where(count < 5, 7.0, -0.01)),
    )
    new = tx.init(params_of(case["params"]))
    state = optimizers.from_torch_state(state_dict_of(case), new, convert)
    assert [int(x) for x in (state[1].count, state[2].count)] == [5, 5]
    assert_goes_on(tx, state, case)


@pytest.mark.parametrize(
    ("case", "tx", "message"),
    [
        (1, optimizers.adam(0.1), "no counterpart of ['max_exp_avg_sq'] in the PyTo"),
        (0, optimizers.amsgrad(0.1), "has no ['max_exp_avg_sq'], which ScaleByAmsgr"),
        (3, optimizers.adam(0.1), "ScaleByAdamState has no counterpart of ['exp_inf']"),
        (0, optax.adam(0.1).init, None),
        (0, optax.sgd(0.1), "state must hold exactly one of ScaleByAdamState, Scale"),
    ],
)
def test_what_does_not_map_is_named(case: int, tx: Any, message: str | None) -> None:
    if message is None:  # a state of optax has the same fields
        state = optax.adam(0.1).init(params_of(TORCH[0]["params"]))
        state = optimizers.from_torch_state(state_dict_of(TORCH[0]), state, convert)
        assert int(state[0].count) == 5
        return
    state = tx.init(params_of(TORCH[case]["params"]))
    with pytest.raises(ValueError, match=r"^from_torch_state: ") as error:
        optimizers.from_torch_state(state_dict_of(TORCH[case]), state, convert)
    assert message in str(error.value)


def test_what_does_not_map_of_keras_is_named() -> None:
    params = params_of(KERAS[0]["params"])
    variables = [*variables_of(KERAS[0]), Variable("adam/kernel_average", 1.0)]
    state = optimizers.adam(0.1).init(params)
    with pytest.raises(ValueError, match=r"no counterpart of \['kernel_average'\] in"):
        optimizers.from_keras_state(variables, state, convert)
    for wrong in ([np.ones(2)], variables[1:]):
        with pytest.raises(
            ValueError, match=r"must be optimizer\.variables of a Keras"
        ):
            optimizers.from_keras_state(wrong, state, convert)


def test_wrong_arguments_are_named() -> None:
    case = TORCH[0]
    state_dict = state_dict_of(case)
    state = optimizers.adam(0.1).init(params_of(case["params"]))
    first, second = state_dict["state"].values()
    for wrong, message in (
        (
            [],
            "state_dict must be what state_dict() of a PyTorch optimizer returns, got",
        ),
        (
            state_dict | {"state": {0: first}},
            "no state for parameter 1, because it had",
        ),
        (
            state_dict | {"state": {0: first, 1: second | {"step": 4.0}}},
            "the same number of steps, got [4.0, 5.0]",
        ),
    ):
        with pytest.raises(ValueError, match=r"^from_torch_state: ") as error:
            optimizers.from_torch_state(wrong, state, convert)
        assert message in str(error.value)
    with pytest.raises(ValueError, match="convert must return a tree of the structure"):
        optimizers.from_torch_state(state_dict, state, lambda arrays: arrays)


def test_sliced_prodigy_and_16_bits_are_refused() -> None:
    case = TORCH[-1]
    state_dict = state_dict_of(case)
    params = params_of(case["params"])
    tx = optimizers.prodigy()
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    with pytest.raises(ValueError, match="params of 16 bits"):
        optimizers.from_torch_state(state_dict, tx.init(half), convert)
    state_dict["state"][0]["s"] = state_dict["state"][0]["s"][::2]
    with pytest.raises(ValueError, match=r"s has 3 entries .* slice_p"):
        optimizers.from_torch_state(state_dict, tx.init(params), convert)


def test_a_start_at_zero_of_prodigy() -> None:
    """Then p0 is a single 0."""
    case = TORCH[-1]
    state_dict = state_dict_of(case)
    for entry in state_dict["state"].values():
        entry["p0"] = np.float32(0.0)
    new = optimizers.prodigy().init(params_of(case["params"]))
    state = optimizers.from_torch_state(state_dict, new, convert)
    assert not any(map(np.any, jax.tree.leaves(state[0].start)))
