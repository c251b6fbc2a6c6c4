"""The compiled program: one optimizer on one problem, one lane per learning rate."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from benchmarks.engine.lane import Transformation, transformation, update_lane
from benchmarks.problem import Problem, PyTree
from benchmarks.roster import gradient_count
from benchmarks.roster.specs import Make


class Carry(NamedTuple):
    """All that a run needs to go on; every leaf but `step` has a leading lane axis.

    Attributes:
      step: Updates done so far, int32.
      params: Parameters.
      state: Optimizer states, made inside the program at step 0.
      alive: False once the lane is frozen.
      diverged_at: Updates in a frozen lane's parameters; -1 where alive; int32.
      first_loss: Training loss at the start, float32.
    """

    step: ArrayLike
    params: PyTree
    state: PyTree
    alive: ArrayLike
    diverged_at: ArrayLike
    first_loss: ArrayLike


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program on one device, with what it costs.

    Attributes:
      compiled: `(carry, rates, key, stops, first, last, data)` to the carry at
        `stops[last - 1]` and the rows, of which `first` to `last - 1` are filled.
      device: Where it runs.
      state: Shapes and dtypes of the state in the carry.
      rows: Shapes and dtypes of the rows.
      costs: `trace_s`, `compile_s` (seconds), `flops`, `bytes_accessed` (XLA's count,
        loop bodies once), `temp_bytes` (of all lanes), `state_bytes` and
        `param_bytes` (of one lane).
    """

    compiled: Callable[..., tuple[Carry, PyTree]]
    device: jax.Device
    state: PyTree
    rows: PyTree
    costs: dict[str, float]

    def start(self, params: PyTree, lanes: int) -> Carry:
        """The carry at step 0: `params` in every lane."""
        return Carry(
            step=np.int32(0),
            params=jax.tree.map(lambda p: np.stack([p] * lanes), params),
            state=jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), self.state),
            alive=np.ones(lanes, bool),
            diverged_at=np.full(lanes, -1, np.int32),
            first_loss=np.zeros(lanes, np.float32),
        )


def compile_program(
    problem: Problem,
    make: Make,
    *,
    params: PyTree,
    data: PyTree,
    lanes: int,
    points: int,
    budget: int,
    schedule: str,
    device: jax.Device,
) -> Program:
    """Traces and compiles; `params` (one lane) and `data` give shapes and dtypes.

    Nothing but shapes, the schedule and the budget is baked in: learning rates,
    seeds, evaluation steps and the place to stop are arguments, so one program
    serves every block and every way of cutting a block into chunks.
    """
    began = time.perf_counter()
    from_rate = transformation(make, schedule, budget)

    def init(rates: jax.Array, params: PyTree) -> PyTree:
        return jax.vmap(lambda rate, p: from_rate(rate).init(p))(rates, params)

    on_device = jax.sharding.SingleDeviceSharding(device)

    def shaped(x: Any, *leading: int) -> jax.ShapeDtypeStruct:
        dtype = x.dtype if _is_key(x) else jax.dtypes.canonicalize_dtype(x.dtype)
        return jax.ShapeDtypeStruct((*leading, *x.shape), dtype, sharding=on_device)

    scalar = shaped(np.int32(0))
    floats = shaped(np.float32(0), lanes)
    lane_params = jax.tree.map(lambda x: shaped(x, lanes), params)
    state = jax.eval_shape(lambda *args: _wrap(init(*args)), floats, lane_params)
    state = jax.tree.map(shaped, state)
    row = jax.eval_shape(functools.partial(_report, problem), lane_params, data)
    rows = jax.tree.map(lambda x: shaped(x, points), row)
    # Counted already when the run was planned: no second trace.
    counted = gradient_count.offered_by(problem) and gradient_count.count(
        make, gradient_count.offered_by(problem)
    )
    asks_for_tail = bool(counted and counted.asks_for_tail)
    traced = jax.jit(_program(problem, from_rate, init, rows, asks_for_tail)).trace(
        Carry(
            step=scalar,
            params=lane_params,
            state=state,
            alive=shaped(np.bool_(0), lanes),
            diverged_at=shaped(scalar, lanes),
            first_loss=floats,
        ),
        floats,
        shaped(jax.eval_shape(lambda: jax.random.key(0))),
        shaped(scalar, points),
        scalar,
        scalar,
        jax.tree.map(shaped, data),
    )
    trace_s = time.perf_counter() - began
    compiled = traced.lower().compile()
    costs = {
        "trace_s": trace_s,
        "compile_s": time.perf_counter() - began - trace_s,
        "state_bytes": _bytes(state) / lanes,
        "param_bytes": _bytes(lane_params) / lanes,
        **_xla_costs(compiled),
    }
    return Program(compiled, device, state, rows, costs)


