"""An optimizer under test: its factory, its arguments and how to run it."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optimizers.testing import _data
from optimizers.testing._data import Tree

_WRAPPED_ARGUMENTS = ("optimizer", "inner", "base_optimizer", "inner_optimizer")


@dataclass(frozen=True)
class Case:
    """A factory with its keyword arguments, and what the rules share about it.

    The signature decides how the factory is called. One with a parameter
    `learning_rate` gets the rate; one whose first parameter is `optimizer` (or
    `inner`, `base_optimizer`, `inner_optimizer`) is a wrapper and gets SGD at that
    rate; any other is a primitive and is called without a rate.

    Attributes:
        factory: Makes the transformation.
        kwargs: Keyword arguments of every call.
    """

    factory: Callable[..., Any]
    kwargs: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def base_name(self) -> str:
        """The factory's name, also through `functools.partial`."""
        function = getattr(self.factory, "func", self.factory)
        return getattr(function, "__name__", type(function).__name__)

    @cached_property
    def name(self) -> str:
        """The factory with its arguments, as a user would write it."""
        if not self.kwargs:
            return self.base_name
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.kwargs.items())
        return f"{self.base_name}({arguments})"

    @cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The factory's parameters by name."""
        return dict(inspect.signature(self.factory).parameters)

    @cached_property
    def takes_rate(self) -> bool:
        """Whether the factory has a parameter `learning_rate`."""
        return "learning_rate" in self.parameters

    @cached_property
    def is_wrapper(self) -> bool:
        """Whether the factory's first parameter is an optimizer."""
        return next(iter(self.parameters), "") in _WRAPPED_ARGUMENTS

    @cached_property
    def descends(self) -> bool:
        """Whether updates point downhill; those of primitives point uphill."""
        is_primitive = self.base_name.startswith("scale_by_")
        return (self.takes_rate or self.is_wrapper) and not is_primitive

    @cached_property
    def rate(self) -> float:
        """The learning rate of the rules: the factory's default, else 0.1."""
        parameter = self.parameters.get("learning_rate")
        if parameter is not None and isinstance(parameter.default, float):
            return parameter.default
        return 0.1

    def make(self, learning_rate: Any = None, **changes: Any) -> Any:
        """Returns a fresh transformation, with some arguments changed."""
        rate = self.rate if learning_rate is None else learning_rate
        kwargs = {**self.kwargs, **changes}
        if self.takes_rate:
            return self.factory(learning_rate=rate, **kwargs)
        if self.is_wrapper:
            return self.factory(_descent(rate), **kwargs)
        return self.factory(**kwargs)

    @cached_property
    def tx(self) -> optax.GradientTransformationExtraArgs:
        """The transformation, with default arguments and the case's rate."""
        return self.make()

    @cached_property
    def optimizer(self) -> optax.GradientTransformationExtraArgs:
        """The transformation as an optimizer that descends and needs no extras.

        For wrappers of optax, some of which drop extra arguments on the way.
        """
        return downhill(self, self.tx)

    @cached_property
    def params(self) -> Tree:
        """Two float32 leaves."""
        return _data.make_params()

    @cached_property
    def stream(self) -> list[Tree]:
        """Gradients of three steps for `params`."""
        return _data.make_stream(3)

    @cached_property
    def expected(self) -> tuple[list[Tree], Tree]:
        """Updates and last state over `stream`, without jit."""
        return run(self.tx, self.params, self.stream)


def _descent(rate: Any) -> optax.GradientTransformationExtraArgs:
    """Returns SGD that keeps the rules itself, which `optax.sgd(rate)` does not."""
    schedule: Any = rate if callable(rate) else optax.constant_schedule(rate)
    to_arrays = optax.stateless(lambda g, params: jax.tree.map(jnp.asarray, g))
    return optax.chain(to_arrays, optax.sgd(schedule))


def update(tx: Any, grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
    """Calls `tx.update` with every extra argument."""
    return tx.update(grads, state, params, **_data.extra_args(grads, params))


def follow(
    step: Callable[[Tree, Tree, Tree], tuple[Tree, Tree]],
    state: Tree,
    params: Tree,
    stream: Sequence[Tree],
) -> tuple[list[Tree], Tree]:
    """Returns each gradient's updates and the last state; params stay fixed."""
    updates = []
    for grads in stream:
        new, state = step(grads, state, params)
        updates.append(new)
    return updates, state


def run(tx: Any, params: Tree, stream: Sequence[Tree]) -> tuple[list[Tree], Tree]:
    """Returns each gradient's updates from a fresh state, and the last state."""
    return follow(partial(update, tx), tx.init(params), params, stream)


def run_jitted(
    tx: Any, params: Tree, stream: Sequence[Tree]
) -> tuple[list[Tree], Tree]:
    """Does the same with a jitted step.

    For wrappers with a lax.cond inside, which is compiled at every call without jit.
    """
    return follow(jax.jit(partial(update, tx)), tx.init(params), params, stream)


def bind_extras(tx: Any) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` supplying its extra arguments by itself."""

    def bound_update(
        updates: Tree, state: Tree, params: Tree = None, **extra_args: Any
    ) -> tuple[Tree, Tree]:
        own = _data.extra_args(updates, params)
        return tx.update(updates, state, params, **{**own, **extra_args})

    return optax.GradientTransformationExtraArgs(tx.init, bound_update)


def drop_extras(tx: Any) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` without its extra arguments, for wrappers that refuse them."""

    def bare_update(
        updates: Tree, state: Tree, params: Tree = None, **extra_args: Any
    ) -> tuple[Tree, Tree]:
        del extra_args
        return tx.update(updates, state, params)

    return optax.GradientTransformationExtraArgs(tx.init, bare_update)


def downhill(case: Case, tx: Any) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` with its extra arguments bound, and descending."""
    bound = bind_extras(tx)
    return bound if case.descends else optax.chain(bound, optax.scale(-case.rate))


def abstract_steps(tx: Any, params: Tree, grads: Tree) -> tuple[Tree, Tree, Tree]:
    """Returns shapes and dtypes, as under jit: state, next state and updates."""
    state = jax.eval_shape(tx.init, params)
    updates, next_state = jax.eval_shape(partial(update, tx), grads, state, params)
    return state, next_state, updates
