"""Trees of params: all containers work, and trees that do not match are rejected."""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers.testing import _compare, _inputs
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import applies_if, rule
from optimizers.testing._conformance.run import Run, run
from optimizers.testing._extras import bind_extras, update
from optimizers.testing._inputs import Tree
from optimizers.testing._jit import quick_jit


class _Pair(NamedTuple):
    bias: Any
    kernel: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Layer:
    bias: Any
    kernel: Any

    def __call__(self, x: Any) -> Any:
        return x @ self.kernel + self.bias


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Converting:
    """Makes its fields arrays, as converters do."""

    bias: Any
    kernel: Any

    def __post_init__(self) -> None:
        self.bias, self.kernel = jnp.asarray(self.bias), jnp.asarray(self.kernel)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Checking:
    """Accepts only arrays of the shapes that it declares."""

    bias: Any
    kernel: Any

    def __post_init__(self) -> None:
        for name, shape in _inputs.SHAPES["layer"].items():
            value = getattr(self, name)
            if not hasattr(value, "dtype") or value.shape != shape:
                msg = f"{name} must be an array of shape {shape}, got {value!r}"
                raise TypeError(msg)


def _leaves_of(tree: Tree) -> tuple[Any, Any]:
    return tree["layer"]["bias"], tree["layer"]["kernel"]


def _nested(kind: Any, tree: Tree) -> Tree:
    """Nests a tree in containers of lengths 1 to 6."""
    for length in range(1, 7):
        tree = kind([tree, *[kind()] * (length - 1)])
    return tree


def any_container_works(case: Case) -> None:
    """Params may be in any container; updates come in the same one, with equal values.

    Params may be in dicts, tuples, NamedTuples, FrozenDicts or callable modules.
    """
    containers = {
        # Optimizers may mistake a tuple of three, or a list, for results of a leaf.
        "nest of tuples and lists": lambda bias, kernel: (
            _nested(tuple, bias),
            _nested(list, kernel),
        ),
        "NamedTuple": _Pair,
        "OrderedDict": lambda bias, kernel: collections.OrderedDict(b=bias, k=kernel),
        "callable dataclass": _Layer,
    }
    for kind, build in containers.items():
        params = build(*_leaves_of(case.params))
        stream = [build(*_leaves_of(grads)) for grads in case.stream[:2]]
        expected = [build(*_leaves_of(u)) for u in case.expected[0][:2]]
        updates, _ = run(case.tx, params, stream)
        _compare.assert_close(updates, expected, f"in a {kind}", rtol=1e-6)


def containers_may_check_their_leaves(case: Case) -> None:
    """Params may be in classes that convert or check their fields, with any mask.

    jax.tree.map rebuilds such a class with its results: scalars, tuples or booleans are
    refused, or converted to arrays.
    """
    for what, changes in _decays(case):
        tx = case.make(**changes)
        stream = case.stream[:1] if changes else case.stream[:2]
        expected = run(tx, case.params, stream).updates
        has_function = any(map(callable, changes.values()))
        # A user's own jax.tree.map cannot put booleans into fields that are checked.
        for kind in (_Converting,) if has_function else (_Converting, _Checking):
            params, *grads = (kind(*_leaves_of(x)) for x in (case.params, *stream))
            where = f"in the class {kind.__name__}{what}"
            try:
                updates, state = run(tx, params, grads)
                # Under jit, converted booleans are tracers.
                jax.make_jaxpr(partial(update, tx))(grads[0], state, params)
            except Exception as error:
                msg = f"an update {where} raised {type(error).__name__}: {error}"
                raise AssertionError(msg) from error
            wanted = [kind(*_leaves_of(u)) for u in expected]
            _compare.assert_close(updates, wanted, where, rtol=1e-6)


def _matrices(params: Tree) -> Tree:
    return jax.tree.map(lambda x: jnp.ndim(x) > 1, params)


