"""The definition of a benchmark problem."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

PyTree = Any


def _whole_data(key: jax.Array, data: PyTree) -> PyTree:
    del key
    return data


class Front(NamedTuple):
    """Where two objectives are compared: fronts of methods, not single runs.

    Attributes:
      reference: Main and auxiliary loss from which the hypervolume is measured;
        points beyond it in either count for nothing.
      level: Auxiliary loss at which the main losses are compared.
      points: The Pareto front in closed form, `[n, 2]`, main loss ascending; None
        where it is unknown.
    """

    reference: tuple[float, float]
    level: float
    points: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Problem:
    """An optimisation problem, complete with start, data, targets and provenance.

    Exactly one of `evaluate` and `evaluate_exact` is given. Both return the
    metrics of the parameters by name, `"loss"` first: the number that targets
    are set on.

    Attributes:
      name: The stem of the file that defines it.
      summary: One sentence: what it is and what it is hard about.
      formula: The loss as one line of plain text mathematics.
      source: Where it comes from.
      tags: Words such as `convex`, `nonconvex`, `stochastic`, `network`.
      budget: Number of gradients of one run; an optimizer that takes two for each
        step makes half as many steps.
      init: Key to starting parameters (float32). A deterministic problem lets
        the key perturb the start, so that seeds are instances.
      loss: `(params, batch)` to the float32 training loss that is differentiated.
      sample: `(key, data)` to one batch; by default the whole data.
      data: Arrays that `sample` and `evaluate` get; put on the device once.
      evaluate: `(params, data)` to float32 metrics; runs inside the compiled
        program.
      evaluate_exact: Parameters as float64 NumPy arrays, each with the same
        leading axes `[...]` before its own shape, to float64 metrics `[...]`;
        runs on the host.
      f_star: The smallest value of `"loss"`, where it is known.
      minimizer: Parameters at which `"loss"` is `f_star`, where they are known.
      metric: What `"loss"` is, as the axes of figures call it.
      scored: Whether it has targets and counts in a suite's score; if not, it is
        reported in a table of its own, and rates are chosen by the final `"loss"`.
      gradient: `(params, batch)` to the field that a step descends, where it is not
        the gradient of `loss`: in a game each player has a loss of his own.
      project: Parameters to the nearest admissible ones, after every update.
      aux_loss: `(params, batch)` to an auxiliary loss, the second objective;
        `evaluate` reports it as `"aux"`.
      front: How fronts are compared, for a problem with an auxiliary loss.
      tail_loss: `(params, batch)` to the part of `loss` that is due to rare classes.
    """

    name: str
    summary: str
    formula: str
    source: str
    tags: frozenset[str]
    budget: int
    init: Callable[[jax.Array], PyTree]
    loss: Callable[[PyTree, PyTree], jax.Array]
    sample: Callable[[jax.Array, PyTree], PyTree] = _whole_data
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
    front: Front | None = None
    tail_loss: Callable[[PyTree, PyTree], jax.Array] | None = None

    def __post_init__(self) -> None:
        """Refuses a problem without exactly one way to evaluate it."""
        if (self.evaluate is None) == (self.evaluate_exact is None):
            msg = f"{self.name}: give exactly one of evaluate and evaluate_exact."
            raise ValueError(msg)


def extra_arguments(problem: Problem, params: PyTree, batch: PyTree) -> dict[str, Any]:
    """Everything that an optimizer's `update` is given by keyword.

    `value`, `grad`, `value_fn`, `grad_fn` on every problem; `aux_grads` with an
    auxiliary loss, `tail_grad_fn` with a loss of rare classes. What an optimizer does
    not use is traced, and then removed by the compiler.
    """

    def value_fn(
        params: PyTree,
        grad_fn: Any = None,
        aux_grads: Any = None,
        tail_grad_fn: Any = None,
    ) -> jax.Array:
        # optax's line searches hand on, by name, what else they are given.
        del grad_fn, aux_grads, tail_grad_fn
        return problem.loss(params, batch)

    if problem.gradient is None:
        grad_fn = jax.grad(value_fn)
        value, grad = jax.value_and_grad(value_fn)(params)
    else:
        grad_fn = functools.partial(problem.gradient, batch=batch)
        value, grad = value_fn(params), grad_fn(params)
    given = {"value": value, "grad": grad, "value_fn": value_fn, "grad_fn": grad_fn}
    if problem.aux_loss is not None:
        given["aux_grads"] = jax.grad(problem.aux_loss)(params, batch)
    if problem.tail_loss is not None:
        tail_loss = problem.tail_loss
        given["tail_grad_fn"] = jax.grad(lambda params: tail_loss(params, batch))
    return given


def data_hash(problem: Problem) -> str:
    """SHA-256, in hex, of a problem's arrays with their paths, dtypes and shapes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(problem.data):
        array = np.ascontiguousarray(leaf)
        head = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n"
        digest.update(head.encode() + array.tobytes())
    return digest.hexdigest()
