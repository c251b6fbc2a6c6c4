"""States of PyTorch and Keras optimizers, taken over mid-run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optimizers._common.typing import PyTree

__all__ = ["from_keras_state", "from_torch_state"]

# The fields of each state, by their names there: those with an array for each
# parameter, and those that are single numbers.
_Names = tuple[dict[str, str], dict[str, str]]
_TORCH: dict[str, _Names] = {
    "ScaleByAdamState": ({"mu": "exp_avg", "nu": "exp_avg_sq"}, {}),
    "ScaleByAmsgradState": (
        {"mu": "exp_avg", "nu": "exp_avg_sq", "nu_max": "max_exp_avg_sq"},
        {},
    ),
    "ScaleByAdamaxState": ({"mu": "exp_avg", "nu": "exp_inf"}, {}),
    "ScaleByNadamState": (
        {"mu": "exp_avg", "nu": "exp_avg_sq"},
        {"momentum_product": "mu_product"},
    ),
    "ScaleByAdaboundState": ({"mu": "exp_avg", "nu": "exp_avg_sq"}, {}),
    "ScaleByAmsboundState": (
        {"mu": "exp_avg", "nu": "exp_avg_sq", "nu_max": "max_exp_avg_sq"},
        {},
    ),
    "ScaleByDadaptAdamState": (
        {"mu": "exp_avg", "nu": "exp_avg_sq", "grad_sum": "s"},
        {"distance": "d", "numerator": "numerator_weighted"},
    ),
    "ScaleByProdigyState": (
        {"mu": "exp_avg", "nu": "exp_avg_sq", "grad_sum": "s", "start": "p0"},
        {"distance": "d", "distance_max": "d_max", "numerator": "d_numerator"},
    ),
}
_KERAS: dict[str, _Names] = {
    "ScaleByAdamState": ({"mu": "momentum", "nu": "velocity"}, {}),
    "ScaleByAmsgradState": (
        {"mu": "momentum", "nu": "velocity", "nu_max": "velocity_hat"},
        {},
    ),
    "ScaleByAdamaxState": ({"mu": "momentum", "nu": "norm"}, {}),
    "ScaleByNadamState": (
        {"mu": "momentum", "nu": "velocity"},
        {"momentum_product": "variable"},
    ),
}
_KERAS_SLOTS = ("momentum", "velocity", "velocity_hat", "norm")


def from_torch_state(
    state_dict: Mapping[str, Any],
    state: PyTree,
    convert: Callable[[list[np.ndarray]], PyTree],
) -> PyTree:
    """Takes over the state of a PyTorch optimizer, to continue its run here.

    It knows ``Adam``, ``AdamW``, ``Adamax`` and ``NAdam`` of PyTorch, ``AdaBound`` of
    adabound, ``DAdaptAdam`` of dadaptation and ``Prodigy`` of prodigyopt.
    Hyperparameters are not read: docs/migrating.md has the calls. AMSGrad needs
    ``amsgrad(learning_rate, variant="torch")``. Step counts, also those of schedules,
    become that of PyTorch.

    Args:
      state_dict: ``optimizer.state_dict()`` of the PyTorch optimizer, on the CPU.
      state: The new state, ``optimizer.init(params)`` of the optimizer here, with the
        converted params.
      convert: The conversion of the params: from a list with an array for each
        parameter of PyTorch, in the order in which the optimizer has them, to the tree
        of params. Arrays may be moved, transposed and reshaped, but not changed
        otherwise.

    Returns:
      The state, with the shapes and dtypes of the given one.

    Raises:
      ValueError: The two states do not belong to the same method; names what has no
        counterpart. Or a parameter has had no step, or not as many as the others.

    Examples:
      >>> import jax.numpy as jnp, numpy as np, optimizers
      >>> # state_dict = torch_optimizer.state_dict()
      >>> weight = np.ones((3, 2), np.float32)
      >>> moments = {"step": 7.0, "exp_avg": weight, "exp_avg_sq": weight}
      >>> state_dict = {"state": {0: moments}, "param_groups": [{"params": [0]}]}
      >>> convert = lambda arrays: {"kernel": arrays[0].T}
      >>> params = {"kernel": jnp.zeros((2, 3))}
      >>> state = optimizers.adam(0.1).init(params)
      >>> state = optimizers.from_torch_state(state_dict, state, convert)
      >>> print(state[0].count, state[0].mu["kernel"].shape)
      7 (2, 3)
    """
    name = "from_torch_state"
    if not isinstance(state_dict, Mapping) or not (
        {"state", "param_groups"} <= set(state_dict)
    ):
        msg = (
            f"{name}: state_dict must be what state_dict() of a PyTorch optimizer "
            f"returns, got a {type(state_dict).__name__}."
        )
        raise ValueError(msg)
    groups = state_dict["param_groups"]
    order = [index for group in groups for index in group["params"]]
    for index in order:
        if index not in state_dict["state"]:
            msg = (
                f"{name}: PyTorch has no state for parameter {index}, because it had "
                "no gradient so far. Leave it out of the optimizer, or take a "
                "step with all parameters first."
            )
            raise ValueError(msg)
    entries = [state_dict["state"][index] for index in order]
    steps = {float(np.asarray(entry["step"])) for entry in entries}
    if len(steps) != 1:
        msg = (
            f"{name}: all parameters must have had the same number of steps, got "
            f"{sorted(steps)}."
        )
        raise ValueError(msg)

    core = _core(name, state, _TORCH)
    arrays, numbers = _TORCH[type(core).__name__]
    per_parameter = {key for key in entries[0] if key != "step"}
    expected = {*arrays.values(), *(set(numbers.values()) & per_parameter)}
    _match(name, "PyTorch", core, per_parameter, expected)
    like = [np.asarray(entry["exp_avg"]) for entry in entries]
    found = {key: [np.asarray(e[key]) for e in entries] for key in arrays.values()}
    for key in ("s", "p0"):  # flattened in Prodigy, whose p0 may also be a single 0
        pairs = zip(found.get(key, ()), like, strict=False)
        found |= {key: [_shaped(name, key, x, y) for x, y in pairs]}
    single = groups[0] | entries[0]
    return _filled(name, state, core, steps.pop(), convert, found, single, _TORCH)


def from_keras_state(
    variables: Sequence[Any],
    state: PyTree,
    convert: Callable[[list[np.ndarray]], PyTree],
) -> PyTree:
    """Takes over the state of a Keras optimizer, to continue its run here.

    It knows ``Adam``, ``AdamW``, ``Adamax`` and ``Nadam`` of Keras 3. Hyperparameters
    are not read: docs/migrating.md has the calls for each class. AMSGrad needs
    ``amsgrad(learning_rate, variant="torch")``, and Adamax ``variant="keras"``. Step
    counts, also those of schedules, become that of Keras.

    Args:
      variables: ``optimizer.variables`` of the Keras optimizer.
      state: The new state, ``optimizer.init(params)`` of the optimizer here, with the
        converted params.
      convert: The conversion of the params: from a list with an array for each
        variable of Keras, in the order of ``model.trainable_variables``, to the tree
        of params. Arrays may be moved, transposed and reshaped, but not changed
        otherwise.

    Returns:
      The state, with the shapes and dtypes of the given one.

    Raises:
      ValueError: The two states do not belong to the same method; names what has no
        counterpart.
    """
    name = "from_keras_state"
    found: dict[str, list[np.ndarray]] = {}
    for variable in variables:
        path = getattr(variable, "path", None)
        if path is None:
            msg = (
                f"{name}: variables must be optimizer.variables of a Keras optimizer, "
                f"got a {type(variable).__name__}."
            )
            raise ValueError(msg)
        own = path.rpartition("/")[2]
        slots = [slot for slot in _KERAS_SLOTS if own.endswith(f"_{slot}")]
        found.setdefault(slots[0] if slots else own, []).append(np.asarray(variable))
    count = found.pop("iteration", None)
    found.pop("learning_rate", None)
    if count is None:
        msg = (
            f"{name}: variables must be optimizer.variables of a Keras optimizer, "
            f"which begin with iteration, got {[x.path for x in variables]}."
        )
        raise ValueError(msg)

    core = _core(name, state, _KERAS)
    arrays, numbers = _KERAS[type(core).__name__]
    _match(name, "Keras", core, set(found), {*arrays.values(), *numbers.values()})
    single = {key: found[key][0] for key in numbers.values()}
    return _filled(name, state, core, count[0], convert, found, single, _KERAS)


def _core(name: str, state: PyTree, known: dict[str, _Names]) -> Any:
    """The part of the state that holds the moments."""
    found = [x for x in _leaves(state, known) if type(x).__name__ in known]
    if len(found) != 1:
        msg = (
            f"{name}: state must hold exactly one of {', '.join(known)}, found "
            f"{[type(x).__name__ for x in found]}. Call it with optimizer.init(params) "
            "of an optimizer of this library."
        )
        raise ValueError(msg)
    return found[0]


def _leaves(state: PyTree, known: dict[str, _Names]) -> list[Any]:
    return jax.tree.leaves(state, is_leaf=lambda x: type(x).__name__ in known)


def _match(
    name: str, framework: str, core: Any, found: set[str], expected: set[str]
) -> None:
    """Raises ValueError if one of the two has what the other has not."""
    here = type(core).__name__
    if found - expected:
        msg = (
            f"{name}: {here} has no counterpart of {sorted(found - expected)} in the "
            f"{framework} state. docs/migrating.md has the optimizer for each class."
        )
        raise ValueError(msg)
    if expected - found:
        msg = (
            f"{name}: the {framework} state has no {sorted(expected - found)}, which "
            f"{here} needs. docs/migrating.md has the optimizer for each class."
        )
        raise ValueError(msg)


def _shaped(name: str, key: str, x: np.ndarray, like: np.ndarray) -> np.ndarray:
    if x.ndim == 0:
        return np.broadcast_to(x, like.shape)
    if x.size != like.size:
        msg = (
            f"{name}: {key} has {x.size} entries for a parameter with {like.size}, as "
            "with slice_p of Prodigy, which is not supported."
        )
        raise ValueError(msg)
    return x.reshape(like.shape)


def _filled(
    name: str,
    state: PyTree,
    core: Any,
    step: Any,
    convert: Callable[[list[np.ndarray]], PyTree],
    found: Mapping[str, list[np.ndarray]],
    single: Mapping[str, Any],
    known: dict[str, _Names],
) -> PyTree:
    """The state with all step counts and the fields of its core replaced."""
    arrays, numbers = known[type(core).__name__]
    if getattr(core, "displacement", None) is not None:
        msg = (
            f"{name}: prodigy keeps the displacement of params of 16 bits, which "
            "PyTorch does not. Convert the params to float32."
        )
        raise ValueError(msg)
    fields = {
        field: _like(name, field, getattr(core, field), convert(found[key]))
        for field, key in arrays.items()
    }
    for field, key in numbers.items():
        old = getattr(core, field)
        fields[field] = jnp.asarray(np.asarray(single[key]), old.dtype)
    new_core = core._replace(**fields)

    def filled(path: tuple[Any, ...], x: Any) -> Any:
        is_count = bool(path) and getattr(path[-1], "name", None) == "count"
        return jnp.full_like(x, int(step)) if is_count else x

    whole = jax.tree.map(
        lambda x: new_core if x is core else x,
        state,
        is_leaf=lambda x: type(x).__name__ in known,
    )
    return jax.tree_util.tree_map_with_path(filled, whole)


def _like(name: str, field: str, old: PyTree, new: PyTree) -> PyTree:
    """The converted arrays, if they have the structure and shapes of the field."""
    same = jax.tree.structure(old) == jax.tree.structure(new) and all(
        x.shape == np.shape(y)
        for x, y in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
    )
    if not same:
        shapes = [jax.tree.map(np.shape, tree) for tree in (new, old)]
        msg = (
            f"{name}: convert must return a tree of the structure and shapes of the "
            f"params, got {shapes[0]} for {field} in place of {shapes[1]}."
        )
        raise ValueError(msg)
    return jax.tree.map(lambda x, y: jnp.asarray(np.asarray(y), x.dtype), old, new)
