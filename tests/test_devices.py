"""Params and states on meshes of one process and of two, against one device."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import optimizers
from optimizers import catalog, state_shardings
from optimizers.catalog import Kind
from tests import sharded_training
from tests.devices import ROOT, run_in_two_processes, run_on_eight_devices

P = PartitionSpec
MESH = AbstractMesh((2, 4), ("data", "model"))
PARAMS = {
    "bias": jax.ShapeDtypeStruct((16,), jnp.float32),
    "kernel": jax.ShapeDtypeStruct((8, 16), jnp.float32),
}
SHARDINGS = {
    "bias": NamedSharding(MESH, P("model")),
    "kernel": NamedSharding(MESH, P("data", "model")),
}
REPLICATED = NamedSharding(MESH, P())
RUN = "from tests import sharded_training as training; import sys; "


@pytest.fixture(scope="module")
def on_eight() -> dict[str, list[str]]:
    return run_on_eight_devices(RUN + "training.eight_devices()")


@pytest.mark.parametrize("axes", ["Auto", "Explicit"])
def test_all_methods_on_two_axes_equal_one_device(
    axes: str, on_eight: dict[str, list[str]]
) -> None:
    """Fully sharded params beside replicated ones with sharded states (ZeRO-1)."""
    assert {"adam", "cagrad", "prodigy", "rmpe", "sam"} <= set(on_eight["methods"])
    assert on_eight[axes] == []


@pytest.fixture(scope="module")
def folder_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two_processes")
    program = RUN + "training.one_of_two_processes(sys.argv[1])"
    run_in_two_processes(program, str(folder))
    return folder


@pytest.fixture(scope="module")
def on_one() -> list[Any]:
    """Params and states after each step."""
    methods = sharded_training.some_methods()
    return sharded_training.on_one_device(methods, 2 * sharded_training.STEPS)


def test_two_processes_equal_one(folder_of_two: Path, on_one: list[Any]) -> None:
    """Also when they train on from a checkpoint that they restored on another mesh."""
    with np.load(folder_of_two / "end.npz") as file:
        leaves = [file[name] for name in file.files]
    found = jax.tree.structure(on_one[-1]).unflatten(leaves)
    assert sharded_training.different(found, on_one[-1]) == []
    assert sharded_training.different(found, on_one[-2]) != []


def test_one_device_restores_what_two_processes_saved(
    folder_of_two: Path, on_one: list[Any]
) -> None:
    half = on_one[sharded_training.STEPS - 1]
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = sharded_training.targets(
        sharded_training.some_methods(), jax.tree.map(lambda _: here, half)
    )
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(folder_of_two / "half", target)
    found = restored["params"], restored["states"]
    assert sharded_training.different(found, half) == []


def test_code_of_the_page_runs_in_two_processes(tmp_path: Path) -> None:
    page = ROOT / "docs" / "devices.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.M)
    names: dict[str, Any] = {}
    exec("".join(blocks), names)
    program = [
        "import os, sys",
        "os.environ['CHECKPOINT_FOLDER'] = sys.argv[1]",
        *blocks,
        "assert (jax.process_count(), jax.device_count()) == (2, 4)",
        "assert abs(value - float(sys.argv[2])) < 1e-6",
        "assert params['w'].sharding.is_fully_replicated",
        "assert state[1][0].mu['w'].sharding.is_equivalent_to(sharded, 2)",
        "assert restored[1][0].mu['w'].sharding == there",
    ]
    end = str(float(names["value"]))
    run_in_two_processes("\n".join(program), str(tmp_path), end)


def test_processes_that_hang_are_killed() -> None:
    start = time.monotonic()
    with pytest.raises(AssertionError, match=r"exit codes \[None, None\]"):
        run_in_two_processes("import time; time.sleep(600)", timeout_s=0.5)
    one_fails = (
        "import os, time; time.sleep(600 * int(os.environ['PROCESS_ID'])); 1 / 0"
    )
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_in_two_processes(one_fails)
    assert time.monotonic() - start < 60


def _by_map_params(tx: Any) -> Any:
    """What `optax.tree.map_params` finds by passing a marked object through init."""
    return optax.tree.map_params(
        tx,
        lambda _, sharding: sharding,
        jax.eval_shape(tx.init, PARAMS),
        SHARDINGS,
        transform_non_params=lambda _: REPLICATED,
    )


# Not those in whose states leaves with other axes are where map_params expects params:
# adafactor, lbfgs, novograd, sm3, galore and muon.
OPTAX = (
    *("adabelief", "adadelta", "adagrad", "adam", "adamax", "adamw", "adan", "amsgrad"),
    *("lamb", "lars", "lion", "nadam", "radam", "rmsprop", "rprop", "sgd", "yogi"),
)
CONTRIB = ("dadapt_adamw", "dog", "madgrad", "prodigy", "schedule_free_adamw")
NESTED: dict[str, Callable[[], Any]] = {
    "chain": lambda: optax.chain(optimizers.bloop(0.1), optimizers.adamw(0.1)),
    "inject": lambda: optax.inject_hyperparams(optimizers.adamw)(learning_rate=0.1),
    "lookahead": lambda: optimizers.lookahead(optimizers.sam(optimizers.prodigy())),
    "multi_steps": lambda: optax.MultiSteps(optimizers.adam(0.1), 2),
}


def test_shardings_agree_with_optax() -> None:
    functions = catalog.functions(optimizers, Kind.OPTIMIZER, Kind.WRAPPER)
    made = {name: catalog.example(function) for name, function in functions.items()}
    made |= {f"optax.{name}": getattr(optax, name)(0.1) for name in OPTAX}
    made |= {f"contrib.{name}": getattr(optax.contrib, name)(0.1) for name in CONTRIB}
    made |= {name: make() for name, make in NESTED.items()}
    differ = [
        name
        for name, tx in made.items()
        if state_shardings(tx, PARAMS, SHARDINGS) != _by_map_params(tx)
    ]
    assert differ == []


def test_leaves_with_fewer_axes_keep_what_is_left() -> None:
    rows = optax.GradientTransformation(
        lambda params: jax.tree.map(lambda p: jnp.sum(p, axis=-1), params),
        lambda updates, state, params=None: (updates, state),
    )
    found = state_shardings(rows, PARAMS, SHARDINGS)
    assert found == {"bias": REPLICATED, "kernel": NamedSharding(MESH, P("data"))}
    novograd = state_shardings(optax.novograd(0.1), PARAMS, SHARDINGS)
    assert novograd[0].nu["kernel"] == REPLICATED


def test_masked_leaves_have_no_sharding() -> None:
    """In their places, optax.tree.map_params expects shardings like the params."""
    tx = optax.masked(optimizers.adam(0.1), {"bias": False, "kernel": True})
    mu = state_shardings(tx, PARAMS, SHARDINGS).inner_state[0].mu
    assert mu == {"bias": optax.MaskedNode(), "kernel": SHARDINGS["kernel"]}


def test_leaves_that_depend_on_dtypes_are_found() -> None:
    """With params of 16 bits, Prodigy stores more; optax.tree.map_params fails."""
    narrow = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, jnp.bfloat16), PARAMS)
    state = state_shardings(optimizers.prodigy(), narrow, SHARDINGS)[0]
    assert state.displacement["kernel"].spec == P("data", "model")
    assert state.distance.spec == P()


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_shardings_inside_a_mesh_and_of_arrays(kind: AxisType) -> None:
    mesh = jax.make_mesh((1, 1), ("data", "model"), (kind, kind))
    sharding = NamedSharding(mesh, P("data"))
    params = jax.device_put({"w": np.ones((2, 2), np.float32)}, sharding)
    tx = optimizers.adam(0.1)
    with jax.set_mesh(mesh):
        inside = state_shardings(tx, params)
    assert inside == state_shardings(tx, params)
    assert inside[0].mu["w"].mesh == mesh
    assert inside[0].mu["w"] == sharding
    assert inside[0].count == NamedSharding(mesh, P())


def test_one_sharding_for_all_params() -> None:
    sharding = NamedSharding(MESH, P("data"))
    found = state_shardings(optimizers.sam(optimizers.adam(0.1)), PARAMS, sharding)
    by_name = jax.tree.map(lambda _: sharding, PARAMS)
    assert found == state_shardings(
        optimizers.sam(optimizers.adam(0.1)), PARAMS, by_name
    )


ELSEWHERE = NamedSharding(AbstractMesh((2,), ("data",)), P())


@pytest.mark.parametrize(
    ("params", "shardings", "error", "message"),
    [
        (
            {"w": np.ones(3)},
            None,
            TypeError,
            r"params leaf at \['w'\] must be a NamedSharding, got None. Put the params",
        ),
        (
            {"w": np.ones(3)},
            NamedSharding(MESH, P("data")),
            ValueError,
            r"params leaf at \['w'\] has shape \(3,\), which cannot be divided by ",
        ),
        (
            {"w": np.ones(())},
            NamedSharding(MESH, P("data")),
            ValueError,
            r"\['w'\] has shape \(\), which cannot .* Use PartitionSpec\(\)",
        ),
        (
            PARAMS,
            SHARDINGS | {"bias": ELSEWHERE},
            ValueError,
            r"on one mesh, got {'data': 2}, {'data': 2, 'model': 4}",
        ),
        ({}, None, ValueError, "on one mesh, got no params"),
        (
            PARAMS,
            {"bias": ELSEWHERE},
            ValueError,
            r"no leaf at \['kernel'\] in shardings",
        ),
    ],
)
def test_bad_shardings_are_named(
    params: Any, shardings: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=rf"^state_shardings: .*{message}"):
        state_shardings(optimizers.adam(0.1), params, shardings)
