"""Computes the shardings of the state of any optimizer from those of the params."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from optimizers._common import numerics, trees
from optimizers._common.typing import PyTree

__all__ = ["state_shardings"]


def state_shardings(
    optimizer: optax.GradientTransformation, params: PyTree, shardings: PyTree = None
) -> optax.OptState:
    """Returns the sharding of each leaf of the state that `optimizer.init` returns.

    A leaf that `init` makes from a param, as by ``jnp.zeros_like``, has its sharding; a
    leaf with fewer axes has what is left of it. All others, such as counts, are
    replicated. This works with every optimizer of this library, of optax and of yours.
    Nothing is computed and no device is needed, so the mesh may be an ``AbstractMesh``.

    Use the result as ``out_shardings`` of a jitted ``init`` and of a jitted step, or to
    restore a checkpoint. Without it, a jitted ``init`` puts the whole state on one
    device, unless the axes of the mesh are of type ``Explicit``.

    Args:
      optimizer: The optimizer.
      params: The params, or ``jax.ShapeDtypeStruct`` in their place.
      shardings: A ``NamedSharding`` for each param, or one for a subtree of the
        params; None means those of the params. Give others to shard the state, but
        not the params (ZeRO-1).

    Returns:
      The structure of the state, with a ``NamedSharding`` in place of each array. Its
      mesh is that of the params.

    Raises:
      TypeError: A sharding is not a ``NamedSharding``.
      ValueError: A sharding does not divide the shape of its param, or the params are
        not on one mesh.

    Examples:
      >>> import jax, jax.numpy as jnp, optimizers
      >>> from jax.sharding import NamedSharding, PartitionSpec as P
      >>> mesh = jax.sharding.AbstractMesh((4, 2), ("data", "model"))
      >>> params = jax.ShapeDtypeStruct((32, 8), jnp.float32)
      >>> shardings = NamedSharding(mesh, P("data", "model"))
      >>> state = optimizers.state_shardings(optimizers.adam(0.1), params, shardings)
      >>> print(tuple(state[0].mu.spec), tuple(state[0].count.spec))
      ('data', 'model') ()
    """
    function = "state_shardings"
    paths_and_leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    placed: list[Any]
    if shardings is None:
        placed = [getattr(leaf, "sharding", None) for _, leaf in paths_and_leaves]
    else:
        found = trees.difference(shardings, "shardings", params, "the params")
        if found:
            msg = f"{function}: shardings must be a tree like the params: {found}."
            raise ValueError(msg)
        placed = jax.tree.leaves(jax.tree.broadcast(shardings, params))
    for (path, leaf), sharding in zip(paths_and_leaves, placed, strict=True):
        _require_named(function, trees.where(path), np.shape(leaf), sharding)
    mesh = _only_mesh(function, placed)
    # With explicit axes, the sharding is a part of the type of an array, which
    # jax.eval_shape infers. With others, nothing is known before the program runs.
    explicit = AbstractMesh(
        mesh.axis_sizes, mesh.axis_names, (AxisType.Explicit,) * len(mesh.axis_names)
    )
    structs = [
        jax.ShapeDtypeStruct(
            np.shape(leaf),
            numerics.dtype_of(leaf),
            sharding=NamedSharding(explicit, sharding.spec),
        )
        for (_, leaf), sharding in zip(paths_and_leaves, placed, strict=True)
    ]
    with jax.sharding.use_abstract_mesh(explicit):
        state = jax.eval_shape(optimizer.init, structure.unflatten(structs))

    def concrete(leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        axes = [] if leaf.sharding is None else list(leaf.sharding.spec)
        while axes and axes[-1] is None:
            axes.pop()
        return NamedSharding(mesh, PartitionSpec(*axes))

    return jax.tree.map(concrete, state)


def _require_named(function: str, where: str, shape: Any, sharding: Any) -> None:
    """Raises an error unless this is a NamedSharding for an array of the shape."""
    if not isinstance(sharding, NamedSharding):
        msg = (
            f"{function}: the sharding of the params leaf at {where} must be a "
            f"NamedSharding, got {sharding!r}. Put the params on a mesh with "
            "jax.device_put(params, NamedSharding(mesh, PartitionSpec(...))), or give "
            "shardings."
        )
        raise TypeError(msg)
    try:
        sharding.shard_shape(shape)
    except (IndexError, ValueError) as error:
        msg = (
            f"{function}: the params leaf at {where} has shape {shape}, which cannot "
            f"be divided by {sharding.spec} on a mesh of {dict(sharding.mesh.shape)}. "
            "Use PartitionSpec() for this leaf, which replicates it."
        )
        raise ValueError(msg) from error


def _only_mesh(function: str, shardings: list[NamedSharding]) -> Any:
    meshes = list({sharding.mesh: None for sharding in shardings})
    if len(meshes) != 1:
        found = ", ".join(str(dict(mesh.shape)) for mesh in meshes) or "no params"
        msg = f"{function}: all params must be on one mesh, got {found}."
        raise ValueError(msg)
    return meshes[0]
