"""Sharding: states on the devices of the params."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from optimizers.testing import _compare, _inputs
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import applies_if, rule
from optimizers.testing._conformance.run import Run, follow, run
from optimizers.testing._extras import update
from optimizers.testing._inputs import Tree

_SHAPES: Tree = {"layer": {"bias": (8,), "kernel": (8, 16)}}


def _mesh(kind: AxisType) -> Mesh:
    devices = jax.devices()
    count = max(n for n in (1, 2, 4, 8) if n <= len(devices))
    applies_if(count > 1, "needs at least two devices")
    return Mesh(np.asarray(devices[:count]), ("data",), axis_types=(kind,))


def _shard(tree: Tree, mesh: Mesh) -> Tree:
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec("data")))


def _single(case: Case) -> tuple[Tree, list[Tree], Run]:
    params = _inputs.make_params("float32", _SHAPES)
    stream = _inputs.make_stream(2, "float32", _SHAPES)
    return params, stream, run(case.tx, params, stream)


def _shaped_like_params(state: Tree) -> list[tuple[str, Any]]:
    shapes = ((8,), (8, 16))
    return [
        (path, leaf) for path, leaf in _compare.leaves(state) if leaf.shape in shapes
    ]


def eager_init_follows_params(case: Case) -> None:
    """Init shards each param-shaped leaf like its param.

    A large state may not fit on one device.
    """
    mesh = _mesh(AxisType.Auto)
    params, stream, expected = _single(case)
    sharded = _shard(params, mesh)
    narrow = _shard(_inputs.make_params("bfloat16", _SHAPES), mesh)
    for kind, given in (("float32", sharded), ("bfloat16", narrow)):
        for path, leaf in _shaped_like_params(case.tx.init(given)):
            spread = len(leaf.sharding.device_set)
            assert spread == mesh.size, (
                f"state{path} is on {spread} of {mesh.size} devices for {kind} params"
            )
    result = run(case.tx, sharded, [_shard(grads, mesh) for grads in stream])
    _compare.assert_agree(result, expected, "sharded, without jit")


def jitted_init_takes_shardings(case: Case) -> None:
    """A jitted init accepts shardings made by optax.tree.map_params.

    Under jit, zeros_like does not depend on data, so JAX puts it on one device unless
    out_shardings is given.
    """
    mesh = _mesh(AxisType.Auto)
    params, stream, expected = _single(case)
    sharded = _shard(params, mesh)
    spread = NamedSharding(mesh, PartitionSpec("data"))
    replicated = NamedSharding(mesh, PartitionSpec())
    shardings = optax.tree.map_params(
        case.tx,
        lambda leaf: spread if leaf.shape in ((8,), (8, 16)) else replicated,
        jax.eval_shape(case.tx.init, sharded),
        transform_non_params=lambda leaf: replicated,
    )
    state = jax.jit(case.tx.init, out_shardings=shardings)(sharded)
    for path, leaf in _shaped_like_params(state):
        assert leaf.sharding == spread, f"state{path} is {leaf.sharding}"
    step = jax.jit(partial(update, case.tx))
    result = follow(step, state, sharded, [_shard(grads, mesh) for grads in stream])
    _compare.assert_agree(result, expected, "sharded, with jit")


def explicit_sharding_is_stable(case: Case) -> None:
    """On an Explicit mesh the state has the sharding of the params, and keeps it.

    There, sharding is part of the type, and a change of type recompiles or fails.
    """
    mesh = _mesh(AxisType.Explicit)
    params, stream, expected = _single(case)
    with jax.set_mesh(mesh):
        sharded = _shard(params, mesh)
        grads = [_shard(g, mesh) for g in stream]
        for kind, init, step in (
            ("without jit", case.tx.init, partial(update, case.tx)),
            ("with jit", jax.jit(case.tx.init), jax.jit(partial(update, case.tx))),
        ):
            state = init(sharded)
            types = [jax.typeof(leaf) for leaf in jax.tree.leaves(state)]
            for path, leaf in _shaped_like_params(state):
                spec = jax.typeof(leaf).sharding.spec
                assert spec[0] == "data", f"state{path} has spec {spec}, {kind}"
            updates, state = follow(step, state, sharded, grads)
            for (path, leaf), old in zip(_compare.leaves(state), types, strict=True):
                now = jax.typeof(leaf)
                assert now == old, f"state{path} changed from {old} to {now}, {kind}"
            what = f"on an Explicit mesh, {kind}"
            _compare.assert_agree(Run(updates, state), expected, what)


def data_parallel_equals_one_device(case: Case) -> None:
    """In shard_map, averaged gradients give the update of one device.

    The caller averages gradients; a second sum inside the optimizer is wrong.
    """
    mesh = _mesh(AxisType.Auto)
    params, stream, expected = _single(case)
    nowhere = PartitionSpec()

    def step(weights: jax.Array, grads: Tree, state: Tree, params: Tree) -> Tree:
        # Each device has the gradient times a weight; the mean weight is 1.
        own = jax.tree.map(lambda g: g * weights[0], grads)
        mean = jax.lax.pmean(own, "data")
        return update(case.tx, mean, state, params)

    mapped = jax.jit(
        jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(PartitionSpec("data"), nowhere, nowhere, nowhere),
            out_specs=nowhere,
        )
    )
    weights = jnp.asarray([0.5, 1.5] * (mesh.size // 2), jnp.float32)
    result = follow(partial(mapped, weights), case.tx.init(params), params, stream)
    _compare.assert_agree(result, expected, "in shard_map")


_FIX = (
    "Create param-shaped leaves with jnp.zeros_like; do not ravel, concatenate or "
    "reshape params."
)

RULES = (
    rule(eager_init_follows_params, "promise", (12, 48), _FIX),
    rule(jitted_init_takes_shardings, "promise", (13, 48), _FIX),
    rule(explicit_sharding_is_stable, "promise", (15, 48), _FIX),
    rule(
        data_parallel_equals_one_device,
        "promise",
        (49,),
        "Do not call collectives such as jax.lax.psum.",
    ),
)
