"""What one update costs, beside the function of the same name in optax.

Both sides run in one process and take turns (A B B A), so that what else the machine
does falls on both; the ratio is the median over such turns. On a CPU the clock is
the processor time of this process, which other processes disturb least; elsewhere
it is the wall clock, because the work is not done on the processor.
"""

import dataclasses
import functools
import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks import clock, roster, specs
from benchmarks.errors import UserError

Shapes = tuple[tuple[int, ...], ...]
Make = Callable[[float], optax.GradientTransformation]

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
_RATE = 1e-3
# One turn lasts long enough that reading the clock and the first call do not count.
_TURN_S = 0.05
_TARGET = 0.02


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one optimizer costs on one tree.

    Attributes:
      name: The spec of the optimizer.
      update_us: Microseconds per update and application; the least of all turns.
      trace_s: Seconds to trace and lower the update; median.
      compile_s: Seconds to compile it, without any cache; median.
      state_bytes: Size of the optimizer's state.
      temp_bytes: Scratch memory of the compiled update.
      moved_bytes: Bytes that XLA counts as read or written by one update.
    """

    name: str
    update_us: float
    trace_s: float
    compile_s: float
    state_bytes: int
    temp_bytes: int
    moved_bytes: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One optimizer on one tree, beside its counterpart where optax has one.

    Attributes:
      tree: A key of `TREES`.
      ours: Cost of the optimizer.
      theirs: Cost of the counterpart, or None.
      update_ratio: Median over turns of ours ÷ theirs in time per update.
      update_error: Half the 95 % interval of that median.
      compile_ratio: Median over repeats of ours ÷ theirs in trace + compile time.
    """

    tree: str
    ours: Cost
    theirs: Cost | None
    update_ratio: float | None
    update_error: float | None
    compile_ratio: float | None


def counterpart(spec: str) -> tuple[str, Make] | None:
    """The function of optax that has the same name, with the arguments it knows.

    Returns:
      Its name and a function of the learning rate, or None where there is none.
    """
    target, arguments = specs.parse(spec)
    for prefix, package in (("optax", optax), ("optax.contrib", optax.contrib)):
        function = getattr(package, target, None)
        if inspect.isfunction(function):
            known = inspect.signature(function).parameters
            shared = {k: v for k, v in arguments.items() if k in known}
            return f"{prefix}.{target}", functools.partial(function, **shared)
    return None


def compare(spec: str, tree: str, *, seconds: float = 10.0) -> Comparison:
    """Measures an optimizer, and its counterpart in turn, on one tree.

    Args:
      spec: What to measure; see `benchmarks.specs`.
      tree: A key of `TREES`.
      seconds: Upper limit for each of the two timings, of updates and of
        compilations. Updates stop earlier once the ratio is known to ±2 %.

    Raises:
      UserError: Unknown optimizer or tree.
    """
    if tree not in TREES:
        msg = f"unknown tree {tree!r}: choose from {', '.join(TREES)}."
        raise UserError(msg)
    other = counterpart(spec)
    makers: dict[str, Make] = {spec: roster.resolve(spec).make}
    if other is not None:
        makers[other[0]] = other[1]
    compiled, trace_s, compile_s = _compilations(makers, TREES[tree], seconds)
    update_s = _updates(makers, compiled, TREES[tree], seconds)
    costs = []
    for i, (name, make) in enumerate(makers.items()):
        memory = compiled[i].memory_analysis()
        analysis = compiled[i].cost_analysis() or {}
        state = jax.eval_shape(make(_RATE).init, _structs(TREES[tree]))
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
        return Comparison(tree, costs[0], None, None, None, None)
    ratio, error = _median_ratio(update_s)
    total = trace_s + compile_s
    compile_ratio = float(np.median(total[:, 0] / total[:, 1]))
    return Comparison(tree, costs[0], costs[1], ratio, error, compile_ratio)


def table(comparisons: list[Comparison]) -> Table:
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
                *map(_in_bytes, (cost.state_bytes, cost.temp_bytes, cost.moved_bytes)),
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


