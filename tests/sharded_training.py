"""Training on several devices and processes, compared with one device.

Run by test_devices.py, in processes of their own.
"""

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import optimizers
from optimizers import catalog, state_shardings
from optimizers.catalog import Kind

Tree = Any
P = PartitionSpec
STEPS = 3
# The param "kernel" is sharded fully. The param "bias" is replicated, but its state is
# sharded over the data (ZeRO-1). No other state has these shapes.
PARAMS = {
    "bias": np.sin(np.arange(8, dtype=np.float32)),
    "kernel": np.cos(np.arange(64, dtype=np.float32)).reshape(8, 8),
}
BATCH = np.sin(0.7 * np.arange(128, dtype=np.float32)).reshape(16, 8)


def loss(params: Tree, batch: jax.Array) -> jax.Array:
    predictions = jnp.tanh(batch @ params["kernel"] + params["bias"])
    return jnp.mean(jnp.square(predictions - 0.3))


def auxiliary_loss(params: Tree, batch: jax.Array) -> jax.Array:
    return jnp.mean(jnp.square(batch @ params["kernel"] - params["bias"]))


def all_methods() -> dict[str, Any]:
    """Everything public but parts; transformations are chained before SGD."""
    methods = {}
    for name, function in catalog.functions(
        optimizers, Kind.OPTIMIZER, Kind.WRAPPER, Kind.GRADIENT_TRANSFORMATION
    ).items():
        if catalog.part_of(name, optimizers.__all__) is None:
            # The direction that LookSAM stores is a small difference of two gradients;
            # with a large radius, rounding changes it less.
            changes = {"rho": 1.0} if name == "looksam" else {}
            tx = catalog.example(function, 0.01, **changes)
            if catalog.kind(function) is Kind.GRADIENT_TRANSFORMATION:
                tx = optax.chain(tx, optax.sgd(0.1))
            methods[name] = tx
    predictor = optimizers.rmpe_predictor(2)
    methods["rmpe"] = optimizers.optimistic_amsgrad(0.01, predictor=predictor)
    return methods


def some_methods() -> dict[str, Any]:
    """Methods with sums over all params."""
    return {
        "bloop": optax.chain(optimizers.bloop(0.1), optimizers.adam(0.01)),
        "cagrad": optax.chain(optimizers.cagrad(), optimizers.adam(0.01)),
        "clip": optax.chain(
            optimizers.clip_by_global_norm(0.1), optimizers.adamw(0.01)
        ),
        "dadapt_adam": optimizers.dadapt_adam(),
        "prodigy": optimizers.prodigy(),
        "sam": optimizers.sam(optimizers.adam(0.01)),
    }


def named(mesh: Mesh, specs: Mapping[str, P]) -> dict[str, NamedSharding]:
    return {name: NamedSharding(mesh, spec) for name, spec in specs.items()}


class Placement:
    """Where the params and their states are on a mesh."""

    def __init__(self, mesh: Mesh) -> None:
        kernel = P(*mesh.axis_names)
        self.mesh = mesh
        self.params = named(mesh, {"bias": P(), "kernel": kernel})
        self.states = named(mesh, {"bias": P("data"), "kernel": kernel})
        self.replicated = named(mesh, {"bias": P(), "kernel": P()})
        self.batch = NamedSharding(mesh, P("data"))

    @property
    def explicit(self) -> bool:
        return AxisType.Explicit in self.mesh.axis_types

    def of_leaf(self, shape: tuple[int, ...]) -> NamedSharding:
        by_shape = {(8,): self.states["bias"], (8, 8): self.states["kernel"]}
        return by_shape.get(shape, NamedSharding(self.mesh, P()))


def reshard(tree: Tree, shardings: Tree) -> Tree:
    return jax.tree.map(jax.sharding.reshard, tree, shardings)


def step(
    methods: Mapping[str, Any], place: Placement | None
) -> Callable[[Tree, Tree, jax.Array], tuple[Tree, Tree]]:
    """One step of each method, in one program, which compiles faster than many."""
    explicit = place is not None and place.explicit

    def step_of(tx: Any, params: Tree, state: Tree, batch: jax.Array) -> Any:
        def seen(function: Callable[..., Any]) -> Callable[[Tree], Any]:
            """The function of the params as the optimizer sees them."""
            if not explicit:
                return functools.partial(function, batch=batch)
            return lambda params: function(reshard(params, place.replicated), batch)

        value, auxiliary = seen(loss), seen(auxiliary_loss)
        own = reshard(params, place.states) if explicit else params
        now, grads = jax.value_and_grad(value)(own)
        updates, state = tx.update(
            grads,
            state,
            own,
            value=now,
            value_fn=value,
            tail_grad_fn=jax.grad(auxiliary),
            aux_grads=jax.grad(auxiliary)(own),
        )
        if explicit:
            updates = reshard(updates, place.params)
        return optax.apply_updates(params, updates), state

    def step(params: Tree, states: Tree, batch: jax.Array) -> tuple[Tree, Tree]:
        done = {
            name: step_of(tx, params[name], states[name], batch)
            for name, tx in methods.items()
        }
        return {n: d[0] for n, d in done.items()}, {n: d[1] for n, d in done.items()}

    return step