def _program(
    problem: Problem,
    from_rate: Transformation,
    init: Callable[[jax.Array, PyTree], PyTree],
    rows: PyTree,
    asks_for_tail: bool,
) -> Callable[..., tuple[Carry, PyTree]]:
    lane = functools.partial(update_lane, problem, asks_for_tail, from_rate)

    def program(
        carry: Carry,
        rates: jax.Array,
        key: jax.Array,
        stops: jax.Array,
        first: jax.Array,
        last: jax.Array,
        data: PyTree,
    ) -> tuple[Carry, PyTree]:
        batches = jax.random.fold_in(key, 1)

        def step(carry: Carry) -> Carry:
            batch = problem.sample(jax.random.fold_in(batches, carry.step), data)
            lanes = jax.vmap(lane, in_axes=(None, 0, 0, 0, 0, 0, 0, None))(
                carry.step, rates, *carry[1:], batch
            )
            return Carry(carry.step + 1, *lanes)

        def point(i: jax.Array, loop: tuple[Carry, PyTree]) -> tuple[Carry, PyTree]:
            carry, filled = loop
            carry = jax.lax.while_loop(lambda c: c.step < stops[i], step, carry)
            row = _report(problem, carry.params, data)
            put = functools.partial(
                jax.lax.dynamic_update_index_in_dim, index=i, axis=0
            )
            return carry, jax.tree.map(put, filled, row)

        begun = init(rates, carry.params)
        state = jax.tree.map(
            functools.partial(jnp.where, carry.step == 0),
            begun,
            _unwrap(carry.state, begun),
        )
        blank = jax.tree.map(lambda r: jnp.zeros(r.shape, r.dtype), rows)
        carry, filled = jax.lax.fori_loop(
            first, last, point, (carry._replace(state=state), blank)
        )
        return carry._replace(state=_wrap(carry.state)), filled

    return program


def _report(problem: Problem, params: PyTree, data: PyTree) -> dict[str, PyTree]:
    """What the host gets of each evaluation point; parameters where it needs them."""
    dimension = sum(leaf[0].size for leaf in jax.tree.leaves(params))
    if problem.evaluate is None:
        return {"metrics": {}, "params": params}
    metrics = jax.vmap(problem.evaluate, in_axes=(0, None))(params, data)
    return {"metrics": dict(metrics), "params": params if dimension == 2 else ()}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _wrap(state: PyTree) -> PyTree:
    """Random keys in a state as plain numbers, which can be stored."""
    return jax.tree.map(lambda s: jax.random.key_data(s) if _is_key(s) else s, state)


def _unwrap(state: PyTree, like: PyTree) -> PyTree:
    """Numbers as random keys again, where `like` has them."""

    def leaf(s: jax.Array, like: jax.Array) -> jax.Array:
        if not _is_key(like):
            return s
        return jax.random.wrap_key_data(s, impl=jax.random.key_impl(like))

    return jax.tree.map(leaf, state, like)


def _bytes(tree: PyTree) -> int:
    return sum(s.size * s.dtype.itemsize for s in jax.tree.leaves(tree))


def _xla_costs(compiled: Any) -> dict[str, float]:
    costs = compiled.cost_analysis() or {}
    memory = compiled.memory_analysis()
    return {
        "flops": float(costs.get("flops", np.nan)),
        "bytes_accessed": float(costs.get("bytes accessed", np.nan)),
        "temp_bytes": float(getattr(memory, "temp_size_in_bytes", np.nan)),
    }