def _compilations(
    makers: Mapping[str, Make], shapes: Shapes, seconds: float
) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Compiled updates, and seconds [repeat, side] of tracing and of compiling."""
    cache = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        # The first time fills caches that have nothing to do with either side.
        compiled = [_compile(make, shapes)[0] for make in makers.values()]
        rows = []
        start = time.perf_counter()
        while len(rows) < 3 or (
            len(rows) < 15 and time.perf_counter() - start < seconds
        ):
            sides = [_compile(make, shapes)[1:] for make in _turn(makers, len(rows))]
            rows.append(sides[:: -1 if len(rows) % 2 else 1])
    finally:
        jax.config.update("jax_enable_compilation_cache", cache)
    times = np.array(rows)
    return compiled, times[..., 0], times[..., 1]


def _turn(makers: Mapping[str, Make], number: int) -> list[Make]:
    return list(makers.values())[:: -1 if number % 2 else 1]


def _compile(make: Make, shapes: Shapes) -> tuple[Any, float, float]:
    tx = make(_RATE)

    # A new function each time: jax remembers what it traced by the function.
    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = _structs(shapes)
    state = jax.eval_shape(tx.init, params)
    start = clock.seconds()
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params)
    middle = clock.seconds()
    compiled = lowered.compile()
    return compiled, middle - start, clock.seconds() - middle


def _updates(
    makers: Mapping[str, Make], compiled: list[Any], shapes: Shapes, seconds: float
) -> np.ndarray:
    """Seconds per update, [turn, side].

    Fresh buffers every few turns: where they lie in memory changes the time by
    several per cent, for either side.
    """
    rows: list[list[float]] = []
    start = time.perf_counter()
    while True:
        sides = [
            [program, *_buffers(make, shapes)]
            for program, make in zip(compiled, makers.values(), strict=True)
        ]
        for side in sides:
            _run(side, 2)
        steps = max(1, round(_TURN_S / max(_timed(sides[0], 2), 1e-9)))
        for _ in range(5):
            if len(sides) == 1:
                rows.append([_timed(sides[0], steps)])
                continue
            order = (0, 1, 1, 0) if len(rows) % 2 else (1, 0, 0, 1)
            times = [(i, _timed(sides[i], steps)) for i in order]
            rows.append([sum(t for i, t in times if i == j) / 2 for j in (0, 1)])
        done = np.array(rows)
        precise = len(sides) > 1 and _median_ratio(done)[1] < _TARGET
        enough = len(rows) >= 15 and (precise or len(sides) == 1)
        if enough or time.perf_counter() - start > seconds:
            return done


def _buffers(make: Make, shapes: Shapes) -> tuple[Any, Any, Any]:
    keys = jax.random.split(jax.random.key(0), len(shapes))
    params = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
    grads = [0.1 * p for p in params]
    # Donation forbids a state that shares its buffers with anything else.
    state = jax.tree.map(lambda x: jnp.array(x, copy=True), make(_RATE).init(params))
    return params, state, grads


def _run(side: list[Any], steps: int) -> None:
    program, params, state, grads = side
    for _ in range(steps):
        params, state = program(params, state, grads)
    jax.block_until_ready((params, state))
    side[1:3] = params, state


def _timed(side: list[Any], steps: int) -> float:
    start = clock.seconds()
    _run(side, steps)
    return (clock.seconds() - start) / steps


def _median_ratio(times: np.ndarray) -> tuple[float, float]:
    """Median of the ratios of a [turn, 2] array, and half its 95 % interval.

    The interval lies between two order statistics, so it needs no assumption on how
    the noise is distributed.
    """
    ratios = np.sort(times[:, 0] / times[:, 1])
    reach = 0.98 * np.sqrt(len(ratios))
    low = max(int(np.floor(len(ratios) / 2 - reach)), 0)
    high = min(int(np.ceil(len(ratios) / 2 + reach)), len(ratios) - 1)
    return float(np.median(ratios)), float(ratios[high] - ratios[low]) / 2


def _structs(shapes: Shapes) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree)


def _quotient(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f}" if theirs else "–"


def _in_bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
