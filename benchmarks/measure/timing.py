"""Times two optimizers against each other, robustly against other load.

Both sides run in one process and take turns (A B B A), so that other load on the
machine affects both; a ratio is the median over turns. On a CPU the clock is the
processor time of this process, which other processes disturb least. On other devices
it is the wall clock.
"""

import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.engine.compiler import compile_on_one_thread
from benchmarks.roster.specs import Make

Shapes = tuple[tuple[int, ...], ...]

LEARNING_RATE = 1e-3
# Long enough that reading the clock and the first call are negligible.
TURN_S = 0.05
# Relative error of a ratio at which its timing stops.
_TARGET = 0.02


def clock() -> float:
    """Seconds: processor time of this process on a CPU, otherwise wall-clock time."""
    on_cpu = jax.default_backend() == "cpu"
    return time.process_time() if on_cpu else time.perf_counter()


def compilations(
    makers: Mapping[str, Make], shapes: Shapes, seconds: float
) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Compiles each side repeatedly, in turns and without the persistent cache.

    Returns:
      The compiled update of each side, and the seconds `[repeat, side]` of tracing and
      of compiling.
    """
    cache = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        # The first compilation fills caches that both sides share.
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
    tx = make(LEARNING_RATE)

    # JAX caches traces by function, so each measurement needs a new function.
    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = structs(shapes)
    state = jax.eval_shape(tx.init, params)
    start = clock()
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params)
    middle = clock()
    compiled = compile_on_one_thread(lowered)
    return compiled, middle - start, clock() - middle


def updates(
    makers: Mapping[str, Make], compiled: list[Any], shapes: Shapes, seconds: float
) -> np.ndarray:
    """Seconds per update of each side, `[turn, side]`.

    Stops after `seconds`, or as soon as the ratio of two sides is known to ±2 %. Makes
    new buffers every few turns, because their position in memory changes the time of
    either side by several per cent.
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
        steps = max(1, round(TURN_S / max(_timed(sides[0], 2), 1e-9)))
        for _ in range(5):
            if len(sides) == 1:
                rows.append([_timed(sides[0], steps)])
                continue
            order = (0, 1, 1, 0) if len(rows) % 2 else (1, 0, 0, 1)
            times = [(i, _timed(sides[i], steps)) for i in order]
            rows.append([sum(t for i, t in times if i == j) / 2 for j in (0, 1)])
        done = np.array(rows)
        precise = len(sides) > 1 and median_ratio(done)[1] < _TARGET
        enough = len(rows) >= 15 and (precise or len(sides) == 1)
        if enough or time.perf_counter() - start > seconds:
            return done


def _buffers(make: Make, shapes: Shapes) -> tuple[Any, Any, Any]:
    keys = jax.random.split(jax.random.key(0), len(shapes))
    params = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
    grads = [0.1 * p for p in params]
    # A donated state must not share its buffers.
    state = jax.tree.map(
        lambda x: jnp.array(x, copy=True), make(LEARNING_RATE).init(params)
    )
    return params, state, grads


def _run(side: list[Any], steps: int) -> None:
    program, params, state, grads = side
    for _ in range(steps):
        params, state = program(params, state, grads)
    jax.block_until_ready((params, state))
    side[1:3] = params, state


def _timed(side: list[Any], steps: int) -> float:
    start = clock()
    _run(side, steps)
    return (clock() - start) / steps


def median_ratio(times: np.ndarray) -> tuple[float, float]:
    """Median of the ratios of a `[turn, 2]` array, and half its 95 % interval.

    The interval lies between two order statistics, so it does not depend on the
    distribution of the noise.
    """
    ratios = np.sort(times[:, 0] / times[:, 1])
    reach = 0.98 * np.sqrt(len(ratios))
    low = max(int(np.floor(len(ratios) / 2 - reach)), 0)
    high = min(int(np.ceil(len(ratios) / 2 + reach)), len(ratios) - 1)
    return float(np.median(ratios)), float(ratios[high] - ratios[low]) / 2


def structs(shapes: Shapes) -> list[jax.ShapeDtypeStruct]:
    """Shapes and dtypes of the parameters, float32."""
    return [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
