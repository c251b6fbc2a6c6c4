"""How a transformation is called: signature, extra arguments, purity."""

import inspect
import sys
from typing import Any

import jax
import numpy as np
import optax

from optimizers.testing import _compare, _data
from optimizers.testing._case import Case, run, update
from optimizers.testing._rule import applies_if, rule

_EXTRA_NAMES = ("value", "grad", "value_fn", "grad_fn", "aux_grads")
_FOREIGN_NAMES = {
    "lr": "learning_rate",
    "betas": "b1, b2",
    "beta1": "b1",
    "beta2": "b2",
    "beta3": "b3",
    "epsilon": "eps",
}
_LINK_ARGUMENTS = {"learning_rate", "weight_decay", "weight_decay_mask", "mask"}


def returns_transformation(case: Case) -> None:
    """The factory returns an optax.GradientTransformationExtraArgs."""
    kind = type(case.tx).__name__
    assert isinstance(case.tx, optax.GradientTransformationExtraArgs), (
        f"{case.name} returned a {kind}, expected GradientTransformationExtraArgs"
    )
    parameters = list(inspect.signature(case.tx.update).parameters.values())
    assert len(parameters) >= 3, f"update takes {len(parameters)} arguments, needs 3"
    assert parameters[2].default is None, (
        f"params of update defaults to {parameters[2].default!r}, expected None"
    )


def explicit_signature(case: Case) -> None:
    """Arguments are spelled out with optax's names, learning_rate first."""
    for name, parameter in case.parameters.items():
        assert parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        ), f"{case.base_name} takes *{name}; spell its arguments out"
        assert name not in _FOREIGN_NAMES, (
            f"{case.base_name} calls an argument {name!r}; optax says "
            f"{_FOREIGN_NAMES[name]!r}"
        )
    if case.takes_rate:
        first = next(iter(case.parameters))
        assert first == "learning_rate", (
            f"the first argument of {case.base_name} is {first!r}, not 'learning_rate'"
        )


def ignores_unknown_extra_args(case: Case) -> None:
    """Unknown extra keywords of update change nothing."""
    grads, state = case.stream[0], case.tx.init(case.params)
    extras = _data.extra_args(grads, case.params)
    with_unknown = case.tx.update(
        grads, state, case.params, an_unknown_argument=object(), **extras
    )
    expected = update(case.tx, grads, state, case.params)
    _compare.assert_same_bits(with_unknown, expected, "with an unknown extra argument")


def names_missing_extra_args(case: Case) -> None:
    """An update that needs an extra argument says which."""
    state = case.tx.init(case.params)
    try:
        case.tx.update(case.stream[0], state, case.params)
    except (TypeError, ValueError) as error:
        _compare.assert_says(error, *_EXTRA_NAMES)


def names_missing_params(case: Case) -> None:
    """Update does without params, or says 'params' in a ValueError."""
    grads, state = case.stream[0], case.tx.init(case.params)
    extras = _data.extra_args(grads, case.params)
    try:
        without = case.tx.update(grads, state, **extras)
    except ValueError as error:
        _compare.assert_says(error, "params")
        return
    expected = update(case.tx, grads, state, case.params)
    _compare.assert_same_bits(without, expected, "without params")


def has_right_sign(case: Case) -> None:
    """Aliases and wrappers step downhill, primitives and prefixes uphill."""
    updates, _ = case.expected
    inner = 0.0
    pairs = zip(
        jax.tree.leaves(updates[0]), jax.tree.leaves(case.stream[0]), strict=True
    )
    for u, g in pairs:
        inner += float(np.sum(np.asarray(u, np.float64) * np.asarray(g, np.float64)))
    where = "downhill" if case.descends else "uphill"
    right = inner < 0 if case.descends else inner > 0
    assert right, f"⟨update, gradient⟩ is {inner:.3g}, so the first step is not {where}"


def is_pure(case: Case) -> None:
    """Equal inputs give equal bits, whatever was called before."""
    params, (first, second, _) = case.params, case.stream
    state = case.tx.init(params)
    _compare.assert_same_bits(case.tx.init(params), state, "a second init")
    expected = update(case.tx, first, state, params)
    update(case.tx, second, expected[1], params)
    again = update(case.tx, first, state, params)
    _compare.assert_same_bits(again, expected, "a repeated update")
    other = case.make()
    fresh = update(other, first, other.init(params), params)
    _compare.assert_same_bits(fresh, expected, "the update of a second instance")


