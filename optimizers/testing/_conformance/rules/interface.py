"""How a transformation is called: signature, extra arguments, purity."""

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

    optax.chain and every wrapper unpack exactly this, pass params as third and
    optax.MultiSteps passes it by name.
    """
    tx = case.call()
    kind = type(tx).__name__
    assert isinstance(tx, optax.GradientTransformationExtraArgs), (
        f"{case.name} returned a {kind}, expected GradientTransformationExtraArgs"
    )
    parameters = list(inspect.signature(tx.update).parameters.values())
    assert len(parameters) >= 3, f"update takes {len(parameters)} arguments, needs 3"
    # optax.MultiSteps passes it by this name.
    assert parameters[2].name == "params", (
        f"the third argument of update is {parameters[2].name!r}, expected 'params'"
    )
    assert parameters[2].default is None, (
        f"params of update defaults to {parameters[2].default!r}, expected None"
    )


def explicit_signature(case: Case) -> None:
    """Arguments are spelled out with optax's names, learning_rate first.

    optax.inject_hyperparams, schedules and readers find arguments by name.
    """
    for name, parameter in case.parameters.items():
        assert parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        ), f"{case.base_name} takes *{name}; spell its arguments out"
        assert name not in _FOREIGN_NAMES, (
            f"{case.base_name} calls an argument {name!r}; optax says "
            f"{_FOREIGN_NAMES[name]!r}"
        )
    if "learning_rate" in case.parameters:
        # The optimizers that it wraps come first.
        names = list(case.parameters)[is_wrapper(case.factory) :]
        own = [name for name in names if "optimizer" not in name]
        assert own[0] == "learning_rate", (
            f"the first argument of {case.base_name} is {own[0]!r}, not 'learning_rate'"
        )


def ignores_unknown_extra_args(case: Case) -> None:
    """Unknown extra keywords of update change nothing.

    optax.chain hands every extra argument to every link; one that refuses `value=`
    breaks the line search beside it.
    """
    tx = case.build()
    # Others get none: optax.chain asks for the class.
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
    """An update that needs an extra argument says which when it is missing.

    An argument that is forgotten in silence trains another method than the one that
    was asked for.
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
            # Not to the bit: grad_fn may stand in for value_fn.
            what = f"an update without {', '.join(sorted(missing))}, in silence"
            _compare.assert_close(without, expected, what, rtol=1e-5, atol=1e-7)


def names_missing_params(case: Case) -> None:
    """Update does without params, or raises an error that says 'params'.

    An AttributeError from inside a link does not tell that params were left out.
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
    """Equal inputs give equal bits, whatever was called before.

    Under jit the Python code runs once, so whatever it remembers is frozen or
    leaks.
    """
    params, (first, second, _) = case.params, case.stream
    # Without jit, which would run the Python code only once.
    tx = case.make_eager()
    state = tx.init(params)
    _compare.assert_same_bits(tx.init(params), state, "a second init")
    expected = update(tx, first, state, params)
    update(tx, second, expected[1], params)
    # Of another model, as if in another thread.
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
    """Containers and NumPy arrays that come in keep their contents.

    Callers use gradients and states again: for logs, for checkpoints, for a second
    try.
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
    _compare.assert_same_bits(given, kept, "what came in, after update")
    _compare.assert_same_bits(state, old_state, "the old state after update")


def _to_numpy(leaf: Any) -> Any:
    """An array that may be written to; what is no array, or a key, as it is."""
    is_array = isinstance(leaf, (jax.Array, np.ndarray))
    if is_array and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.array(leaf)
    return leaf


def is_hashable(case: Case) -> None:
    """The transformation is hashable: frameworks keep it as a static field.

    flax's TrainState keeps the transformation as a static field, and jit hashes
    those.
    """
    tx = case.call()
    assert {tx: "tx"}[tx] == "tx", "the transformation is not its own key"


RULES = (
    rule(
        returns_transformation,
        (1, 4),
        "Return optax.GradientTransformationExtraArgs(init, update) with "
        "update(updates, state, params=None, **extra_args).",
    ),
    rule(
        explicit_signature,
        (6,),
        "Name every argument, learning_rate first, with optax's names.",
    ),
    rule(
        ignores_unknown_extra_args,
        (2,),
        "Give update a **extra_args and ignore what is not needed.",
    ),
    rule(
        names_missing_extra_args,
        (2,),
        "Make needed extra arguments keyword-only, without a default, or raise a "
        "ValueError that names them.",
    ),
    rule(
        names_missing_params,
        (4,),
        "Where params are needed check `params is None` first; ignore them elsewhere.",
    ),
    rule(
        is_pure,
        (7,),
        "Keep everything that changes in the state; close over constants only.",
    ),
    rule(
        leaves_inputs_untouched,
        (7,),
        "Build new containers and arrays; never assign into what came in.",
    ),
    rule(
        is_hashable,
        (7,),
        "Return the NamedTuple of two functions, not an object with its own __eq__.",
    ),
)
