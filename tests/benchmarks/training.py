"""What the tests of the problems share: the problems, and a few steps of Adam."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.measure.problem_checks import batch
from benchmarks.problem import Problem
from benchmarks.problems import load_problem, problem_names

PyTree = Any

PROBLEMS = {name: load_problem(name) for name in problem_names()}


def adam(
    problem: Problem, rate: float, steps: int, seeds: range = range(1)
) -> tuple[PyTree, PyTree]:
    """Starts `[seeds, ...]` and what each step leaves behind, `[seeds, steps, ...]`."""
    optimizer = optax.adam(rate)

    def run(seed: jax.Array) -> tuple[PyTree, PyTree]:
        first = problem.init(jax.random.fold_in(jax.random.key(seed), 0))

        def step(carry: PyTree, t: jax.Array) -> tuple[PyTree, PyTree]:
            params, state = carry
            grads = jax.grad(problem.loss)(params, batch(problem, t, seed))
            updates, state = optimizer.update(grads, state)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        carry = first, optimizer.init(first)
        return first, jax.lax.scan(step, carry, jnp.arange(steps))[1]

    return jax.jit(jax.vmap(run))(jnp.asarray(seeds))