def leaves_inputs_untouched(case: Case) -> None:
    """Containers and NumPy arrays that come in keep their contents."""
    params = jax.tree.map(np.array, case.params)
    grads = jax.tree.map(np.array, case.stream[0])
    kept = jax.tree.map(np.array, (params, grads))
    state = case.tx.init(params)
    old_state = jax.tree.map(lambda leaf: leaf, state)
    update(case.tx, grads, state, params)
    _compare.assert_same_bits(
        (params, grads), kept, "params and gradients after update"
    )
    _compare.assert_same_bits(state, old_state, "the old state after update")


def is_hashable(case: Case) -> None:
    """The transformation is hashable: frameworks keep it as a static field."""
    assert {case.tx: "tx"}[case.tx] == "tx", "the transformation is not its own key"


def alias_is_chain(case: Case) -> None:
    """Alias x is chain(scale_by_x, decay, rate) with the same defaults."""
    applies_if(case.takes_rate and case.descends, "not an alias")
    primitive = _find_primitive(case)
    applies_if(primitive is not None, f"no scale_by_{case.base_name} beside it")
    own = inspect.signature(primitive).parameters
    for name, parameter in own.items():
        if name in case.parameters:
            alias_default = case.parameters[name].default
            assert parameter.default == alias_default, (
                f"{name} defaults to {alias_default!r} in {case.base_name} and to "
                f"{parameter.default!r} in {primitive.__name__}"
            )
    applies_if(
        "learning_rate" not in own,
        f"{primitive.__name__} takes the learning rate itself",
    )
    chained = _chain(case, primitive, set(own))
    updates, _ = run(chained, case.params, case.stream)
    _compare.assert_close(
        updates, case.expected[0], "the chain, against the alias", 1e-6
    )


def _chain(case: Case, primitive: Any, own: set[str]) -> Any:
    kwargs = {k: v for k, v in case.kwargs.items() if k not in _LINK_ARGUMENTS}
    missing = set(kwargs) - own
    assert not missing, f"{primitive.__name__} has no argument {sorted(missing)}"
    links = [primitive(**kwargs)]
    decay = case.kwargs.get("weight_decay", _default(case, "weight_decay"))
    if decay is not None:
        mask = case.kwargs.get("weight_decay_mask", case.kwargs.get("mask"))
        links.append(optax.add_decayed_weights(decay, mask))
    return optax.chain(*links, optax.scale_by_learning_rate(case.rate))


def _default(case: Case, name: str) -> Any:
    parameter = case.parameters.get(name)
    return None if parameter is None else parameter.default


def _find_primitive(case: Case) -> Any:
    """Returns scale_by_x from the alias's module or its package, if there is one."""
    name = case.base_name
    function = getattr(case.factory, "func", case.factory)
    module = getattr(function, "__module__", "")
    for place in (module, module.partition(".")[0]):
        for stem in (name, name.removesuffix("w")):
            found = getattr(sys.modules.get(place), f"scale_by_{stem}", None)
            if found is not None:
                return found
    return None


def forwards_extra_args(case: Case) -> None:
    """A wrapper forwards extra arguments to those who take them."""
    applies_if(case.is_wrapper, "not a wrapper")
    seen: set[str] = set()

    def recording_update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, Any]:
        seen.update(extra_args)
        return jax.tree.map(lambda g: -0.1 * g, updates), state

    init = optax.identity().init
    recorder = optax.GradientTransformationExtraArgs(init, recording_update)
    run(case.factory(recorder, **case.kwargs), case.params, case.stream[:1])
    assert "value" in seen, f"the inner optimizer got only {sorted(seen)}"

    def plain_update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return recording_update(updates, state, params)

    plain = optax.GradientTransformation(init, plain_update)
    run(case.factory(plain, **case.kwargs), case.params, case.stream[:1])


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
        has_right_sign,
        (5,),
        "Flip the sign once, in the last link of the alias "
        "(optax.scale_by_learning_rate); never in the primitive.",
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
    rule(
        alias_is_chain,
        (8, 40),
        "Build the alias as a chain of the primitive and optax's links, and write the "
        "same defaults in both.",
    ),
    rule(
        forwards_extra_args,
        (3,),
        "Start with optimizer = optax.with_extra_args_support(optimizer) and pass "
        "**extra_args on.",
    ),
)