def _decays(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields arguments without and with weight decay and masks, and what they are."""
    yield "", {}
    if "weight_decay" not in case.parameters:
        return
    yield " with weight_decay", {"weight_decay": 0.5}
    for name in ("weight_decay_mask", "mask"):
        if name in case.parameters:
            for kind, mask in (("function", _matrices), ("boolean", True)):
                changes = {"weight_decay": 0.5, name: mask}
                yield f" with weight_decay and a {kind} as {name}", changes


def none_is_an_empty_subtree(case: Case) -> None:
    """None in params and gradients stays None and does not change other updates.

    Filtered models have None in place of leaves that are not trained.
    """
    _assert_ignored(case, None)


def _activation(x: Any) -> Any:
    return x


# What the params hold where the gradients have None.
_REST = {"activation": _activation, "frozen": np.ones(2, np.float32), "name": "mlp"}


def params_without_gradients_are_not_read(case: Case) -> None:
    """Where gradients and state have None, params may hold anything.

    Modules of Equinox have functions and strings among their leaves, and frozen arrays;
    many training loops pass the whole module to update.
    """
    whole = {**case.params, **_REST}
    for what, changes in _decays(case):
        stream = case.stream[:1] if changes else case.stream[:2]
        expected = run(case.make(**changes), case.params, stream).updates
        tx = bind_extras(case.call(**changes), partial(_extras_of_whole, case))

        def step(grads: Tree, state: Tree, tx: Any = tx) -> tuple[Tree, Tree]:
            return tx.update(grads, state, whole)

        step = quick_jit(step) if case.has_control_flow else step
        where = f"with functions and strings in the params{what}"
        try:
            updates, state = [], tx.init(_trained(whole))
            for grads in map(_trained, stream):
                new, state = step(grads, state)
                updates.append(new)
        except Exception as error:
            msg = f"an update {where} raised {type(error).__name__}: {error}"
            raise AssertionError(msg) from error
        _compare.assert_close(updates, list(map(_trained, expected)), where, rtol=1e-6)


def _trained(tree: Tree) -> Tree:
    """Returns the params or gradients with None in place of the rest."""
    return {**tree, **dict.fromkeys(_REST)}


def _extras_of_whole(case: Case, grads: Tree, params: Tree) -> dict[str, Any]:
    """Returns the extra arguments for params whose losses need the rest, too."""

    def needs_rest(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(params: Tree, *rest: Any) -> Any:
            if params["activation"] is not _activation:
                msg = "the loss was called without the functions in the params"
                raise TypeError(msg)
            return function(_trained(params), *rest)

        return call

    accepted = {
        name: needs_rest(extra) if callable(extra) else extra
        for name, extra in _inputs.extra_args(grads, _trained(params)).items()
        if case.extras is None or name in case.extras
    }
    return accepted | case.own_extras(grads, _trained(params))


def masked_node_is_an_empty_subtree(case: Case) -> None:
    """optax.MaskedNode() in the trees stays and does not change other updates.

    optax.masked and optax.partition put it in place of leaves of other optimizers.
    """
    applies_if(not case.needs_whole_trees, str(case.needs_whole_trees))
    _assert_ignored(case, optax.MaskedNode())


def _assert_ignored(case: Case, nothing: Any) -> None:
    around = lambda tree: {"a": nothing, **tree, "z": [nothing]}  # noqa: E731
    stream = [around(grads) for grads in case.stream]
    updates, state = run(case.tx, around(case.params), stream)
    expected = [around(u) for u in case.expected[0]]
    what = f"with {type(nothing).__name__} beside the leaves"
    _compare.assert_close(updates, expected, what, rtol=1e-6)
    before = case.tx.init(around(case.params))
    _compare.assert_same_dtypes(state, before, f"state {what}")


def empty_trees_work(case: Case) -> None:
    """A tree without leaves gives updates without leaves.

    A group of a partition may have no params.
    """
    empty: list[Tree] = [{}, (), {"a": None}]
    if not case.needs_whole_trees:
        empty.append({"a": optax.MaskedNode()})
    for nothing in empty:
        updates, state = run(case.tx, nothing, [nothing, nothing])
        _compare.assert_same_structure(updates[1], nothing, f"updates of {nothing!r}")
        case.assert_finite(Run([], state), f"state of {nothing!r}")


def small_leaves_work(case: Case) -> None:
    """Bare arrays, scalars and leaves of size zero work.

    They occur as toy problems, temperatures and pruned layers.
    """
    for shapes in ((3,), (), {"a": (0,), "b": (2, 0), "c": (3,)}):
        params = _inputs.make_params("float32", shapes)
        stream = _inputs.make_stream(2, "float32", shapes)
        result = case.run_jitted(params, stream)
        updates = result.updates[1]
        _compare.assert_same_dtypes(updates, params, f"updates of shapes {shapes}")
        case.assert_finite(result, f"shapes {shapes}")


def python_and_numpy_leaves_work(case: Case) -> None:
    """NumPy arrays and Python floats give the same updates as JAX arrays.

    optax's documentation uses params such as {'a': 1.0}.
    """
    to_numpy = lambda tree: jax.tree.map(np.asarray, tree)  # noqa: E731
    stream = [to_numpy(grads) for grads in case.stream[:2]]
    tx = case.make_eager()
    updates, _ = run(tx, to_numpy(case.params), stream)
    _compare.assert_agree(updates, case.expected[0][:2], "NumPy leaves")
    got, state = run(tx, {"a": 1.0}, [{"a": 0.5}, {"a": -0.25}])
    arrays = [{"a": jnp.float32(g)} for g in (0.5, -0.25)]
    expected, _ = run(tx, {"a": jnp.float32(1.0)}, arrays)
    _compare.assert_close(got, expected, "Python floats", rtol=1e-6)
    for path, leaf in _compare.leaves(state):
        assert isinstance(leaf, jax.Array), (
            f"state{path} has type {type(leaf).__name__} for Python floats, expected a "
            "jax.Array"
        )


def masked_integers_work(case: Case) -> None:
    """Under optax.masked, integer leaves with float0 gradients stay unchanged.

    Models have counters and tables without gradients. A wrapper receives them if the
    optimizer inside is masked.
    """
    mask = {"steps": False, "w": True}
    txs = {}
    if not case.needs_whole_trees:
        txs["under optax.masked"] = optax.masked(bind_extras(case.tx), mask)
    elif not case.descends:  # it is not masked, so it must pass them on
        txs["in a chain"] = bind_extras(case.tx)
    if case.is_wrapper:
        wrapped = optax.masked(case.descent(), mask)
        tx = case.make_around(case.wrap(wrapped))
        txs["around optax.masked"] = bind_extras(tx)
    applies_if(bool(txs), str(case.needs_whole_trees))
    params: Tree = {"steps": jnp.arange(3), "w": case.params}
    grads: Tree = {"steps": np.zeros(3, jax.dtypes.float0), "w": case.stream[0]}
    expected: Tree = {"steps": grads["steps"], "w": case.expected[0][0]}
    for where, tx in txs.items():
        what = f"beside an integer leaf, {where}"
        try:
            updates, _ = tx.update(grads, tx.init(params), params)
        except Exception as error:
            msg = f"an update {what} raised {type(error).__name__}: {error}"
            raise AssertionError(msg) from error
        _compare.assert_same_dtypes(updates, expected, what)
        if not case.is_random:  # as many draws as leaves
            _compare.assert_close(updates["w"], expected["w"], what, rtol=1e-6)


def other_structure_is_refused(case: Case) -> None:
    """Gradients of another structure raise a ValueError.

    Gradients of another model must not train this one, and an error from deep inside
    does not show the cause.
    """
    _require_param_state(case)
    state = case.tx.init(case.params)
    bias, kernel = _leaves_of(case.stream[0])
    others = {
        "a missing leaf": {"layer": {"kernel": kernel}},
        "another name": {"layer": {"bias": bias, "weight": kernel}},
        "another container": {"layer": (bias, kernel)},
        "one more leaf": {"layer": {"bias": bias, "kernel": kernel, "scale": bias}},
        "None for a leaf": {"layer": {"bias": None, "kernel": kernel}},
    }
    for what, grads in others.items():
        _assert_refused(case, grads, state, f"gradients with {what}", "")


def other_shape_is_refused(case: Case) -> None:
    """Gradients of another shape raise a ValueError that names the leaf.

    A gradient that broadcasts silently trains wrongly, and an error from deep inside
    does not name the leaf.
    """
    _require_param_state(case)
    state = case.tx.init(case.params)
    bias, kernel = _leaves_of(case.stream[0])
    others = {
        "kernel": {"layer": {"bias": bias, "kernel": kernel[:1]}},
        "bias": {"layer": {"bias": bias[:1], "kernel": kernel}},
    }
    for leaf, grads in others.items():
        _assert_refused(case, grads, state, f"a broadcastable {leaf}", leaf)
    scalar = {"layer": {"bias": bias[0], "kernel": kernel}}
    _assert_refused(case, scalar, state, "a scalar bias", "bias")
    wide = {"layer": {"bias": jnp.ones((2, 3)), "kernel": kernel}}
    _assert_refused(case, wide, state, "a bias with one more axis", "bias")
    row = {"layer": {"bias": bias[None], "kernel": kernel}}
    _assert_refused(case, row, state, "a bias of shape (1, 3)", "bias")
    turned = {"layer": {"bias": bias, "kernel": kernel.T}}
    _assert_refused(case, turned, state, "a transposed kernel", "kernel")
    longer = {"layer": {"bias": jnp.ones((5,)), "kernel": kernel}}
    _assert_refused(case, longer, state, "a longer bias", "bias")


def checks_aux_grads(case: Case) -> None:
    """Auxiliary gradients of another structure or shape raise a ValueError.

    Broadcasting would hide this mistake of the caller.
    """
    applies_if(case.needs("aux_grads"), "does not need aux_grads")
    state = case.tx.init(case.params)
    bias, kernel = _leaves_of(case.stream[0])
    others = {
        "a missing leaf": {"layer": {"kernel": kernel}},
        "another name": {"layer": {"bias": bias, "weight": kernel}},
        "a broadcastable kernel": {"layer": {"bias": bias, "kernel": kernel[:1]}},
    }
    extras = _inputs.extra_args(case.stream[0], case.params)
    for what, aux_grads in others.items():
        given = {**extras, "aux_grads": aux_grads}
        try:
            case.tx.update(case.stream[0], state, case.params, **given)
        except ValueError as error:
            _compare.assert_mentions(error, "aux_grads")
        except Exception as error:
            msg = f"aux_grads with {what} raised {type(error).__name__}: {error}"
            raise AssertionError(msg) from error
        else:
            msg = f"aux_grads with {what} raised no error, expected ValueError"
            raise AssertionError(msg)


def _require_param_state(case: Case) -> None:
    shapes = {leaf.shape for leaf in jax.tree.leaves(case.params)}
    kept = {leaf.shape for leaf in jax.tree.leaves(case.tx.init(case.params))}
    applies_if(bool(shapes & kept), "its state has no leaf with the shape of a param")


def _assert_refused(
    case: Case, grads: Tree, state: Tree, what: str, mention: str
) -> None:
    try:
        update(case.tx, grads, state, case.params)
    except ValueError as error:
        _compare.assert_mentions(error, mention)
    except Exception as error:
        msg = f"{what} raised {type(error).__name__}, expected ValueError: {error}"
        raise AssertionError(msg) from error
    else:
        msg = f"{what} raised no error, expected ValueError"
        raise AssertionError(msg)


RULES = (
    rule(
        any_container_works,
        "promise",
        (29,),
        "Use jax.tree.map. Do not index params, test whether the tree is callable, or "
        "treat every tuple of three as the results of a leaf.",
    ),
    rule(
        containers_may_check_their_leaves,
        "polish",
        (29,),
        "Put only arrays of the shapes of the params into their containers, and all "
        "else into lists of leaves. Do not use optax.masked, which puts MaskedNode "
        "into them.",
    ),
    rule(
        none_is_an_empty_subtree,
        "promise",
        (30,),
        "Use plain jax.tree.map without is_leaf=lambda x: x is None.",
    ),
    rule(
        params_without_gradients_are_not_read,
        "polish",
        (30,),
        "Map over the gradients first, with is_leaf=lambda x: x is None, and skip "
        "every None.",
    ),
    rule(
        masked_node_is_an_empty_subtree,
        "promise",
        (31,),
        "Do not combine leaves of different trees by position.",
    ),
    rule(
        empty_trees_work,
        "promise",
        (32,),
        "Start global sums from jnp.zeros([], dtype) and guard the quotient.",
    ),
    rule(
        small_leaves_work,
        "promise",
        (33,),
        "Do not assume an axis, and do not take max or argmax of a leaf that may be "
        "empty.",
    ),
    rule(
        python_and_numpy_leaves_work,
        "polish",
        (33,),
        "Convert each leaf with jnp.asarray first.",
    ),
    rule(
        masked_integers_work,
        "promise",
        (34,),
        "Use plain jax.tree.map, which skips masked leaves. A wrapper should pass "
        "float0 leaves on unchanged.",
    ),
    rule(
        other_structure_is_refused,
        "polish",
        (35,),
        "Use jax.tree.map(f, gradients, state), gradients first: it raises a "
        "ValueError if the structures differ.",
    ),
    rule(
        other_shape_is_refused,
        "polish",
        (35,),
        "At the start of update, compare gradient.shape with the leaf in the state, "
        "and raise a ValueError with jax.tree_util.keystr of the path.",
    ),
    rule(
        checks_aux_grads,
        "polish",
        (2, 35),
        "At the start of update, compare the structure and shapes of aux_grads with "
        "those of the gradients, and name aux_grads in the ValueError.",
    ),
)
