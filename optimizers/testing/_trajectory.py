"""Trajectories: what an optimizer does with fixed parameters and gradients.

All inputs are made of sums, products and floors of float64, which every machine rounds
alike; sines and random generators are not that portable. The gradients do not depend
on the parameters: rounding errors then add up and do not feed themselves.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optimizers.testing import _data
from optimizers.testing._case import Case
from optimizers.testing._data import Tree

STEPS = 8

# Shapes, as trees of tuples. Few leaves: compiling is what a recording costs.
_TREES: dict[str, Tree] = {
    "layers": {"bias": (3,), "kernel": (2, 3)},
    "nested": {"blocks": [{"scale": ()}, ((2, 2),)]},
    "scalar": (),
    "vector": (3,),
}

# Factors on the gradient of entry i at step t, both from 0.
_STREAMS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "smooth": lambda i, t: np.ones(i.shape),
    # A third of the entries at a time, every fifth never, and once nothing at all.
    "sparse": lambda i, t: 1.0 * (((i + t) % 3 == 0) & (i % 5 != 4) & (t != 5)),
    "spikes": lambda i, t: np.full(i.shape, 1024.0 if t == 3 else 1.0),
    # From 6e-8, where eps counts, to 3e5.
    "scales": lambda i, t: np.full(i.shape, 2.0 ** (6 * t - 24)),
}

# What the leaves of a mixed tree take in turn.
_MIXED = ("float32", "bfloat16")

_CASES = (
    "layers/float32/smooth",
    "layers/float32/sparse",
    "layers/float32/spikes",
    "layers/float32/scales",
    "nested/mixed/sparse",
    "scalar/float16/smooth",
    "vector/complex64/smooth",
    "vector/float64/smooth",
)

# How optimizers refuse complex gradients, and how JAX and NumPy warn of those that drop
# the imaginary part, which is no way to accept it.
_REFUSALS = (
    ValueError,
    TypeError,
    NotImplementedError,
    DeprecationWarning,
    np.exceptions.ComplexWarning,
)


class Trajectory(NamedTuple):
    """What came out of every step: trees of NumPy arrays whose first axis is the step.

    In the order in which an update computes them: the first that differs is nearest
    to the cause.

    Attributes:
        state: The optimizer's state after each step.
        updates: The updates of each step.
        params: The parameters after each step.
    """

    state: Tree
    updates: Tree
    params: Tree


def trajectory_cases() -> tuple[str, ...]:
    """Returns the names of all cases, as tree/dtype/gradients.

    Trees: `layers` has a bias of shape (3,) and a kernel of shape (2, 3); `nested` has
    dictionaries, a list and a tuple around a float32 scalar and a bfloat16 matrix;
    `scalar` and `vector` are single arrays of shapes () and (3,). Entries have sizes
    between 0.1 and 1.1.

    Gradients: `smooth` ones go straight from one point to another in 8 steps; the
    others multiply these. `sparse` keeps a third of the entries at a time, every fifth
    never, and none in the sixth step; `spikes` has a fourth gradient 1024 times as
    large; `scales` grows from 6e-8 to 3e5.

    Cases of float64 run where `jax_enable_x64` is on.
    """
    return _CASES


def record_trajectory(
    optimizer: Any, *, cases: Iterable[str] | None = None, **kwargs: Any
) -> dict[str, Trajectory]:
    """Runs an optimizer for 8 steps on fixed trees, dtypes and gradients.

    `update` gets the parameters and, by keyword, every extra argument that an
    optimizer of optax may ask for, such as `value_fn` and `grad_fn` of the loss
    ½·Σ|p|². It is jitted.

    Args:
        optimizer: A transformation, or a factory of one; the signature of a factory
            tells how it is called, as for `check`.
        cases: Names from `trajectory_cases()`; all when None.
        **kwargs: Keyword arguments of the factory.

    Returns:
        A trajectory by the name of its case. Cases of float64 are left out where
        `jax_enable_x64` is off, complex ones where the optimizer refuses them.

    Raises:
        ValueError: A case has no such name, or there are keyword arguments for a
            transformation.
    """
    chosen = _CASES if cases is None else tuple(cases)
    unknown = [name for name in chosen if name not in _CASES]
    if unknown:
        msg = f"cases has no such names: {unknown}; see trajectory_cases()."
        raise ValueError(msg)
    tx = _make(optimizer, kwargs)
    step = jax.jit(partial(_step, tx))
    trajectories = {}
    for name in chosen:
        if not is_runnable(name):
            continue
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "Casting (from )?complex")
                trajectories[name] = _follow(tx, step, name)
        except _REFUSALS:
            if "/complex64/" not in name:
                raise
    return trajectories


def is_runnable(case: str) -> bool:
    """Returns whether JAX has the dtypes of a case as it is configured."""
    return "/float64/" not in case or jax.config.read("jax_enable_x64")


def is_transformation(optimizer: Any) -> bool:
    """Returns whether this is a transformation, and not a factory of one."""
    return hasattr(optimizer, "init") and hasattr(optimizer, "update")


def _make(optimizer: Any, kwargs: dict[str, Any]) -> Any:
    if not is_transformation(optimizer):
        return optax.with_extra_args_support(Case(optimizer, kwargs).make_eager())
    if kwargs:
        msg = f"{sorted(kwargs)} are arguments of a factory, got a transformation."
        raise ValueError(msg)
    return optax.with_extra_args_support(optimizer)


def _step(tx: Any, grads: Tree, state: Tree, params: Tree) -> Trajectory:
    extra_args = _data.extra_args(grads, params)
    updates, state = tx.update(grads, state, params, **extra_args)
    return Trajectory(state, updates, optax.apply_updates(params, updates))


def _follow(
    tx: Any, step: Callable[[Tree, Tree, Tree], Trajectory], case: str
) -> Trajectory:
    params, stream = make_inputs(case)
    state = tx.init(params)
    steps = []
    for grads in stream:
        state, updates, params = step(grads, state, params)
        steps.append(Trajectory(state, updates, params))
    return jax.tree.map(lambda *leaves: np.stack([*map(_numbers, leaves)]), *steps)


def make_inputs(case: str) -> tuple[Tree, Iterator[Tree]]:
    """Returns the parameters of a case, and its gradients one by one."""
    tree, dtype, stream = case.split("/")
    shapes, structure = jax.tree.flatten(_TREES[tree], is_leaf=_is_shape)
    dtypes = [
        np.dtype(jnp.dtype(_MIXED[k % 2] if dtype == "mixed" else dtype))
        for k in range(len(shapes))
    ]
    # Entries are numbered through the whole tree.
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    index = np.arange(ends[-1])

    def arrays(values: np.ndarray) -> Tree:
        parts = np.split(values, ends[:-1])
        leaves = [
            jnp.asarray(
                (part if kind.kind == "c" else np.real(part)).reshape(shape), kind
            )
            for part, shape, kind in zip(parts, shapes, dtypes, strict=True)
        ]
        return structure.unflatten(leaves)

    def gradients() -> Iterator[Tree]:
        first, last = _spread(index + 100), _spread(index + 200)
        for t in range(STEPS):
            value = first + (last - first) * (t / STEPS)
            yield arrays(value * _STREAMS[stream](index, t))

    return arrays(_spread(index)), gradients()


def _spread(index: np.ndarray) -> np.ndarray:
    """Complex numbers without a pattern: multiples of the golden ratio, modulo 1."""
    parts = []
    for shift in (1, 301):
        turns = (index + shift) * 0.6180339887498949
        value = 2 * (turns - np.floor(turns)) - 1
        # Away from zero, where the sign of a rounding error would decide a step.
        parts.append(value + np.where(value < 0, -0.1, 0.1))
    return parts[0] + 1j * parts[1]


def _numbers(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _is_shape(node: object) -> bool:
    return type(node) is tuple and all(isinstance(size, int) for size in node)
