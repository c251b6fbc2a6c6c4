"""Measures the cost of one update, compared with the same method in optax.

`benchmarks.measure.timing` explains how the times are measured.
"""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax
from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.errors import UserError
from benchmarks.measure import timing
from benchmarks.measure.timing import Shapes
from benchmarks.roster import gradient_count, resolver, specs
from benchmarks.roster.specs import Make

_LAYER = (
    (256,),
    (256,),
    (256, 768),
    (768,),
    (256, 256),
    (256,),
    (256,),
    (256,),
    (256, 1024),
    (1024,),
    (1024, 256),
    (256,),
)
TREES: Mapping[str, Shapes] = {
    "one": ((10_000_000,),),
    "many": ((33_000,),) * 300,
    "tiny": ((100,),) * 1000,
    "transformer": ((4096, 256), *(_LAYER * 12)),
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of one optimizer on one tree.

    Attributes:
      name: The spec of the optimizer.
      update_us: Microseconds to update and apply; minimum over turns.
      trace_s: Seconds to trace and lower the update; median.
      compile_s: Seconds to compile it, without a cache; median.
      state_bytes: Size of the optimizer's state.
      temp_bytes: Scratch memory of the compiled update.
      moved_bytes: Bytes read or written by one update, as counted by XLA.
    """

    name: str
    update_us: float
    trace_s: float
    compile_s: float
    state_bytes: int
    temp_bytes: int
    moved_bytes: int


@dataclasses.dataclass(frozen=True)
class CostComparison:
    """Cost of an optimizer and of its counterpart in optax, on one tree.

    Attributes:
      tree: A key of `TREES`.
      ours: Cost of the optimizer.
      theirs: Cost of the counterpart, or None if optax has none.
      update_ratio: Median over turns of ours ÷ theirs in time per update.
      update_error: Half the width of the 95 % interval of that median.
      compile_ratio: Median over repeats of ours ÷ theirs in trace + compile time.
    """

    tree: str
    ours: Cost
    theirs: Cost | None
    update_ratio: float | None
    update_error: float | None
    compile_ratio: float | None


# Counterparts with another name; optimistic Adam is the closest to the second.
_OTHER_NAMES = {
    "dadapt_adam": "dadapt_adamw",
    "optimistic_amsgrad": "optimistic_adam_v2",
}


def counterpart(spec: str) -> tuple[str, Make] | None:
    """The function of optax for the same method, with the arguments that it accepts.

    Returns:
      Its name and a function of the learning rate, or None if optax has none.
    """
    target, base, arguments = specs.parse(spec)
    if base is not None:
        return None
    target = _OTHER_NAMES.get(target, target)
    for prefix, package in (("optax", optax), ("optax.contrib", optax.contrib)):
        function = getattr(package, target, None)
        if inspect.isfunction(function):
            known = inspect.signature(function).parameters
            shared = {k: v for k, v in arguments.items() if k in known}
            return f"{prefix}.{target}", functools.partial(function, **shared)
    return None


def compare(spec: str, tree: str, *, seconds: float = 10.0) -> CostComparison:
    """Measures an optimizer and its counterpart, in turns, on one tree.

    Args:
      spec: The optimizer; see `benchmarks.roster.specs`.
      tree: A key of `TREES`.
      seconds: Time limit for updates, and again for compilations, of which each side
        gets at least four. Updates stop earlier once the ratio is known to ±2 %.

    Raises:
      UserError: The optimizer or tree is unknown, or the optimizer computes gradients
        of its own.
    """
    if tree not in TREES:
        msg = f"unknown tree {tree!r}: choose from {', '.join(TREES)}."
        raise UserError(msg)
    other = counterpart(spec)
    makers: dict[str, Make] = {spec: resolver.resolve(spec).make}
    make, nothing = makers[spec], frozenset[str]()
    if (
        gradient_count.missing(make, nothing)
        or gradient_count.count_or_one(make, nothing).gradients_per_step > 1
    ):
        msg = (
            f"{spec!r} computes gradients of its own, whose cost depends on the model, "
            "but only the update is measured here: name the optimizer inside it."
        )
        raise UserError(msg)
    if other is not None:
        makers[other[0]] = other[1]
    compiled, trace_s, compile_s = timing.compilations(makers, TREES[tree], seconds)
    update_s = timing.updates(makers, compiled, TREES[tree], seconds)
    costs = []
    for i, (name, make) in enumerate(makers.items()):
        memory = compiled[i].memory_analysis()
        analysis = compiled[i].cost_analysis() or {}
        state = jax.eval_shape(
            make(timing.LEARNING_RATE).init, timing.structs(TREES[tree])
        )
        costs.append(
            Cost(
                name=name,
                update_us=1e6 * float(update_s[:, i].min()),
                trace_s=float(np.median(trace_s[:, i])),
                compile_s=float(np.median(compile_s[:, i])),
                state_bytes=sum(x.size * x.dtype.itemsize for x in _leaves(state)),
                temp_bytes=int(memory.temp_size_in_bytes) if memory else 0,
                moved_bytes=int(analysis.get("bytes accessed", 0)),
            )
        )
    if other is None:
        return CostComparison(tree, costs[0], None, None, None, None)
    ratio, error = timing.median_ratio(update_s)
    total = trace_s + compile_s
    compile_ratio = float(np.median(total[:, 0] / total[:, 1]))
    return CostComparison(tree, costs[0], costs[1], ratio, error, compile_ratio)


def table(comparisons: list[CostComparison]) -> Table:
    """The comparisons as a table: ours, theirs, ours ÷ theirs."""
    result = Table("tree", "optimizer", box=SIMPLE_HEAD, pad_edge=False)
    for head in ("µs/update", "trace s", "compile s", "state", "temp", "moved"):
        result.add_column(head, justify="right")
    for item in comparisons:
        for cost in filter(None, (item.ours, item.theirs)):
            result.add_row(
                item.tree,
                cost.name,
                f"{cost.update_us:,.0f}",
                f"{cost.trace_s:.3f}",
                f"{cost.compile_s:.3f}",
                *map(in_bytes, (cost.state_bytes, cost.temp_bytes, cost.moved_bytes)),
            )
        if item.theirs is not None:
            ours, theirs = item.ours, item.theirs
            result.add_row(
                "",
                "ratio",
                f"{item.update_ratio:.3f} ± {item.update_error:.3f}\n"
                f"min {ours.update_us / theirs.update_us:.3f}",
                f"{ours.trace_s / theirs.trace_s:.2f}",
                f"{ours.compile_s / theirs.compile_s:.2f}\n"
                f"both {item.compile_ratio:.2f}",
                _quotient(ours.state_bytes, theirs.state_bytes),
                _quotient(ours.temp_bytes, theirs.temp_bytes),
                _quotient(ours.moved_bytes, theirs.moved_bytes),
                style="bold",
            )
        result.add_section()
    return result


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree)


def _quotient(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f}" if theirs else "–"


def in_bytes(count: float) -> str:
    """A number of bytes with three digits and its unit."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
