"""The contents of a state, and the stability of its types."""

import importlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers.testing import _compare, _inputs
from optimizers.testing._compare import leaves
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import rule
from optimizers.testing._conformance.run import follow, run
from optimizers.testing._extras import abstract_steps, update
from optimizers.testing._inputs import Tree

_FOREIGN_FIELDS = {
    "exp_avg": "mu",
    "exp_avg_sq": "nu",
    "m": "mu",
    "m1": "mu",
    "m2": "mu_slow",
    "v": "nu",
    "n": "nu",
    "t": "count",
    "step": "count",
    "steps": "count",
    "step_count": "count",
    "num_steps": "count",
    "num_updates": "count",
    "iteration": "count",
    "iterations": "count",
    "first_moment": "mu",
    "second_moment": "nu",
    "count_m2": "count",
}


def state_is_plain(case: Case) -> None:
    """A state consists of tuples, NamedTuples, dicts and lists of numeric arrays.

    Checkpoint libraries, pickle and optax.tree support only these containers.
    """
    for state in (case.tx.init(case.params), case.expected[1]):
        for path, node in _walk(state, ""):
            if isinstance(node, jax.Array):
                is_key = jnp.issubdtype(node.dtype, jax.dtypes.prng_key)
                assert is_key or jnp.issubdtype(node.dtype, jnp.number), (
                    f"state{path} has dtype {node.dtype}, expected a number; wrappers "
                    "do arithmetic on states"
                )
            elif _is_named(node):
                _assert_importable(type(node), path)
            else:
                assert type(node) in (tuple, list, dict), (
                    f"state{path} has type {type(node).__name__}, expected a "
                    "jax.Array or a tuple, NamedTuple, dict or list of them"
                )


def state_vocabulary(case: Case) -> None:
    """State fields have optax's names, such as count, mu, nu, nu_max and mu_slow.

    optax.tree.get, sharding rules and checkpoints find leaves by these names.
    """
    for path, node in _walk(case.tx.init(case.params), ""):
        names = getattr(type(node), "_fields", ())
        if isinstance(node, dict) and not path.endswith(".hyperparams"):
            # The user chose the names of whole states.
            names = [key for key, held in node.items() if not isinstance(held, tuple)]
        for name in names:
            assert name not in _FOREIGN_FIELDS, (
                f"state{path} has a field {name!r}; optax calls it "
                f"{_FOREIGN_FIELDS[name]!r}"
            )


def buffers_are_fresh(case: Case) -> None:
    """No two leaves of state and params share a buffer.

    JAX cannot donate two leaves that share a buffer.
    """
    moments = [("update", case.params, case.expected.state)]
    # Casting a leaf to its own dtype makes no copy.
    for dtype in ("float32", "bfloat16", "float16"):
        params = _inputs.make_params(dtype)
        moments.append((f"init with {dtype} params", params, case.tx.init(params)))
    for when, params, state in moments:
        owners: dict[int, str] = {}
        for path, buffer in (*_buffers("params", params), *_buffers("state", state)):
            assert buffer not in owners, (
                f"after {when}, {path} shares its buffer with {owners[buffer]}"
            )
            owners[buffer] = path


def state_types_are_stable(case: Case) -> None:
    """Updates do not change the structure, shapes or types of the state.

    A change of type recompiles the second step, and lax.scan raises an error.
    """
    for dtype in ("float32", "bfloat16", "float16", _inputs.MIXED):
        params, grads = _inputs.make_params(dtype), _inputs.make_grads(0, dtype)
        state, traced, _ = abstract_steps(case.tx, params, grads)
        _compare.assert_same_types(traced, state, f"state after jit(update), {dtype}")
    tx = case.make_eager()
    for dtype, steps in (("float32", 2), (_inputs.MIXED, 1)):
        params, grads = _inputs.make_params(dtype), _inputs.make_grads(0, dtype)
        state = jax.eval_shape(tx.init, params)
        eager = tx.init(params)
        _compare.assert_same_types(eager, state, f"state after init, {dtype}")
        for step in range(1, steps + 1):
            eager = update(tx, grads, eager, params)[1]
            what = f"state after update {step}, {dtype}"
            _compare.assert_same_types(eager, state, what)


def state_is_resettable(case: Case) -> None:
    """After resetting any one leaf of the state, results are finite.

    Users restart schedules and reset layers during training.
    """
    fresh, structure = jax.tree.flatten(case.tx.init(case.params))
    used = jax.tree.leaves(case.expected[1])
    for i, (path, _) in enumerate(leaves(case.expected[1])):
        mixed = structure.unflatten([*used[:i], fresh[i], *used[i + 1 :]])
        after = follow(partial(update, case.tx), mixed, case.params, case.stream[:1])
        case.assert_finite(after, f"after resetting state{path}")


