"""One update of one lane: gradient, optimizer, and the freeze where it diverges."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from benchmarks.problem import Problem, PyTree, extra_arguments
from benchmarks.roster.specs import Make

# A lane whose training loss exceeds this multiple of its first one (of 1, where the
# first is smaller) has diverged.
DIVERGENCE = 1e6

Transformation = Callable[[jax.Array], optax.GradientTransformationExtraArgs]


def transformation(make: Make, schedule: str, budget: int) -> Transformation:
    """From a peak learning rate, which may be traced, to the optimizer.

    Args:
      make: The optimizer, from a learning rate or a schedule.
      schedule: `constant`, or `cosine`: rate · ½ (1 + cos(π count / budget)).
      budget: Number of steps of a run.
    """

    def from_rate(rate: jax.Array) -> optax.GradientTransformationExtraArgs:
        def cosine(count: jax.Array) -> jax.Array:
            return rate * 0.5 * (1.0 + jnp.cos(jnp.pi * count / budget))

        tx = make(cosine if schedule == "cosine" else rate)
        return optax.with_extra_args_support(tx)

    return from_rate


def update_lane(
    problem: Problem,
    asks_for_tail: bool,
    from_rate: Transformation,
    step: jax.Array,
    rate: jax.Array,
    params: PyTree,
    state: PyTree,
    alive: jax.Array,
    diverged_at: jax.Array,
    first_loss: jax.Array,
    batch: PyTree,
) -> tuple[PyTree, PyTree, jax.Array, jax.Array, jax.Array]:
    """One update of one lane, undone where the lane has diverged.

    A lane diverges when its loss is not finite or beyond `DIVERGENCE`, or when the
    update would make a parameter that is not finite. From then on it keeps its
    parameters and state. An optimizer that asks for the gradients of rare classes
    itself is handed those of all others.

    Returns:
      Parameters, state, whether the lane goes on, the step of its divergence or -1,
      and its first loss.
    """
    extra = extra_arguments(problem, params, batch)
    value, grads = extra["value"], extra["grad"]
    if asks_for_tail:
        grads = jax.grad(
            lambda p: problem.loss(p, batch) - problem.tail_loss(p, batch)
        )(params)
    updates, new_state = from_rate(rate).update(grads, state, params, **extra)
    new_params = optax.apply_updates(params, updates)
    if problem.project is not None:
        new_params = problem.project(new_params)

    first_loss = jnp.where(step == 0, value, first_loss).astype(jnp.float32)
    limit = DIVERGENCE * jnp.maximum(jnp.abs(first_loss), 1.0)
    finite = [jnp.isfinite(p).all() for p in jax.tree.leaves(new_params)]
    sound = functools.reduce(
        jnp.logical_and, finite, jnp.isfinite(value) & (value <= limit)
    )
    goes_on = alive & sound

    def keep(new: PyTree, old: PyTree) -> PyTree:
        return jax.tree.map(lambda n, o: jnp.where(goes_on, n, o), new, old)

    return (
        keep(new_params, params),
        keep(new_state, state),
        goes_on,
        jnp.where(alive & ~sound, step, diverged_at),
        first_loss,
    )
