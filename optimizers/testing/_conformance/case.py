"""The optimizer under test, and everything that the rules share about it."""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from inspect import isfunction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from optimizers.testing import _compare, _factory, _inputs
from optimizers.testing._conformance.jaxprs import primitives
from optimizers.testing._conformance.run import Run, follow, run
from optimizers.testing._extras import (
    abstract_steps,
    accepted_extras,
    bind_extras,
    select_extras,
    update,
)
from optimizers.testing._inputs import ExtraArgs, Tree
from optimizers.testing._jit import quick_jit


@dataclass(frozen=True)
class Case:
    """An optimizer under test: a factory and its keyword arguments.

    The signature decides how the factory is called. A factory with a learning rate
    (`learning_rate`, or a first parameter such as `max_learning_rate`) is called with
    one. A factory whose first parameter is `optimizer` (or `inner`, `base_optimizer`,
    `inner_optimizer`, `fast_optimizer`) is a wrapper: it is called with SGD, and with a
    learning rate if it has a parameter `learning_rate`. Every other factory is a
    gradient transformation and is called without a learning rate.

    The rules share what a case has computed, so make it once.

    Attributes:
        factory: Makes the transformation.
        kwargs: Keyword arguments of every call.
        extra_args: Function of the gradients and params that returns, as a dict, the
            extra arguments of an update that only this optimizer knows.
    """

    factory: Callable[..., Any]
    kwargs: dict[str, Any] = field(default_factory=dict)
    extra_args: ExtraArgs | None = None

    @cached_property
    def function(self) -> Any:
        """The factory below any `functools.partial` and `functools.wraps`."""
        return _factory.unwrap(self.factory)

    @cached_property
    def given(self) -> dict[str, Any]:
        """All keyword arguments of a call, from `functools.partial` and the case."""
        return _factory.given_arguments(self.factory, self.kwargs)

    @cached_property
    def base_name(self) -> str:
        """The factory's name, also through `functools.partial`."""
        return _factory.base_name(self.factory)

    @cached_property
    def name(self) -> str:
        """The factory with its arguments, as a user would write it."""
        return _factory.full_name(self.factory, self.kwargs)

    @cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The factory's parameters by name."""
        return _factory.parameters(self.factory)

    @cached_property
    def learning_rate_name(self) -> str | None:
        """The parameter that takes the learning rate, if there is one."""
        return _factory.learning_rate_name(self.factory)

    @property
    def takes_learning_rate(self) -> bool:
        """Whether the factory takes a learning rate."""
        return self.learning_rate_name is not None

    @cached_property
    def takes_schedules(self) -> bool:
        """Whether a first update works with a schedule as the learning rate."""
        try:
            tx = self.make(optax.constant_schedule(self.learning_rate))
            abstract_steps(tx, self.params, self.stream[0])
        except (Exception, SystemExit):
            return False
        return True

    @cached_property
    def wraps(self) -> bool:
        """Whether the function's first parameter is an optimizer, given or not."""
        return _factory.is_wrapper(self.function)

    @cached_property
    def is_wrapper(self) -> bool:
        """Whether the factory's first parameter is an optimizer that is not given."""
        return _factory.needs_optimizer(self.factory, self.kwargs)

    @cached_property
    def descends(self) -> bool:
        """Whether updates point downhill; primitives return ascent directions."""
        if self.base_name.startswith("scale_by_"):
            return False
        # Ask the function: a functools.partial may have set the learning rate.
        return self.wraps or _factory.learning_rate_name(self.function) is not None

    @cached_property
    def is_random(self) -> bool:
        """Whether the state has a PRNG key: each dtype draws other numbers."""
        leaves = jax.tree.leaves(jax.eval_shape(self.tx.init, self.params))
        return any(map(_is_key, leaves))

    @cached_property
    def learning_rate(self) -> float:
        """The learning rate of the rules: the one given, the default, else 0.1."""
        return _factory.default_learning_rate(self.factory, self.kwargs)

    def call(self, learning_rate: Any = None, **changes: Any) -> Any:
        """Returns what the factory makes, with some arguments changed."""
        kwargs = self._arguments(learning_rate, changes)
        if self.is_wrapper:
            # A wrapper's own learning rate is not that of the optimizer inside.
            inner = self.descent(
                learning_rate if self.learning_rate_name is None else None
            )
            return self.factory(inner, **kwargs)
        return self.factory(**kwargs)

    def _arguments(self, learning_rate: Any, changes: dict[str, Any]) -> dict[str, Any]:
        kwargs = {**self.kwargs, **changes}
        if self.learning_rate_name is not None:
            given = kwargs.get(self.learning_rate_name, self.learning_rate)
            kwargs[self.learning_rate_name] = (
                given if learning_rate is None else learning_rate
            )
        return kwargs

    def build(self, learning_rate: Any = None, **changes: Any) -> Any:
        """Returns the same with the case's own extra arguments bound."""
        return self.with_own_extras(self.call(learning_rate, **changes))

    def wrap(self, optimizer: Any) -> Any:
        """Returns the wrapper around an optimizer other than SGD."""
        return self.with_own_extras(
            self.factory(optimizer, **self._arguments(None, {}))
        )

    def with_own_extras(self, tx: Any) -> Any:
        """Returns `tx` with the case's own extra arguments bound."""
        return tx if self.extra_args is None else bind_extras(tx, self.own_extras)

    def own_extras(self, grads: Tree, params: Tree) -> dict[str, Any]:
        """Returns the case's own extra arguments for an update."""
        if self.extra_args is None:
            return {}
        return dict(self.extra_args(grads, self.params if params is None else params))

    def descent(
        self, learning_rate: Any = None
    ) -> optax.GradientTransformationExtraArgs:
        """Returns an SGD that follows all rules, to be wrapped."""
        return _factory.descent(
            self.learning_rate if learning_rate is None else learning_rate
        )

    def make_eager(self, learning_rate: Any = None, **changes: Any) -> Any:
        """Returns the transformation, without the extra arguments that it rejects.

        One rule reports that they are rejected; the others need not fail too.
        """
        return select_extras(self.build(learning_rate, **changes), self.extras)

    def make(self, learning_rate: Any = None, **changes: Any) -> Any:
        """Returns the same, with a jitted update if it has loops or branches.

        Without jit, JAX compiles the body of a loop at every call, and checking one
        optimizer takes minutes.
        """
        return self.make_around(self.build(learning_rate, **changes))

    def make_around(self, tx: Any) -> Any:
        """Does for another transformation what `make` does for the case's."""
        tx = select_extras(tx, self.extras)
        return _compiled(tx) if self.has_control_flow else tx

    @cached_property
    def extras(self) -> tuple[str, ...] | None:
        """The extra arguments that its update accepts; None for all."""
        named = tuple(inspect.signature(self.call().update).parameters)
        return accepted_extras(self.build(), named)

    def needs(self, *names: str) -> bool:
        """Returns whether an update without these extra arguments raises."""
        if self.program is None:
            return False  # cannot be traced with any arguments
        try:
            jax.eval_shape(*self._step_without(names))
        except Exception:
            return True
        return False

    @cached_property
    def refuses_masks(self) -> str | None:
        """Its error message under optax.masked, if it has a reason to raise one.

        An optimizer that evaluates the loss needs the full params; a mask hides some.
        """
        text = " ".join(str(self._error_in_mask).split())
        # JAX's errors about structures may contain the name of the class.
        words = re.sub(r"[\w.]*MaskedNode", "", text)
        refused = isinstance(self._error_in_mask, ValueError)
        return text if refused and "mask" in words.lower() else None

    @cached_property
    def needs_whole_trees(self) -> str | None:
        """Why it cannot work with masked params, if it calls the loss."""
        if isinstance(self._error_in_mask, _inputs.MaskedLossError):
            return "calls the loss with masked params, see works_under_masked"
        return self.refuses_masks and f"rejects masks: {self.refuses_masks}"

    @cached_property
    def _error_in_mask(self) -> Exception | None:
        """The error under optax.masked of an optimizer that may call the loss."""
        if not self.needs("value_fn", "grad_fn", "obj_fn", "tail_grad_fn"):
            return None
        mask = {"layer": {"bias": False, "kernel": True}}
        masked = optax.masked(bind_extras(self.tx), mask)
        try:
            abstract_steps(masked, self.params, self.stream[0])
        except (ValueError, _inputs.MaskedLossError) as error:
            return error
        return None

    @cached_property
    def program(self) -> Any:
        """The jaxpr of an update; None if it cannot be traced."""
        return self.program_without(())

    def program_without(self, names: Iterable[str]) -> Any:
        """The jaxpr of an update with all extra arguments but these."""
        try:
            step, *arguments = self._step_without(names)
            return jax.make_jaxpr(step)(*arguments)
        except Exception:
            return None

    def _step_without(self, names: Iterable[str]) -> tuple[Any, Tree, Tree, Tree]:
        """Returns such an update, and arguments to trace it with."""
        tx, names = self.make_eager(), set(names)

        def step(grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
            extras = _inputs.extra_args(grads, params)
            rest = {name: extras[name] for name in extras.keys() - names}
            return tx.update(grads, state, params, **rest)

        state = jax.eval_shape(tx.init, self.params)
        return step, self.stream[0], state, self.params

    @cached_property
    def has_control_flow(self) -> bool:
        """Whether an update has a loop or a branch in its jaxpr."""
        return not self._primitives.isdisjoint(("while", "scan", "cond"))

    @cached_property
    def has_open_loop(self) -> bool:
        """Whether an update has a loop of unknown length, as line searches have."""
        return "while" in self._primitives

    @cached_property
    def _primitives(self) -> set[str]:
        return set() if self.program is None else set(primitives(self.program))

    @cached_property
    def tx(self) -> optax.GradientTransformationExtraArgs:
        """The transformation, with default arguments and learning rate."""
        return self.make()

    @cached_property
    def step(self) -> Callable[[Tree, Tree, Tree], tuple[Tree, Tree]]:
        """The jitted update of `tx`; the rules share it, so each type compiles once."""
        return quick_jit(partial(update, self.tx))

    def run_jitted(self, params: Tree, stream: Sequence[Tree]) -> Run:
        """Runs `tx` from a fresh state, with jitted steps."""
        return follow(self.step, self.tx.init(params), params, stream)

    @cached_property
    def optimizer(self) -> optax.GradientTransformationExtraArgs:
        """The transformation with its extra arguments bound, as one that descends.

        For wrappers of optax, some of which drop extra arguments.
        """
        bound = bind_extras(self.tx)
        return (
            bound
            if self.descends
            else optax.chain(bound, optax.scale(-self.learning_rate))
        )

    @cached_property
    def params(self) -> Tree:
        """Two float32 leaves."""
        return _inputs.make_params()

    @cached_property
    def stream(self) -> list[Tree]:
        """Gradients of three steps for `params`."""
        return _inputs.make_stream(3)

    @cached_property
    def expected(self) -> Run:
        """Updates and last state over `stream`, without jit."""
        return run(self.tx, self.params, self.stream)

    @cached_property
    def _infinite_places(self) -> tuple[str, ...]:
        """Where a fresh state is infinite, such as a best loss so far."""
        state = self.tx.init(self.params)
        return tuple(
            self._place(path)
            for path, leaf in jax.tree_util.tree_leaves_with_path(state)
            if jnp.issubdtype(leaf.dtype, jnp.inexact) and np.any(np.isinf(leaf))
        )

    def _place(self, path: tuple[Any, ...]) -> str:
        """Returns a path in a state up to the tree of params that it leads into."""
        below = {"layer", "bias", "kernel", "w", "a", "b", "c", "real", "imaginary"}
        while len(path) > 1 and below.issuperset(_compare.names(path[-1:]) or [""]):
            path = path[:-1]
        return jax.tree_util.keystr(path)

    def assert_finite(self, run: Run, what: str) -> None:
        """Asserts that nothing is NaN, or infinite where a fresh state is not."""

        def may_be_infinite(path: tuple[Any, ...]) -> bool:
            place = self._place(path)
            in_state = place.startswith(".state")
            return in_state and place.endswith(self._infinite_places)

        _compare.assert_finite(run, what, may_be_infinite)


def _compiled(tx: Any) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` with a jitted update; extra arguments may be functions."""

    def call(updates: Tree, state: Tree, params: Tree, arrays: Any, rest: Any) -> Any:
        return tx.update(updates, state, params, **arrays, **dict(rest))

    jitted = quick_jit(call, static_argnums=4)

    def compiled_update(
        updates: Tree, state: Tree, params: Tree = None, **extra: Any
    ) -> Any:
        leaves = jax.tree.leaves((updates, state, params, extra))
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return tx.update(updates, state, params, **extra)  # is being compiled
        # Not `callable`: a tree of gradients may be that, too.
        constant = {key: value for key, value in extra.items() if isfunction(value)}
        arrays = {name: extra[name] for name in extra.keys() - constant.keys()}
        return jitted(updates, state, params, arrays, tuple(sorted(constant.items())))

    return optax.GradientTransformationExtraArgs(tx.init, compiled_update)


def _is_key(leaf: Any) -> bool:
    # Old-style keys are pairs of uint32.
    is_typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return is_typed or (leaf.dtype, leaf.shape) == (jnp.dtype("uint32"), (2,))
