"""What the tests of the problems share: starts, batches and a few steps of Adam."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.problem import Problem
from benchmarks.problems import load_problem, problem_names

PyTree = Any

PROBLEMS = {name: load_problem(name) for name in problem_names()}


def start(problem: Problem, seed: int = 0) -> PyTree:
    """Where a run of that seed starts."""
    return _starts(problem.name)(seed)


@functools.cache
def _starts(name: str) -> Any:
    init = PROBLEMS[name].init
    return jax.jit(lambda seed: init(jax.random.fold_in(jax.random.key(seed), 0)))


def batch(problem: Problem, step: int = 0, seed: int = 0) -> PyTree:
    """What a run of that seed trains on at that step, counted from 0."""
    stream = jax.random.fold_in(jax.random.key(seed), 1)
    arrays = jax.tree.map(jnp.asarray, problem.data)
    return problem.sample(jax.random.fold_in(stream, step), arrays)


def float64(tree: PyTree) -> PyTree:
    """The same numbers as float64 NumPy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


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
