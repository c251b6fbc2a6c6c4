"""Hypothesis strategies for trees and gradients, to test optimizers with.

    from hypothesis import given
    from optimizers.testing import strategies

    @given(strategies.sequences())
    def test_parameters_stay_finite(sequence):
        ...

Values are NumPy arrays, so drawing does not compile anything. There are only a few
shapes and dtypes, so a jitted optimizer compiles a few times, not once per example.
Examples shrink to zeros in small trees.

This module needs hypothesis, which the extra `[testing]` installs; the rest of
`optimizers.testing` does not.
"""

import math
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis.extra import numpy as hnp

from optimizers.testing._inputs import Tree
from optimizers.testing._reference.sequence import Sequence

__all__ = [
    "FINITE",
    "KINDS",
    "SHAPES",
    "dtypes",
    "entries",
    "gradients",
    "sequences",
    "shapes",
    "trees",
]

FINITE = ("zero", "ordinary", "spike", "denormal")
"""The finite kinds of entries, simplest first."""

KINDS = (*FINITE, "infinity", "nan")
"""All kinds of entries."""

SHAPES: tuple[Tree, ...] = (
    (),
    {"bias": (3,), "kernel": (2, 3)},
    [(4,), {"scale": (), "empty": (0,)}],
)
"""Trees of shapes: a scalar, two leaves, and a list with a leaf of size zero."""


def dtypes(names: Iterable[str] = ("float32", "bfloat16")) -> st.SearchStrategy[Any]:
    """Returns a strategy for the dtype of a tree.

    Args:
        names: The dtypes to choose from, simplest first.
    """
    return st.sampled_from([jnp.dtype(name) for name in names])


def shapes(trees: Iterable[Tree] = SHAPES) -> st.SearchStrategy[Tree]:
    """Returns a strategy for trees of shapes, whose leaves are tuples of integers.

    Args:
        trees: The trees to choose from, simplest first. An optimizer is compiled for
            each of them.
    """
    return st.sampled_from(list(trees))


def entries(
    dtype: Any = "float32", kinds: Collection[str] = FINITE
) -> st.SearchStrategy[float]:
    """Returns a strategy for real numbers that are exact in a dtype.

    Args:
        dtype: The dtype of the numbers, which defines spikes and denormals. For a
            complex dtype, the strategy draws real or imaginary parts.
        kinds: The kinds to draw from: `zero`; `ordinary`, multiples of 1/8 up to 8;
            `spike`, from the square root of the largest number, so that its square may
            overflow, to the largest; `denormal`, below the smallest normal number,
            which many processors flush to zero; `infinity`, of either sign; `nan`.

    Raises:
        ValueError: `kinds` is empty or has a kind that is not in `KINDS`.
    """
    if not kinds or not set(kinds) <= set(KINDS):
        msg = f"strategies: kinds must be one or more of {KINDS}, got {tuple(kinds)}."
        raise ValueError(msg)
    return _entries(jnp.dtype(dtype), tuple(kind for kind in KINDS if kind in kinds))


# One choice per number: choosing a kind first and then a number is four times slower.
@lru_cache
def _entries(dtype: np.dtype[Any], kinds: tuple[str, ...]) -> st.SearchStrategy[float]:
    info = jnp.finfo(dtype)
    largest, smallest = float(info.max), float(info.smallest_normal)
    halves = 0.5 ** np.arange(info.nmant)
    sizes = {
        "zero": [0.0],
        "ordinary": np.roll(np.arange(1, 65), -7) / 8,  # from 1, where they shrink to
        "spike": np.maximum(halves * largest, math.sqrt(largest)),
        "denormal": halves * smallest / 2,  # down to the least of all numbers
        "infinity": [math.inf],
        "nan": [math.nan],
    }
    numbers = []
    for kind in kinds:
        # All kinds are equally likely.
        positive = np.resize(sizes[kind], 64).astype(info.dtype).astype(np.float64)
        numbers += [*positive, *(0.0 - positive)]
    return st.sampled_from([float(x) for x in numbers])


@st.composite
def trees(  # noqa: D417 (hypothesis passes draw)
    draw: st.DrawFn,
    shapes: st.SearchStrategy[Tree] = shapes(),  # noqa: B008 (immutable)
    dtypes: st.SearchStrategy[Any] = dtypes(),  # noqa: B008
    kinds: Collection[str] = ("zero", "ordinary"),
) -> Tree:
    """Returns a strategy for trees of arrays of one dtype, such as params.

    Args:
        shapes: Strategy for the tree of shapes; `st.just({"bias": (3,)})` is one tree.
        dtypes: Strategy for the dtype; `st.just("float64")` is one dtype.
        kinds: The kinds of entries; see `entries`.
    """
    shape_tree, dtype = draw(shapes), jnp.dtype(draw(dtypes))
    return jax.tree.map(
        lambda shape: draw(_arrays(shape, dtype, kinds)),
        shape_tree,
        is_leaf=lambda node: type(node) is tuple,
    )


@st.composite
def gradients(  # noqa: D417 (hypothesis passes draw)
    draw: st.DrawFn, params: Tree, steps: int = 5, kinds: Collection[str] = FINITE
) -> Tree:
    """Returns a strategy for the gradients of several steps.

    About half of the leaves are sparse: almost all entries are equal, often zero.

    Args:
        params: A tree of arrays, or of their shapes and dtypes.
        steps: The number of gradients.
        kinds: The kinds of entries; see `entries`.

    Returns:
        A strategy for trees like `params` with an axis of steps in front of each leaf.
    """
    return jax.tree.map(
        lambda x: draw(_arrays((steps, *x.shape), jnp.dtype(x.dtype), kinds)), params
    )


@st.composite
def sequences(  # noqa: D417 (hypothesis passes draw)
    draw: st.DrawFn,
    shapes: st.SearchStrategy[Tree] = shapes(),  # noqa: B008 (immutable)
    dtypes: st.SearchStrategy[Any] = dtypes(),  # noqa: B008
    steps: int = 5,
    kinds: Collection[str] = FINITE,
) -> Sequence:
    """Returns a strategy for a `Sequence`, a start with gradients.

    Args:
        shapes: Strategy for the tree of shapes; `st.just({"bias": (3,)})` is one tree.
        dtypes: Strategy for the dtype; `st.just("float64")` is one dtype.
        steps: The number of gradients.
        kinds: The kinds of entries of the gradients; see `entries`. Entries of the
            start are zero or ordinary.
    """
    start = draw(trees(shapes, dtypes))
    return Sequence(start, draw(gradients(start, steps, kinds)))


def _arrays(
    shape: tuple[int, ...], dtype: np.dtype[Any], kinds: Collection[str]
) -> st.SearchStrategy[np.ndarray]:
    numbers = entries(dtype, kinds)
    # In float64, which contains all other dtypes: NumPy and hypothesis do not support
    # bfloat16.
    sparse = hnp.arrays(np.float64, shape, elements=numbers, fill=numbers)
    dense = hnp.arrays(np.float64, shape, elements=numbers, fill=st.nothing())
    parts = st.one_of(sparse, dense)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return st.builds(_complex, parts, parts).map(lambda x: x.astype(dtype))
    return parts.map(lambda x: x.astype(dtype))


def _complex(real: np.ndarray, imaginary: np.ndarray) -> np.ndarray:
    # real + 1j * imaginary is NaN where a part is infinite.
    out = np.empty(real.shape, np.complex128)
    out.real, out.imag = real, imaginary
    return out
