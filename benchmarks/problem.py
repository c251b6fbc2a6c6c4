"""The definition of a benchmark problem."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


def _whole_data(data: PyTree) -> PyTree:
    return data


def _sample_whole_data(key: jax.Array, data: PyTree) -> PyTree:
    del key
    return data


class FrontSpec(NamedTuple):
    """How the Pareto fronts of a problem with two objectives are compared.

    Attributes:
      reference: Main and auxiliary loss of the reference point of the hypervolume.
        Points that are worse in either loss do not count.
      level: Auxiliary loss at which the main losses are compared.
      points: The true Pareto front, `[n, 2]`, sorted by increasing main loss; None
        where it is unknown.
    """

    reference: tuple[float, float]
    level: float
    points: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Problem:
    """An optimization problem: its start, loss, data, evaluation and description.

    Give exactly one of `evaluate` and `evaluate_exact`. Both return metrics of the
    parameters by name. The first one is `"loss"`, on which targets are set.

    Attributes:
      name: The name of the file that defines the problem, without `.py`; for a problem
        of your own, any name of lower-case letters, digits and `_`.
      summary: One sentence: what the problem is and what makes it difficult.
      formula: The loss as mathematics in one line of plain text.
      source: The paper or data set that it comes from.
      tags: One of `convex`, `nonconvex` and `game`, one of `deterministic` and
        `stochastic`, and any others.
      budget: Number of gradients in one run. An optimizer that takes two gradients
        per step takes half as many steps.
      init: `(key)` to float32 starting parameters. They must depend on the key, also
        in a deterministic problem, because each seed is a different instance.
      loss: `(params, batch)` to the float32 training loss that is differentiated.
      sample: `(key, data)` to one batch. The default returns the whole data.
      full_batch: `(data)` to one batch of all training data, whose loss is the mean of
        the loss over random batches. The default returns the whole data. Used by
        tests.
      data: Arrays that `sample` and `evaluate` receive. They are transferred to the
        device once.
      evaluate: `(params, data)` to float32 metrics, inside the compiled program.
      evaluate_exact: `(params)` to float64 metrics of shape `[...]`, on the host, where
        `params` are float64 NumPy arrays with leading axes `[...]`.
      f_star: The smallest value of `"loss"`, if known.
      minimizer: Parameters at which `"loss"` is `f_star`, if known.
      metric: The name of `"loss"` on the axes of figures.
      scored: Whether the problem has targets and counts in a suite's score. If not, it
        gets a table of its own, and learning rates are chosen by the final `"loss"`.
      gradient: `(params, batch)` to the vector field that a step descends, if it is not
        the gradient of `loss`. In a game, each player descends its own loss.
      project: `(params)` to the nearest feasible parameters, applied after each step.
      aux_loss: `(params, batch)` to an auxiliary loss, the second objective;
        `evaluate` reports it as `"aux"`.
      front: How Pareto fronts are compared; required with `aux_loss`.
      tail_loss: `(params, batch)` to the part of `loss` that comes from rare classes.
      spec: Set by `benchmarks.problems.load_problem` for a problem of your own: the
        `MODULE:FUNCTION` or `FILE.py:FUNCTION` that names it on the command line.
    """

    name: str
    summary: str
    formula: str
    source: str
    tags: frozenset[str]
    budget: int
    init: Callable[[jax.Array], PyTree]
    loss: Callable[[PyTree, PyTree], jax.Array]
    sample: Callable[[jax.Array, PyTree], PyTree] = _sample_whole_data
    full_batch: Callable[[PyTree], PyTree] = _whole_data
    data: PyTree = None
    evaluate: Callable[[PyTree, PyTree], Mapping[str, jax.Array]] | None = None
    evaluate_exact: Callable[[PyTree], Mapping[str, np.ndarray]] | None = None
    f_star: float | None = None
    minimizer: PyTree = None
    metric: str = "loss"
    scored: bool = True
    gradient: Callable[[PyTree, PyTree], PyTree] | None = None
    project: Callable[[PyTree], PyTree] | None = None
    aux_loss: Callable[[PyTree, PyTree], jax.Array] | None = None
    front: FrontSpec | None = None
    tail_loss: Callable[[PyTree, PyTree], jax.Array] | None = None
    spec: str = ""

    def __post_init__(self) -> None:
        """Checks that there is exactly one evaluation function."""
        if (self.evaluate is None) == (self.evaluate_exact is None):
            found = "neither" if self.evaluate is None else "both"
            msg = (
                f"Problem {self.name!r}: give exactly one of evaluate and "
                f"evaluate_exact; found {found}."
            )
            raise ValueError(msg)


def near(key: jax.Array, start: tuple[float, ...], spread: float) -> jax.Array:
    """A start, float32 `[n]`: `start` plus normal noise with deviation `spread`."""
    noise = jax.random.normal(key, (len(start),), jnp.float32)
    return jnp.asarray(start, jnp.float32) + spread * noise


def extra_arguments(problem: Problem, params: PyTree, batch: PyTree) -> dict[str, Any]:
    """The keyword arguments that an optimizer's `update` receives.

    Every problem provides `value`, `grad`, `value_fn` and `grad_fn`. A problem with an
    auxiliary loss also provides `aux_grads`, and one with rare classes `tail_grad_fn`.
    The compiler removes what an optimizer does not use.
    """

    def value_fn(
        params: PyTree,
        grad_fn: Any = None,
        aux_grads: Any = None,
        tail_grad_fn: Any = None,
    ) -> jax.Array:
        # optax's line searches pass all keyword arguments on to `value_fn`.
        del grad_fn, aux_grads, tail_grad_fn
        return problem.loss(params, batch)

    if problem.gradient is None:
        grad_fn = jax.grad(value_fn)
        value, grad = jax.value_and_grad(value_fn)(params)
    else:
        gradient = problem.gradient

        def grad_fn(params: PyTree) -> PyTree:
            return gradient(params, batch)

        value, grad = value_fn(params), grad_fn(params)
    given = {"value": value, "grad": grad, "value_fn": value_fn, "grad_fn": grad_fn}
    if problem.aux_loss is not None:
        given["aux_grads"] = jax.grad(problem.aux_loss)(params, batch)
    if problem.tail_loss is not None:
        tail_loss = problem.tail_loss
        given["tail_grad_fn"] = jax.grad(lambda params: tail_loss(params, batch))
    return given


def data_hash(problem: Problem) -> str:
    """SHA-256, in hex, of a problem's arrays, their paths, dtypes and shapes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(problem.data):
        array = np.ascontiguousarray(leaf)
        head = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n"
        digest.update(head.encode() + array.tobytes())
    return digest.hexdigest()
