"""Updates with extra arguments, and transformations that bind, drop or select them."""

from functools import partial
from typing import Any

import jax
import optax

from optimizers.testing import _inputs
from optimizers.testing._inputs import ExtraArgs, Tree

# If an update rejects the extra arguments of other optimizers: what to pass instead.
_SMALLER_EXTRAS = (("value", "grad", "value_fn"), ())


def update(tx: Any, grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
    """Calls `tx.update` with every extra argument."""
    return tx.update(grads, state, params, **_inputs.extra_args(grads, params))


def abstract_steps(tx: Any, params: Tree, grads: Tree) -> tuple[Tree, Tree, Tree]:
    """Returns the state, next state and updates as shapes and dtypes, without running.

    The transformation is traced, as under jit.
    """
    state = jax.eval_shape(tx.init, params)
    updates, next_state = jax.eval_shape(partial(update, tx), grads, state, params)
    return state, next_state, updates


def accepted_extras(tx: Any, named: tuple[str, ...]) -> tuple[str, ...] | None:
    """Returns the extra arguments that an update accepts; None if it accepts all.

    Args:
        tx: The transformation.
        named: The arguments in the signature of its update.
    """
    params, grads = _inputs.make_params(), _inputs.make_grads(0)
    for names in (None, named, *_SMALLER_EXTRAS):
        chosen = tx if names is None else select_extras(tx, names)
        try:
            abstract_steps(chosen, params, grads)
        except (Exception, SystemExit) as error:
            # Any other error is from inside the update, which accepted its arguments.
            in_update = isinstance(error, jax.errors.ConcretizationTypeError)
            if isinstance(error, TypeError) and not in_update:
                continue
        return names
    return None


def select_extras(
    tx: Any, names: tuple[str, ...] | None
) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` with only these extra arguments passed on; None passes all."""
    if names is None:
        return tx

    def select(updates: Tree, state: Tree, params: Tree = None, **extra: Any) -> Any:
        chosen = {name: extra[name] for name in names if name in extra}
        return tx.update(updates, state, params, **chosen)

    return optax.GradientTransformationExtraArgs(tx.init, select)


def bind_extras(
    tx: Any, make: ExtraArgs = _inputs.extra_args
) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` with its extra arguments computed from gradients and params."""

    def bound_update(
        updates: Tree, state: Tree, params: Tree = None, **extra_args: Any
    ) -> tuple[Tree, Tree]:
        own = make(updates, params)
        return tx.update(updates, state, params, **{**own, **extra_args})

    return optax.GradientTransformationExtraArgs(tx.init, bound_update)


def drop_extras(tx: Any) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` without its extra arguments, for wrappers that reject them."""

    def bare_update(
        updates: Tree, state: Tree, params: Tree = None, **extra_args: Any
    ) -> tuple[Tree, Tree]:
        del extra_args
        return tx.update(updates, state, params)

    return optax.GradientTransformationExtraArgs(tx.init, bare_update)