def init(methods: Mapping[str, Any]) -> Callable[[Tree], Tree]:
    return lambda params: {name: tx.init(params[name]) for name, tx in methods.items()}


def on_one_device(methods: Mapping[str, Any], steps: int) -> list[tuple[Tree, Tree]]:
    """Params and states after each step."""
    params = dict.fromkeys(methods, PARAMS)
    one_step = jax.jit(step(methods, None))
    carries = [(params, init(methods)(params))]
    for _ in range(steps):
        carries.append(one_step(*carries[-1], BATCH))
    return jax.tree.map(np.asarray, carries[1:])


def placed(tree: Tree, shardings: Tree) -> Tree:
    """The arrays, each of whose parts is given to the device that it belongs to."""
    return jax.tree.map(
        lambda x, s: jax.make_array_from_callback(x.shape, s, lambda i: x[i]),
        tree,
        shardings,
    )


def shardings_of(methods: Mapping[str, Any], place: Placement) -> tuple[Tree, Tree]:
    return dict.fromkeys(methods, place.params), {
        name: state_shardings(tx, PARAMS, place.states) for name, tx in methods.items()
    }


def train(
    methods: Mapping[str, Any], place: Placement, steps: int, carry: Tree = None
) -> tuple[Tree, Tree]:
    """Trains from the start, or from the params and states that are given."""
    shardings = shardings_of(methods, place)
    with jax.set_mesh(place.mesh):
        if carry is None:
            params = placed(dict.fromkeys(methods, PARAMS), shardings[0])
            carry = params, jax.jit(init(methods), out_shardings=shardings[1])(params)
        one_step = jax.jit(
            step(methods, place), out_shardings=shardings, donate_argnums=(0, 1)
        )
        batch = placed(BATCH, place.batch)
        for _ in range(steps):
            carry = one_step(*carry, batch)
        assert one_step._cache_size() == 1
    return carry


def misplaced(states: Tree, place: Placement) -> list[str]:
    """The leaves of the states that have another sharding than their params."""
    return [
        f"{jax.tree_util.keystr(path)} is {leaf.sharding.spec}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(states)
        if not leaf.sharding.is_equivalent_to(place.of_leaf(leaf.shape), leaf.ndim)
    ]


def different(actual: Tree, expected: Tree) -> list[str]:
    """The leaves that differ by more than 1e-6 of the largest element, or of 1."""
    found = []
    leaves = jax.tree_util.tree_leaves_with_path(expected)
    for (path, x), y in zip(leaves, jax.tree.leaves(actual), strict=True):
        gap = np.max(np.abs(np.asarray(y, np.float64) - x), initial=0.0)
        if not gap <= 1e-6 * max(1.0, np.max(np.abs(x), initial=0.0)):
            found.append(f"{jax.tree_util.keystr(path)} differs by {gap:.2g}")
    return found


def eight_devices() -> None:
    """Prints what is wrong on meshes of eight devices, as lists by the mesh."""
    assert jax.device_count() == 8
    methods = all_methods()
    expected = on_one_device(methods, STEPS)[-1]
    answers = {"methods": list(methods)}
    for kind in (AxisType.Auto, AxisType.Explicit):
        place = Placement(jax.make_mesh((2, 4), ("data", "model"), (kind, kind)))
        params, states = train(methods, place, STEPS)
        wrong = misplaced(states, place) + different((params, states), expected)
        answers[kind.name] = wrong
    json.dump(answers, sys.stdout)


def one_of_two_processes(folder: str) -> None:
    """Trains, saves, restores on another mesh and trains on; saves the end."""
    jax.distributed.initialize(
        num_processes=int(os.environ["NUM_PROCESSES"]),
        process_id=int(os.environ["PROCESS_ID"]),
        initialization_timeout=60,
    )
    assert (jax.process_count(), jax.device_count()) == (2, 4)
    methods = some_methods()
    auto, explicit = AxisType.Auto, AxisType.Explicit
    first = Placement(jax.make_mesh((2, 2), ("data", "model"), (auto, auto)))
    second = Placement(jax.make_mesh((4,), ("data",), (explicit,)))
    params, states = train(methods, first, STEPS)
    assert misplaced(states, first) == []
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(f"{folder}/half", {"params": params, "states": states})
        checkpointer.wait_until_finished()
        target = targets(methods, shardings_of(methods, second))
        restored = checkpointer.restore(f"{folder}/half", target)
    assert misplaced(restored["states"], second) == []
    end = train(methods, second, STEPS, (restored["params"], restored["states"]))
    assert misplaced(end[1], second) == []
    leaves = multihost_utils.process_allgather(jax.tree.leaves(end), tiled=True)
    if jax.process_index() == 0:
        np.savez(f"{folder}/end.npz", *leaves)


def targets(methods: Mapping[str, Any], shardings: tuple[Tree, Tree]) -> Tree:
    """What to restore: shapes, dtypes and shardings."""
    params = dict.fromkeys(methods, PARAMS)
    structs = params, jax.eval_shape(init(methods), params)
    structs = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        structs,
        shardings,
    )
    return {"params": structs[0], "states": structs[1]}
