"""The compiled program: one optimizer on one problem, one lane per learning rate."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.engine.compiler import compile_on_one_thread
from benchmarks.engine.lane import Lane, update_lane
from benchmarks.problem import Problem, PyTree
from benchmarks.provenance import Device
from benchmarks.roster.specs import Make


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program on one device, with its costs.

    Attributes:
      compiled: `(lanes, learning_rates, key, eval_steps, first, last, data)` to
        `(lanes, rows)`: trains from evaluation `first` to evaluation `last - 1`, and
        fills their rows, `[lane, evaluation, ...]`.
      device: The device that it is compiled for.
      state: Shapes and dtypes of the optimizer state in the lanes.
      rows: Shapes and dtypes of the rows.
      costs: `trace_s`, `compile_s` (seconds), `flops`, `bytes_accessed` (XLA's count,
        loop bodies once), `temp_bytes` (of all lanes), `state_bytes` and
        `param_bytes` (of one lane).
    """

    compiled: Callable[..., tuple[Lane, PyTree]]
    device: Device
    state: PyTree
    rows: PyTree
    costs: dict[str, float]


def compile_program(
    problem: Problem,
    make: Make,
    *,
    asks_for_tail: bool,
    params: PyTree,
    data: PyTree,
    lanes: int,
    evaluations: int,
    budget: int,
    schedule: str,
    device: Device,
) -> Program:
    """Traces and compiles the program.

    Only shapes, the schedule and the budget are compiled in. Learning rates, seeds,
    evaluation steps and the evaluations to run are arguments, so that one program
    serves every seed, in chunks of any size.

    Args:
      problem: The problem.
      make: Makes the optimizer from a learning rate.
      asks_for_tail: Whether the optimizer asks for the gradients of rare classes.
      params: Parameters of one lane; gives shapes and dtypes.
      data: The problem's data; gives shapes and dtypes.
      lanes: Number of learning rates.
      evaluations: Number of evaluations of a run.
      budget: Number of steps of a run.
      schedule: `constant` or `cosine`.
      device: The device to compile for.
    """
    began = time.perf_counter()
    make = _with_schedule(make, schedule, budget)
    on_device = jax.sharding.SingleDeviceSharding(device)

    def init(learning_rates: jax.Array, params: PyTree) -> PyTree:
        return jax.vmap(lambda rate, p: make(rate).init(p))(learning_rates, params)

    def shaped(x: Any, *leading: int) -> jax.ShapeDtypeStruct:
        dtype = x.dtype if _is_key(x) else jax.dtypes.canonicalize_dtype(x.dtype)
        return jax.ShapeDtypeStruct((*leading, *x.shape), dtype, sharding=on_device)

    scalar = shaped(np.int32(0))
    floats = shaped(np.float32(0), lanes)
    lane_params = jax.tree.map(lambda x: shaped(x, lanes), params)
    state = jax.eval_shape(lambda *args: _wrap(init(*args)), floats, lane_params)
    state = jax.tree.map(shaped, state)
    row = jax.eval_shape(functools.partial(_report, problem), lane_params, data)
    rows = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((lanes, evaluations, *x.shape[1:]), x.dtype), row
    )
    update = functools.partial(update_lane, problem, asks_for_tail, make)
    traced = jax.jit(_program(problem, update, init, rows)).trace(
        Lane(
            params=lane_params,
            state=state,
            alive=shaped(np.bool_(0), lanes),
            diverged_at=shaped(scalar, lanes),
            first_loss=floats,
        ),
        floats,
        shaped(jax.eval_shape(lambda: jax.random.key(0))),
        shaped(scalar, evaluations),
        scalar,
        scalar,
        jax.tree.map(shaped, data),
    )
    trace_s = time.perf_counter() - began
    compiled = compile_on_one_thread(traced.lower())
    costs = {
        "trace_s": trace_s,
        "compile_s": time.perf_counter() - began - trace_s,
        "state_bytes": _bytes(state) / lanes,
        "param_bytes": _bytes(lane_params) / lanes,
        **_xla_costs(compiled),
    }
    return Program(compiled, device, state, rows, costs)


def _with_schedule(make: Make, schedule: str, budget: int) -> Make:
    """Makes an optimizer from its peak learning rate, which may be traced.

    `cosine` is learning rate · ½ (1 + cos(π step / budget)).
    """
    if schedule == "constant":
        return make

    def decayed(learning_rate: Any) -> optax.GradientTransformationExtraArgs:
        def cosine(step: Any) -> jax.Array:
            return learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * step / budget))

        return make(cosine)

    return decayed


def _program(
    problem: Problem,
    update: Callable[..., Lane],
    init: Callable[[jax.Array, PyTree], PyTree],
    rows: PyTree,
) -> Callable[..., tuple[Lane, PyTree]]:
    update_lanes = jax.vmap(update, in_axes=(None, 0, 0, None))

    def program(
        lanes: Lane,
        learning_rates: jax.Array,
        key: jax.Array,
        eval_steps: jax.Array,
        first: jax.Array,
        last: jax.Array,
        data: PyTree,
    ) -> tuple[Lane, PyTree]:
        batch_key = jax.random.fold_in(key, 1)

        def train(carry: tuple[jax.Array, Lane]) -> tuple[jax.Array, Lane]:
            step, lanes = carry
            batch = problem.sample(jax.random.fold_in(batch_key, step), data)
            return step + 1, update_lanes(step, learning_rates, lanes, batch)

        def evaluate(
            i: jax.Array, carry: tuple[jax.Array, Lane, PyTree]
        ) -> tuple[jax.Array, Lane, PyTree]:
            step, lanes, rows = carry
            step, lanes = jax.lax.while_loop(
                lambda carry: carry[0] < eval_steps[i], train, (step, lanes)
            )
            put = functools.partial(
                jax.lax.dynamic_update_index_in_dim, index=i, axis=1
            )
            row = _report(problem, lanes.params, data)
            return step, lanes, jax.tree.map(put, rows, row)

        # The first evaluation is at step 0.
        step = eval_steps[jnp.maximum(first - 1, 0)]
        begun = init(learning_rates, lanes.params)
        state = jax.tree.map(
            functools.partial(jnp.where, step == 0), begun, _unwrap(lanes.state, begun)
        )
        blank = jax.tree.map(lambda r: jnp.zeros(r.shape, r.dtype), rows)
        _, lanes, filled = jax.lax.fori_loop(
            first, last, evaluate, (step, lanes._replace(state=state), blank)
        )
        return lanes._replace(state=_wrap(lanes.state)), filled

    return program


def _report(problem: Problem, params: PyTree, data: PyTree) -> dict[str, PyTree]:
    """What an evaluation sends to the host, with the parameters where it needs them."""
    dimension = sum(leaf[0].size for leaf in jax.tree.leaves(params))
    if problem.evaluate is None:
        return {"metrics": {}, "params": params}
    metrics = jax.vmap(problem.evaluate, in_axes=(0, None))(params, data)
    return {"metrics": dict(metrics), "params": params if dimension == 2 else ()}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _wrap(state: PyTree) -> PyTree:
    """Replaces the random keys in a state by plain numbers, which can be stored."""
    return jax.tree.map(lambda s: jax.random.key_data(s) if _is_key(s) else s, state)


def _unwrap(state: PyTree, like: PyTree) -> PyTree:
    """Replaces numbers by random keys again, where `like` has keys."""

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
