"""A lane, which is the run of one learning rate, and the step that updates it."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks.problem import Problem, PyTree, extra_arguments
from benchmarks.roster.specs import Make

# A lane has diverged when its training loss exceeds this multiple of its first loss
# (or of 1, if the first loss is smaller).
DIVERGENCE = 1e6


class Lane(NamedTuple):
    """One run between two steps.

    The program holds all learning rates side by side: there, every leaf has a leading
    lane axis. Fields are `Any`, because they are shapes while the program is traced.

    Attributes:
      params: Parameters.
      state: Optimizer state, initialized by the program at step 0.
      alive: Boolean; False once the run has diverged.
      diverged_at: Steps done when the run diverged, -1 while it is alive; int32.
      first_loss: Training loss at the start, float32.
    """

    params: PyTree
    state: PyTree
    alive: Any
    diverged_at: Any
    first_loss: Any


def update_lane(
    problem: Problem,
    asks_for_tail: bool,
    make: Make,
    step: jax.Array,
    learning_rate: jax.Array,
    lane: Lane,
    batch: PyTree,
) -> Lane:
    """One training step of one lane, undone if the lane has diverged.

    A lane diverges when its loss is not finite or exceeds the limit set by
    `DIVERGENCE`, or when the update would make a parameter that is not finite. From
    then on it keeps its parameters and state.

    Args:
      problem: The problem.
      asks_for_tail: Whether the optimizer computes the gradients of rare classes
        itself; it is then given the gradients of all other classes.
      make: Makes the optimizer from the learning rate.
      step: Steps done so far, int32 scalar.
      learning_rate: Float32 scalar.
      lane: The lane, without a lane axis.
      batch: The batch, the same for all lanes.
    """
    extra = extra_arguments(problem, lane.params, batch)
    value, grads = extra["value"], extra["grad"]
    if asks_for_tail and (tail_loss := problem.tail_loss) is not None:
        grads = jax.grad(lambda p: problem.loss(p, batch) - tail_loss(p, batch))(
            lane.params
        )
    tx = optax.with_extra_args_support(make(learning_rate))
    updates, state = tx.update(grads, lane.state, lane.params, **extra)
    params = optax.apply_updates(lane.params, updates)
    if problem.project is not None:
        params = problem.project(params)

    first_loss = jnp.where(step == 0, value, lane.first_loss).astype(jnp.float32)
    limit = DIVERGENCE * jnp.maximum(jnp.abs(first_loss), 1.0)
    finite = [jnp.isfinite(p).all() for p in jax.tree.leaves(params)]
    sound = functools.reduce(
        jnp.logical_and, finite, jnp.isfinite(value) & (value <= limit)
    )
    alive = lane.alive & sound

    def keep(new: PyTree, old: PyTree) -> PyTree:
        return jax.tree.map(lambda n, o: jnp.where(alive, n, o), new, old)

    return Lane(
        params=keep(params, lane.params),
        state=keep(state, lane.state),
        alive=alive,
        diverged_at=jnp.where(lane.alive & ~sound, step, lane.diverged_at),
        first_loss=first_loss,
    )
