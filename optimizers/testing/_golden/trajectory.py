"""Trajectories: the outputs of an optimizer on fixed parameters and gradients."""

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from optimizers.testing import _extras, _factory
from optimizers.testing._compare import as_numpy
from optimizers.testing._golden.scenarios import (
    is_runnable,
    make_inputs,
    trajectory_scenarios,
)
from optimizers.testing._inputs import Tree

# How optimizers reject complex gradients. JAX and NumPy only warn when the imaginary
# part is dropped, and dropping it is not support either.
_REJECTIONS = (
    ValueError,
    TypeError,
    NotImplementedError,
    DeprecationWarning,
    np.exceptions.ComplexWarning,
)


class Trajectory(NamedTuple):
    """The outputs of every step: trees of NumPy arrays whose first axis is the step.

    The fields are in the order in which an update computes them, so the first
    difference between two trajectories is the closest to the cause.

    Attributes:
        state: The optimizer's state after each step.
        updates: The updates of each step.
        params: The parameters after each step.
    """

    state: Tree
    updates: Tree
    params: Tree


def record_trajectory(
    optimizer: Any, *, scenarios: Iterable[str] | None = None, **kwargs: Any
) -> dict[str, Trajectory]:
    """Runs an optimizer for 8 steps on fixed trees, dtypes and gradients.

    `update` is jitted. It receives the parameters and, by keyword, every extra argument
    that an optimizer of optax may need, such as `value_fn` and `grad_fn` of the loss
    ½·Σ|p|².

    Args:
        optimizer: A transformation, or a factory of one. The signature of a factory
            decides how it is called, as for `check`.
        scenarios: Names from `trajectory_scenarios()`; all if None.
        **kwargs: Keyword arguments of the factory.

    Returns:
        Trajectories by the name of their scenario. Scenarios in float64 are left out
        unless `jax_enable_x64` is on, complex ones if the optimizer rejects them.

    Raises:
        ValueError: A scenario is unknown, or there are keyword arguments for a
            transformation.
    """
    return try_scenarios(optimizer, scenarios, kwargs)[0]


def try_scenarios(
    optimizer: Any, scenarios: Iterable[str] | None, kwargs: dict[str, Any]
) -> tuple[dict[str, Trajectory], dict[str, Exception]]:
    """Returns the trajectories, and what kept an optimizer from complex scenarios."""
    known = trajectory_scenarios()
    chosen = known if scenarios is None else tuple(scenarios)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        msg = f"unknown scenarios: {unknown}; see trajectory_scenarios()."
        raise ValueError(msg)
    tx = _make(optimizer, kwargs)
    step = jax.jit(partial(_step, tx))
    trajectories, refusals = {}, {}
    for name in chosen:
        if not is_runnable(name):
            continue
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "Casting (from )?complex")
                trajectories[name] = _follow(tx, step, name)
        except Exception as error:
            if "/complex64/" not in name or not isinstance(error, _REJECTIONS):
                error.add_note(
                    f"This happened in the scenario {name!r}. The argument scenarios "
                    "chooses others; trajectory_scenarios() lists them."
                )
                raise
            refusals[name] = error
    return trajectories, refusals


def is_transformation(optimizer: Any) -> bool:
    """Returns whether this is a transformation, rather than a factory of one."""
    return hasattr(optimizer, "init") and hasattr(optimizer, "update")


def _make(optimizer: Any, kwargs: dict[str, Any]) -> Any:
    if not is_transformation(optimizer):
        _factory.require_arguments(optimizer, kwargs, ("rtol", "scenarios", "name"))
        return optax.with_extra_args_support(_factory.make(optimizer, kwargs))
    if kwargs:
        msg = (
            f"{sorted(kwargs)} are arguments of a factory, but the optimizer is a "
            "transformation; pass the factory instead."
        )
        raise ValueError(msg)
    return optax.with_extra_args_support(optimizer)


def _step(tx: Any, grads: Tree, state: Tree, params: Tree) -> Trajectory:
    updates, state = _extras.update(tx, grads, state, params)
    return Trajectory(state, updates, optax.apply_updates(params, updates))


def _follow(
    tx: Any, step: Callable[[Tree, Tree, Tree], Trajectory], scenario: str
) -> Trajectory:
    params, stream = make_inputs(scenario)
    state = tx.init(params)
    steps = []
    for grads in stream:
        state, updates, params = step(grads, state, params)
        steps.append(Trajectory(state, updates, params))
    return jax.tree.map(lambda *leaves: np.stack([*map(as_numpy, leaves)]), *steps)
