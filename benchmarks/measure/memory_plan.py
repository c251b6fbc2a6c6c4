"""Bytes per device of params, gradients and state on a mesh, without any device.

Three placements are compared. Replicated: every device has everything. ZeRO-1: params
and gradients are replicated, and the state is sharded over the first axis of the mesh.
Sharded: everything is sharded over all axes of the mesh.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec
from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.errors import UserError
from benchmarks.measure import profile, timing
from benchmarks.measure.timing import Shapes
from benchmarks.roster import resolver
from optimizers import state_shardings

_WIDTH = 2048
_LAYER = (
    (_WIDTH,),
    (_WIDTH,),
    (_WIDTH, 3 * _WIDTH),
    (3 * _WIDTH,),
    (_WIDTH, _WIDTH),
    (_WIDTH,),
    (_WIDTH,),
    (_WIDTH,),
    (_WIDTH, 4 * _WIDTH),
    (4 * _WIDTH,),
    (4 * _WIDTH, _WIDTH),
    (_WIDTH,),
)
# A transformer with 1.01 G parameters; too large to be measured like the others.
TREES: dict[str, Shapes] = {
    **profile.TREES,
    "billion": ((50304, _WIDTH), *(_LAYER * 18)),
}


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Memory of one optimizer on one tree of float32 params.

    Attributes:
      tree: A key of `TREES`.
      optimizer: The spec of the optimizer.
      mesh: The sizes of the mesh by axis.
      params_bytes: Size of the params; the gradients have the same.
      state_bytes: Size of the optimizer's state.
      replicated_bytes: Bytes per device if everything is replicated.
      zero1_bytes: Bytes per device if the state is sharded over the first axis.
      sharded_bytes: Bytes per device if everything is sharded over all axes.
    """

    tree: str
    optimizer: str
    mesh: dict[str, int]
    params_bytes: int
    state_bytes: int
    replicated_bytes: int
    zero1_bytes: int
    sharded_bytes: int


def parse_mesh(text: str) -> AbstractMesh:
    """The mesh that a text such as ``data=8,model=4`` describes.

    Raises:
      UserError: It does not have this form.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    names = [name.strip() for name, _, _ in pairs]
    sizes = [int(size) if size.strip().isdecimal() else 0 for _, _, size in pairs]
    if not all(names) or not all(sizes) or len(set(names)) < len(names):
        msg = (
            f"--mesh {text!r}: give each axis of the mesh a name and the number of "
            "devices along it, as in --mesh data=8,model=4."
        )
        raise UserError(msg)
    return AbstractMesh(tuple(sizes), tuple(names))


def plan(spec: str, tree: str, mesh: AbstractMesh) -> MemoryPlan:
    """Adds up the bytes of an optimizer on a mesh.

    Args:
      spec: The optimizer; see `benchmarks.roster.specs`.
      tree: A key of `TREES`.
      mesh: The mesh.

    Raises:
      UserError: The optimizer or tree is unknown.
    """
    if tree not in TREES:
        msg = f"unknown tree {tree!r}: choose from {', '.join(TREES)}."
        raise UserError(msg)
    params = timing.structs(TREES[tree])
    tx = resolver.resolve(spec).make(timing.LEARNING_RATE)
    state = jax.eval_shape(tx.init, params)

    def placed(axes: Sequence[str]) -> Any:
        return [NamedSharding(mesh, spread(p.shape, mesh, axes)) for p in params]

    def per_device(params_axes: Sequence[str], state_axes: Sequence[str]) -> int:
        of_state = state_shardings(tx, params, placed(state_axes))
        return 2 * _bytes(params, placed(params_axes)) + _bytes(state, of_state)

    nowhere, all_axes = (), mesh.axis_names
    return MemoryPlan(
        tree=tree,
        optimizer=spec,
        mesh=dict(mesh.shape),
        params_bytes=_bytes(params),
        state_bytes=_bytes(state),
        replicated_bytes=per_device(nowhere, nowhere),
        zero1_bytes=per_device(nowhere, all_axes[:1]),
        sharded_bytes=per_device(all_axes, all_axes),
    )


def spread(
    shape: tuple[int, ...], mesh: AbstractMesh, axes: Sequence[str]
) -> PartitionSpec:
    """Each axis of the mesh along the largest dimension that it divides, if any."""
    left = list(shape)
    along: list[tuple[str, ...]] = [() for _ in shape]
    for axis in axes:
        size = mesh.shape[axis]
        fits = [i for i, n in enumerate(left) if n % size == 0]
        if fits:
            largest = max(fits, key=lambda i: left[i])
            left[largest] //= size
            along[largest] += (axis,)
    return PartitionSpec(*(names or None for names in along))


def table(plans: list[MemoryPlan]) -> Table:
    """The plans as a table."""
    result = Table("tree", "optimizer", box=SIMPLE_HEAD, pad_edge=False)
    for head in ("params", "state", "replicated", "ZeRO-1", "sharded"):
        result.add_column(head, justify="right")
    for item in plans:
        sizes = (
            *(item.params_bytes, item.state_bytes, item.replicated_bytes),
            *(item.zero1_bytes, item.sharded_bytes),
        )
        result.add_row(item.tree, item.optimizer, *map(profile.in_bytes, sizes))
    result.caption = (
        "The last three columns are bytes per device of params, gradients and state, "
        "without activations and temporary memory."
    )
    return result


def _bytes(tree: Any, shardings: Any = None) -> int:
    """The bytes of all leaves, or of what one device has of them."""
    leaves = jax.tree.leaves(tree)
    if shardings is None:
        shapes = [leaf.shape for leaf in leaves]
    else:
        shapes = [
            sharding.shard_shape(leaf.shape)
            for leaf, sharding in zip(leaves, jax.tree.leaves(shardings), strict=True)
        ]
    return sum(
        math.prod(shape) * leaf.dtype.itemsize
        for shape, leaf in zip(shapes, leaves, strict=True)
    )
