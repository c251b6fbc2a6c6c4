"""An optimizer under test: its factory, its arguments and how to run it."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from inspect import isfunction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from optimizers.testing import _compare, _data
from optimizers.testing._data import Tree
from optimizers.testing._jit import quick_jit

WRAPPED_ARGUMENTS = (
    "optimizer",
    "inner",
    "base_optimizer",
    "inner_optimizer",
    "fast_optimizer",
)
# What to hand to an update that refuses the extra arguments of others, best first.
_SMALLER_EXTRAS = (("value", "grad", "value_fn"), ())


# Extra arguments by name, from the gradients and params of an update.
ExtraArgs = Callable[[Tree, Tree], Mapping[str, Any]]


class Run(NamedTuple):
    """What some steps gave: the updates of each, and the last state."""

    updates: list[Tree]
    state: Tree


@dataclass(frozen=True)
class Case:
    """A factory with its keyword arguments, and what the rules share about it.

    The signature decides how the factory is called. One with a learning rate
    (`learning_rate`, or a first parameter such as `max_learning_rate`) gets the rate;
    one whose first parameter is `optimizer` (or `inner`, `base_optimizer`,
    `inner_optimizer`, `fast_optimizer`) is a wrapper and gets SGD at that rate (and
    the rate too, where it has a parameter `learning_rate`); any other is a primitive
    or a prefix transform and is called without a rate.

    Attributes:
        factory: Makes the transformation.
        kwargs: Keyword arguments of every call.
        extra_args: Makes the extra arguments of an update, beyond those that the rules
            know, from the gradients and params.
    """

    factory: Callable[..., Any]
    kwargs: dict[str, Any] = field(default_factory=dict)
    extra_args: ExtraArgs | None = None

    @cached_property
    def function(self) -> Any:
        """The factory below any `functools.partial` and `functools.wraps`."""
        function = inspect.unwrap(self.factory)
        while isinstance(function, partial):
            function = inspect.unwrap(function.func)
        return function

    @cached_property
    def preset(self) -> dict[str, Any]:
        """The keyword arguments that a `functools.partial` brings."""
        return dict(getattr(self.factory, "keywords", {}))

    @cached_property
    def given(self) -> dict[str, Any]:
        """All keyword arguments of a call, by `functools.partial` and by the case."""
        return {**self.preset, **self.kwargs}

    @cached_property
    def base_name(self) -> str:
        """The factory's name, also through `functools.partial`."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    @cached_property
    def name(self) -> str:
        """The factory with its arguments, as a user would write it."""
        if not self.given:
            return self.base_name
        written = (f"{key}={_written(value)}" for key, value in self.given.items())
        arguments = ", ".join(written)
        return f"{self.base_name}({arguments})"

    @cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The factory's parameters by name."""
        return dict(inspect.signature(self.factory).parameters)

    @cached_property
    def rate_name(self) -> str | None:
        """The parameter that takes the learning rate, if there is one."""
        return _rate_name(self.parameters)

    @property
    def takes_rate(self) -> bool:
        """Whether the factory takes a learning rate."""
        return self.rate_name is not None

    @cached_property
    def takes_schedules(self) -> bool:
        """Whether a schedule of the rate survives a first update."""
        try:
            tx = self.make(optax.constant_schedule(self.rate))
            abstract_steps(tx, self.params, self.stream[0])
        except (Exception, SystemExit):
            return False
        return True

    @cached_property
    def wraps(self) -> bool:
        """Whether the function's first parameter is an optimizer, if given or not."""
        first = next(iter(inspect.signature(self.function).parameters), "")
        return first in WRAPPED_ARGUMENTS

    @cached_property
    def is_wrapper(self) -> bool:
        """Whether the factory's first parameter is an optimizer, and not yet given."""
        first = next(iter(self.parameters), "")
        return first in WRAPPED_ARGUMENTS and first not in self.given

    @cached_property
    def descends(self) -> bool:
        """Whether updates point downhill; those of primitives point uphill."""
        if self.base_name.startswith("scale_by_"):
            return False
        # Of the function: a functools.partial may have given the rate already.
        parameters = inspect.signature(self.function).parameters
        return self.wraps or _rate_name(parameters) is not None

    @cached_property
    def is_random(self) -> bool:
        """Whether the state holds a PRNG key: no two dtypes draw the same numbers."""
        leaves = jax.tree.leaves(jax.eval_shape(self.tx.init, self.params))
        return any(map(_is_key, leaves))

    @cached_property
    def rate(self) -> float:
        """The learning rate of the rules: the one given, the default, else 0.1."""
        name = self.rate_name or ""
        default = getattr(self.parameters.get(name), "default", None)
        for rate in (self.kwargs.get(name), default):
            if isinstance(rate, (int, float, np.number, np.ndarray, jax.Array)):
                return float(rate)
        return 0.1

    def call(self, learning_rate: Any = None, **changes: Any) -> Any:
        """Returns what the factory makes, with some arguments changed."""
        kwargs = self._arguments(learning_rate, changes)
        if self.is_wrapper:
            # A rate of the wrapper's own is not that of what it wraps.
            inner = self.descent(learning_rate if self.rate_name is None else None)
            return self.factory(inner, **kwargs)
        return self.factory(**kwargs)

    def _arguments(self, learning_rate: Any, changes: dict[str, Any]) -> dict[str, Any]:
        kwargs = {**self.kwargs, **changes}
        if self.rate_name is not None:
            given = kwargs.get(self.rate_name, self.rate)
            kwargs[self.rate_name] = given if learning_rate is None else learning_rate
        return kwargs

    def build(self, learning_rate: Any = None, **changes: Any) -> Any:
        """Returns the same, supplying the case's own extra arguments by itself."""
        return self.with_own_extras(self.call(learning_rate, **changes))

    def wrap(self, optimizer: Any) -> Any:
        """Returns the wrapper around another optimizer than SGD."""
        return self.with_own_extras(
            self.factory(optimizer, **self._arguments(None, {}))
        )

    def with_own_extras(self, tx: Any) -> Any:
        """Returns `tx` supplying by itself the extra arguments that only it knows."""
        return tx if self.extra_args is None else bind_extras(tx, self.own_extras)

    def own_extras(self, grads: Tree, params: Tree) -> dict[str, Any]:
        """Returns the extra arguments that only this optimizer knows."""
        if self.extra_args is None:
            return {}
        return dict(self.extra_args(grads, self.params if params is None else params))

    def descent(self, rate: Any = None) -> optax.GradientTransformationExtraArgs:
        """SGD that keeps the rules itself, which `optax.sgd(rate)` does not."""
        rate = self.rate if rate is None else rate
        schedule: Any = rate if callable(rate) else optax.constant_schedule(rate)
        to_arrays = optax.stateless(lambda g, params: jax.tree.map(jnp.asarray, g))
        return optax.chain(to_arrays, optax.sgd(schedule))

    def make_eager(self, learning_rate: Any = None, **changes: Any) -> Any:
        """Returns it with the extra arguments left out that it refuses.

        That they are refused is the finding of one rule, not of all.
        """
        tx = self.build(learning_rate, **changes)
        return tx if self.extras is None else _select_extras(tx, self.extras)

    def make(self, learning_rate: Any = None, **changes: Any) -> Any:
        """Returns it ready to run many times: compiled if it has loops or branches.

        Without jit JAX compiles the body of a loop again at every call, which made
        the check of one optimizer take minutes.
        """
        return self.make_around(self.build(learning_rate, **changes))

    def make_around(self, tx: Any) -> Any:
        """Does for another transformation what `make` does for the case's."""
        tx = tx if self.extras is None else _select_extras(tx, self.extras)
        return _compiled(tx) if self.has_control_flow else tx

    @cached_property
    def extras(self) -> tuple[str, ...] | None:
        """The extra arguments to hand over; None is all of them."""
        tx, grads = self.build(), self.stream[0]
        named = tuple(inspect.signature(self.call().update).parameters)
        for names in (None, named, *_SMALLER_EXTRAS):
            chosen = tx if names is None else _select_extras(tx, names)
            try:
                abstract_steps(chosen, self.params, grads)
            except TypeError:
                continue
            except (Exception, SystemExit):
                return None
            return names
        return None

    def needs(self, *names: str) -> bool:
        """Returns whether an update without these extra arguments is refused."""
        if not self.program:
            return False  # cannot be traced, whatever it gets
        try:
            jax.eval_shape(*self._step_without(names))
        except Exception:
            return True
        return False

    @cached_property
    def refuses_masks(self) -> str | None:
        """The words in which it refuses optax.masked, if it rightly does.

        Who asks for the loss as a function has to call it with the whole tree, of
        which a mask shows only a part.
        """
        text = " ".join(str(self._error_in_mask).split())
        # JAX's errors about structures have the name of the class by accident.
        words = re.sub(r"[\w.]*MaskedNode", "", text)
        refused = isinstance(self._error_in_mask, ValueError)
        return text if refused and "mask" in words.lower() else None

    @cached_property
    def needs_whole_trees(self) -> str | None:
        """Why it has no use for params that are masked, if it calls the loss."""
        if isinstance(self._error_in_mask, _data.MaskedLossError):
            return "calls the loss with masked params, see works_under_masked"
        return self.refuses_masks and f"refuses masks: {self.refuses_masks}"

    @cached_property
    def _error_in_mask(self) -> Exception | None:
        """What one that may call the loss raises under optax.masked."""
        if not self.needs("value_fn", "grad_fn", "obj_fn", "tail_grad_fn"):
            return None
        mask = {"layer": {"bias": False, "kernel": True}}
        masked = optax.masked(bind_extras(self.tx), mask)
        try:
            abstract_steps(masked, self.params, self.stream[0])
        except (ValueError, _data.MaskedLossError) as error:
            return error
        return None

    @cached_property
    def program(self) -> str:
        """The jaxpr of an update as text; empty where it cannot be traced."""
        return self.program_without(())

    def program_without(self, names: Iterable[str]) -> str:
        """That of an update which gets all extra arguments but these."""
        try:
            step, *arguments = self._step_without(names)
            return str(jax.make_jaxpr(step)(*arguments))
        except Exception:
            return ""

    def _step_without(self, names: Iterable[str]) -> tuple[Any, Tree, Tree, Tree]:
        """Such an update, and what it may be traced with."""
        tx, names = self.make_eager(), set(names)

        def step(grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
            extras = _data.extra_args(grads, params)
            rest = {name: extras[name] for name in extras.keys() - names}
            return tx.update(grads, state, params, **rest)

        state = jax.eval_shape(tx.init, self.params)
        return step, self.stream[0], state, self.params

    @cached_property
    def has_control_flow(self) -> bool:
        """Whether an update has a loop or a branch for the device."""
        return re.search(r"\b(while|scan|cond)\[", self.program) is not None

    @cached_property
    def has_open_loop(self) -> bool:
        """Whether an update has a loop of unknown length, as line searches have."""
        return re.search(r"\bwhile\[", self.program) is not None

    @cached_property
    def tx(self) -> optax.GradientTransformationExtraArgs:
        """The transformation, with default arguments and the case's rate."""
        return self.make()

    @cached_property
    def step(self) -> Callable[[Tree, Tree, Tree], tuple[Tree, Tree]]:
        """The jitted update of `tx`, shared by the rules: each type compiles once."""
        return quick_jit(partial(update, self.tx))

    def run_jitted(self, params: Tree, stream: Sequence[Tree]) -> Run:
        """Returns what `run` returns, from jitted steps."""
        return follow(self.step, self.tx.init(params), params, stream)

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
    def expected(self) -> Run:
        """Updates and last state over `stream`, without jit."""
        return run(self.tx, self.params, self.stream)

    @cached_property
    def _infinite_places(self) -> tuple[str, ...]:
        """Where a fresh state holds an infinity, as one of a least loss does."""
        state = self.tx.init(self.params)
        return tuple(
            self._place(path)
            for path, leaf in jax.tree_util.tree_leaves_with_path(state)
            if jnp.issubdtype(leaf.dtype, jnp.inexact) and np.any(np.isinf(leaf))
        )

    def _place(self, path: tuple[Any, ...]) -> str:
        """A path in a state without what leads to a param, or a part of it."""
        below = {"layer", "bias", "kernel", "w", "a", "b", "c", "real", "imaginary"}
        while len(path) > 1 and below.issuperset(_compare.names(path[-1:]) or [""]):
            path = path[:-1]
        return jax.tree_util.keystr(path)

    def assert_finite(self, run: Run, what: str) -> None:
        """Asserts that no entry is NaN, nor infinite where no fresh state is."""

        def may_be_infinite(path: tuple[Any, ...]) -> bool:
            place = self._place(path)
            in_state = place.startswith(".state")
            return in_state and place.endswith(self._infinite_places)

        _compare.assert_finite(run, what, may_be_infinite)


def _rate_name(parameters: Mapping[str, Any]) -> str | None:
    if "learning_rate" in parameters:
        return "learning_rate"
    first = next(iter(parameters), "")
    return first if first.endswith("_learning_rate") else None


def _written(value: Any) -> str:
    """Its repr; if that has an address, which no two runs share, its name or type."""
    text = repr(value)
    if " at 0x" not in text:
        return text
    return getattr(value, "__name__", f"{type(value).__name__}(...)")


def _select_extras(
    tx: Any, names: tuple[str, ...]
) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` behind a filter that lets only some extra arguments pass."""

    def select(updates: Tree, state: Tree, params: Tree = None, **extra: Any) -> Any:
        chosen = {name: extra[name] for name in names if name in extra}
        return tx.update(updates, state, params, **chosen)

    return optax.GradientTransformationExtraArgs(tx.init, select)


def _compiled(tx: Any) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` with a jitted update; functions among the extras are constants."""

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


def update(tx: Any, grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
    """Calls `tx.update` with every extra argument."""
    return tx.update(grads, state, params, **_data.extra_args(grads, params))


def follow(
    step: Callable[[Tree, Tree, Tree], tuple[Tree, Tree]],
    state: Tree,
    params: Tree,
    stream: Sequence[Tree],
) -> Run:
    """Returns each gradient's updates and the last state; params stay fixed."""
    updates = []
    for grads in stream:
        new, state = step(grads, state, params)
        updates.append(new)
    return Run(updates, state)


def run(tx: Any, params: Tree, stream: Sequence[Tree]) -> Run:
    """Returns each gradient's updates from a fresh state, and the last state."""
    return follow(partial(update, tx), tx.init(params), params, stream)


def run_jitted(tx: Any, params: Tree, stream: Sequence[Tree]) -> Run:
    """Does the same with a jitted step.

    For wrappers with a lax.cond inside, which is compiled at every call without jit.
    """
    return follow(quick_jit(partial(update, tx)), tx.init(params), params, stream)


def bind_extras(
    tx: Any, make: ExtraArgs = _data.extra_args
) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` supplying its extra arguments by itself."""

    def bound_update(
        updates: Tree, state: Tree, params: Tree = None, **extra_args: Any
    ) -> tuple[Tree, Tree]:
        own = make(updates, params)
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