def init_is_abstract(case: Case) -> None:
    """Init works on jax.ShapeDtypeStruct and under jax.eval_shape.

    Sharding of large states is planned from shapes, before any array exists.
    """
    for dtype in ("float32", _inputs.MIXED):
        params = _inputs.make_params(dtype)
        state = case.tx.init(params)
        shapes = jax.eval_shape(case.tx.init, params)
        _compare.assert_same_types(shapes, state, "eval_shape(init)")
        direct = case.tx.init(_inputs.abstract(params))
        _compare.assert_same_dtypes(direct, state, "init on ShapeDtypeStruct")


def params_are_found_in_state(case: Case) -> None:
    """optax.tree.map_params finds every param-shaped leaf.

    Users shard and edit states with it, whatever the optimizer.
    """
    # Shapes that no other part of a state has by accident.
    shapes: Tree = {"a": (5, 7), "b": (11,)}
    params = _inputs.make_params("float32", shapes)
    state = case.tx.init(params)
    same = optax.tree.map_params(case.tx, lambda leaf: leaf, state)
    _compare.assert_same_bits(same, state, "state after map_params of the identity")
    marked = optax.tree.map_params(case.tx, lambda leaf: None, state)
    left = {path for path, _ in leaves(marked)}
    for path, leaf in leaves(state):
        assert (
            leaf.ndim == 0 or path not in left or leaf.shape not in shapes.values()
        ), f"state{path} has the shape of a param, but map_params does not find it"


def trajectory_is_finite(case: Case) -> None:
    """Ordinary gradients give finite updates that are not all zero.

    If this rule fails, fix it first, because most other rules then fail too.
    """
    case.assert_finite(case.expected, "after three ordinary steps")
    leaves_of_updates = jax.tree.leaves(case.expected.updates)
    moved = any(np.any(np.asarray(leaf)) for leaf in leaves_of_updates)
    assert moved, "all updates of three ordinary gradients are zero"
    again = run(case.tx, case.params, case.stream)
    _compare.assert_same_bits(again, case.expected, "a second run")


def _walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yields every Python node with its path, also those without arrays."""
    if node is None or isinstance(node, optax.MaskedNode):
        return
    yield path, node
    if _is_named(node):
        for name in node._fields:
            yield from _walk(getattr(node, name), f"{path}.{name}")
    elif isinstance(node, (tuple, list)):
        for i, child in enumerate(node):
            yield from _walk(child, f"{path}[{i}]")
    elif isinstance(node, dict):
        for key, child in node.items():
            yield from _walk(child, f"{path}[{key!r}]")


def _is_named(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields")


def _assert_importable(kind: type, path: str) -> None:
    found: Any = importlib.import_module(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    assert found is kind, (
        f"state{path} has type {kind.__qualname__}, which pickle cannot import from "
        f"{kind.__module__}"
    )


def _buffers(name: str, tree: Tree) -> Iterator[tuple[str, int]]:
    for path, leaf in leaves(tree):
        if isinstance(leaf, jax.Array):
            yield f"{name}{path}", leaf.unsafe_buffer_pointer()


RULES = (
    rule(
        state_is_plain,
        "promise",
        (10, 16),
        "Make the state a NamedTuple defined at module level, numbers arrays with an "
        "explicit dtype, and flags integers.",
    ),
    rule(
        state_vocabulary,
        "polish",
        (10,),
        "Use optax's field names, and put the paper's symbol in a comment.",
    ),
    rule(
        buffers_are_fresh,
        "promise",
        (14,),
        "Create every leaf with its own jnp.zeros_like, and copy params with "
        "jax.tree.map(jnp.copy, params).",
    ),
    rule(
        state_types_are_stable,
        "promise",
        (12, 15, 20),
        "Cast every new leaf to the dtype of the old one, and create scalars with "
        "jnp.asarray(x, dtype), which are not weakly typed.",
    ),
    rule(
        state_is_resettable,
        "numerics",
        (17,),
        "Guard divisions by leaves of the state that a reset may set to zero.",
    ),
    rule(
        init_is_abstract,
        "promise",
        (9, 12, 13),
        "Use jax.tree.map(jnp.zeros_like, params), and read shapes and dtypes only.",
    ),
    rule(
        params_are_found_in_state,
        "promise",
        (12, 13),
        "Create param-shaped leaves with one jax.tree.map over params; do not flatten "
        "and rebuild the tree.",
    ),
    rule(
        trajectory_is_finite,
        "promise",
        (47,),
        "Run three steps by hand and find the first NaN or zero update.",
    ),
)
