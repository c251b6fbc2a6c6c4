"""The interface of a transformation: signature, extra arguments, purity."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers.testing import _compare, _inputs
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.rule import applies_if, rule
from optimizers.testing._extras import update
from optimizers.testing._factory import is_wrapper
from optimizers.testing._inputs import Tree

_FOREIGN_NAMES = {
    "lr": "learning_rate",
    "betas": "b1, b2",
    "beta1": "b1",
    "beta_1": "b1",
    "beta_2": "b2",
    "beta2": "b2",
    "beta3": "b3",
    "epsilon": "eps",
}


def returns_transformation(case: Case) -> None:
    """The factory returns an optax.GradientTransformationExtraArgs.

    optax.chain and wrappers expect this type. They pass params as the third argument,
    and optax.MultiSteps passes them by name.
    """
    tx = case.call()
    kind = type(tx).__name__
    assert isinstance(tx, optax.GradientTransformationExtraArgs), (
        f"{case.name} returned a {kind}, expected a GradientTransformationExtraArgs"
    )
    parameters = list(inspect.signature(tx.update).parameters.values())
    assert len(parameters) >= 3, (
        f"update has {len(parameters)} arguments, expected updates, state and params"
    )
    # optax.MultiSteps passes it by this name.
    assert parameters[2].name == "params", (
        f"the third argument of update is {parameters[2].name!r}, expected 'params'"
    )
    assert parameters[2].default is None, (
        f"params of update defaults to {parameters[2].default!r}, expected None"
    )


def explicit_signature(case: Case) -> None:
    """Arguments are explicit and have optax's names, and learning_rate is first.

    optax.inject_hyperparams and readers find arguments by name.
    """
    for name, parameter in case.parameters.items():
        assert parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        ), f"{case.base_name} has an argument *{name}, expected explicit arguments"
        assert name not in _FOREIGN_NAMES, (
            f"{case.base_name} has an argument {name!r}; optax calls it "
            f"{_FOREIGN_NAMES[name]!r}"
        )
    if "learning_rate" in case.parameters:
        # The optimizers that it wraps come first.
        names = list(case.parameters)[is_wrapper(case.factory) :]
        own = [name for name in names if "optimizer" not in name]
        assert own[0] == "learning_rate", (
            f"the first argument of {case.base_name} is {own[0]!r}, expected "
            "'learning_rate'"
        )


def ignores_unknown_extra_args(case: Case) -> None:
    """Update ignores extra arguments that it does not know.

    optax.chain passes every extra argument to every transformation; one that rejects
    `value` breaks a line search in the same chain.
    """
    tx = case.build()
    # optax.chain checks the class and passes none to others.
    takes_extras = isinstance(tx, optax.GradientTransformationExtraArgs)
    applies_if(takes_extras, "is a plain GradientTransformation")
    grads, state = case.stream[0], tx.init(case.params)
    extras = _inputs.extra_args(grads, case.params)
    with_unknown = tx.update(
        grads, state, case.params, an_unknown_argument=object(), **extras
    )
    expected = update(tx, grads, state, case.params)
    _compare.assert_same_bits(with_unknown, expected, "with an unknown extra argument")


def names_missing_extra_args(case: Case) -> None:
    """An update without a required extra argument raises an error that names it.

    Without an error, a forgotten argument silently trains with another method.
    """
    grads, state = case.stream[0], case.tx.init(case.params)
    own = case.own_extras(grads, case.params)
    extras = {**_inputs.extra_args(grads, case.params), **own}
    tx = case.make_around(case.call())
    expected = update(case.tx, grads, state, case.params)
    left_out = [*({name} for name in extras), set(extras)]
    program = str(case.program)
    for missing in left_out:
        may_be_left_out = case.program is not None and not missing & own.keys()
        if may_be_left_out and program == str(case.program_without(missing)):
            continue  # the update does not read it
        rest = {name: extras[name] for name in extras.keys() - missing}
        try:
            without = tx.update(grads, state, case.params, **rest)
        except (TypeError, ValueError) as error:
            _compare.assert_mentions(error, *missing)
        else:
            # Not to the bit: grad_fn may replace value_fn.
            what = (
                f"an update without {', '.join(sorted(missing))} and without an error"
            )
            _compare.assert_close(without, expected, what, rtol=1e-5, atol=1e-7)


def names_missing_params(case: Case) -> None:
    """Update works without params, or raises an error that mentions 'params'.

    An AttributeError from deep inside does not show that params are missing.
    """
    txs = {"without params": case.tx}
    if "weight_decay" in case.parameters:
        txs["without params, with weight_decay=0.1"] = case.make(weight_decay=0.1)
    grads = case.stream[0]
    extras = _inputs.extra_args(grads, case.params)
    for what, tx in txs.items():
        state = tx.init(case.params)
        try:
            without = tx.update(grads, state, **extras)
        except (TypeError, ValueError) as error:
            _compare.assert_mentions(error, "params")
        else:
            expected = update(tx, grads, state, case.params)
            _compare.assert_same_bits(without, expected, what)


def is_pure(case: Case) -> None:
    """Equal inputs give bitwise equal results, independent of previous calls.

    Under jit the Python code runs only once, so values that it stores are constants or
    leaked tracers.
    """
    params, (first, second, _) = case.params, case.stream
    # Without jit, so that the Python code runs every time.
    tx = case.make_eager()
    state = tx.init(params)
    _compare.assert_same_bits(tx.init(params), state, "a second init")
    expected = update(tx, first, state, params)
    update(tx, second, expected[1], params)
    # Another model, as if in another thread.
    shapes = {"layer": {"bias": (4,), "kernel": (2, 4)}}
    of_another = _inputs.make_params("bfloat16", shapes)
    jax.eval_shape(tx.init, of_another)
    again = update(tx, first, state, params)
    _compare.assert_same_bits(again, expected, "a repeated update")
    other = case.make_eager()
    jax.eval_shape(other.init, of_another)
    fresh = update(other, first, other.init(params), params)
    _compare.assert_same_bits(fresh, expected, "the update of a second instance")


def leaves_inputs_untouched(case: Case) -> None:
    """Update does not modify its arguments, neither containers nor NumPy arrays.

    Callers reuse gradients and states for logs, checkpoints and retries.
    """
    params = jax.tree.map(np.array, case.params)
    grads = jax.tree.map(np.array, case.stream[0])
    given: dict[str, Tree] = {"params": params, "gradients": grads}
    extras = _inputs.extra_args(grads, params)
    own = case.own_extras(grads, params)
    for name, tree in {"aux_grads": extras["aux_grads"], **own}.items():
        extras[name] = jax.tree.map(_to_numpy, tree)
        leaves = jax.tree.leaves(extras[name])
        given[name] = [leaf for leaf in leaves if isinstance(leaf, np.ndarray)]
    kept = jax.tree.map(np.array, given)
    tx = case.make_eager()
    state = tx.init(params)
    old_state = jax.tree.map(lambda leaf: leaf, state)
    tx.update(grads, state, params, **extras)
    _compare.assert_same_bits(given, kept, "the arguments after update")
    _compare.assert_same_bits(state, old_state, "the old state after update")


def _to_numpy(leaf: Any) -> Any:
    """Returns arrays as writable copies, and other leaves and PRNG keys as they are."""
    is_array = isinstance(leaf, (jax.Array, np.ndarray))
    if is_array and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.array(leaf)
    return leaf


def is_hashable(case: Case) -> None:
    """The transformation is hashable.

    flax's TrainState holds the transformation as a static field, which jit hashes.
    """
    tx = case.call()
    assert {tx: "tx"}[tx] == "tx", (
        "the transformation is not equal to itself as a key of a dict"
    )


RULES = (
    rule(
        returns_transformation,
        "promise",
        (1, 4),
        "Return optax.GradientTransformationExtraArgs(init, update) with "
        "update(updates, state, params=None, **extra_args).",
    ),
    rule(
        explicit_signature,
        "polish",
        (6,),
        "Write out every argument with optax's name, learning_rate first.",
    ),
    rule(
        ignores_unknown_extra_args,
        "promise",
        (2,),
        "Add **extra_args to update and ignore them.",
    ),
    rule(
        names_missing_extra_args,
        "polish",
        (2,),
        "Make required extra arguments keyword-only without a default, or raise a "
        "ValueError that names them.",
    ),
    rule(
        names_missing_params,
        "polish",
        (4,),
        "If params are required, check `params is None` first; otherwise ignore them.",
    ),
    rule(
        is_pure,
        "promise",
        (7,),
        "Keep everything that changes in the state, and close over constants only.",
    ),
    rule(
        leaves_inputs_untouched,
        "promise",
        (7,),
        "Return new containers and arrays; never assign into arguments.",
    ),
    rule(
        is_hashable,
        "promise",
        (7,),
        "Return optax's NamedTuple of two functions, not an object with its own "
        "__eq__.",
    ),
)
