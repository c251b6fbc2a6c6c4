"""Hypothesis strategies for trees and gradients that optimizers must bear.

    from hypothesis import given
    from optimizers.testing import strategies

    @given(strategies.sequences())
    def test_parameters_stay_finite(sequence):
        ...

Values are NumPy arrays, so that drawing compiles nothing; shapes and dtypes come from a
few, so that a jitted optimizer compiles a few times and not once for each example.
Examples shrink to zeros, and to the first kind, shape and dtype.

This module imports hypothesis, which the extra `[testing]` installs; the rest of
`optimizers.testing` does without.
"""

import math
import operator
from collections.abc import Collection, Iterable
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis.extra import numpy as hnp

from optimizers.testing._data import Tree
from optimizers.testing._replay import Sequence

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
"""The kinds of entries that are finite, simplest first."""

KINDS = (*FINITE, "infinity", "nan")
"""All kinds of entries."""

SHAPES: tuple[Tree, ...] = (
    {"bias": (3,), "kernel": (2, 3)},
    (),
    [(4,), {"scale": (), "empty": (0,)}],
)
"""Trees of shapes: two leaves, a scalar, and lists in which a leaf has no entries."""


def dtypes(names: Iterable[str] = ("float32", "bfloat16")) -> st.SearchStrategy[Any]:
    """Returns a strategy for the dtype of a tree.

    Args:
      names: Those to choose from, simplest first.
    """
    return st.sampled_from([jnp.dtype(name) for name in names])


def shapes(trees: Iterable[Tree] = SHAPES) -> st.SearchStrategy[Tree]:
    """Returns a strategy for trees of shapes, whose leaves are tuples of integers.

    Args:
      trees: Those to choose from, simplest first. Each is one more program to compile.
    """
    return st.sampled_from(list(trees))


def entries(
    dtype: Any = "float32", kinds: Collection[str] = FINITE
) -> st.SearchStrategy[float]:
    """Returns a strategy for real numbers that are exact in a dtype.

    Args:
      dtype: Of the numbers: what a spike or a denormal is depends on it. For a complex
        dtype, the numbers are those of its parts.
      kinds: What may occur. `zero`; `ordinary`, of size up to 8; `spike`, from the
        square root of the largest number, so that its square may overflow, to the
        largest; `denormal`, below the smallest normal number, which many processors
        take for zero; `infinity`, of either sign; `nan`.

    Raises:
      ValueError: No kind is given, or one that is not in `KINDS`.
    """
    if not kinds or not set(kinds) <= set(KINDS):
        msg = f"strategies: kinds must be one or more of {KINDS}, got {tuple(kinds)}."
        raise ValueError(msg)
    info = jnp.finfo(jnp.dtype(dtype))
    largest, smallest = float(info.max), float(info.smallest_normal)
    # Powers of a half: the last one of the denormals is the least of all numbers.
    halves = st.integers(0, info.nmant - 1).map(lambda power: 0.5**power)

    def signed(sizes: st.SearchStrategy[float]) -> st.SearchStrategy[float]:
        return st.builds(operator.mul, st.sampled_from([1.0, -1.0]), sizes)

    by_kind = {
        "zero": st.just(0.0),
        "ordinary": st.integers(-512, 512).map(lambda n: n / 64),
        "spike": signed(halves.map(lambda h: max(math.sqrt(largest), h * largest))),
        "denormal": signed(halves.map(lambda h: smallest * h / 2)),
        "infinity": signed(st.just(math.inf)),
        "nan": st.just(math.nan),
    }
    numbers = st.one_of([by_kind[kind] for kind in KINDS if kind in kinds])
    return numbers.map(lambda x: float(np.asarray(x).astype(info.dtype)))


@st.composite
def trees(  # noqa: D417 (hypothesis passes draw)
    draw: st.DrawFn,
    shapes: st.SearchStrategy[Tree] = shapes(),  # noqa: B008 (immutable)
    dtypes: st.SearchStrategy[Any] = dtypes(),  # noqa: B008
    kinds: Collection[str] = ("zero", "ordinary"),
) -> Tree:
    """Returns a strategy for trees of arrays of one dtype, such as parameters.

    Args:
      shapes: Strategy for the tree of shapes; `st.just({"bias": (3,)})` is one tree.
      dtypes: Strategy for the dtype; `st.just("float64")` is one dtype.
      kinds: What entries may be; see `entries`.
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
    """Returns a strategy for gradients of the steps of a run.

    About half of the leaves are sparse: one number nearly everywhere, often zero.

    Args:
      params: A tree of arrays, or of their shapes and dtypes.
      steps: How many gradients there are.
      kinds: What entries may be; see `entries`.

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
    """Returns a strategy for a start and gradients, as the assertions take them.

    Args:
      shapes: Strategy for the tree of shapes; `st.just({"bias": (3,)})` is one tree.
      dtypes: Strategy for the dtype; `st.just("float64")` is one dtype.
      steps: How many gradients there are.
      kinds: What entries of the gradients may be; see `entries`. The start is zero or
        ordinary.
    """
    start = draw(trees(shapes, dtypes))
    return Sequence(start, draw(gradients(start, steps, kinds)))


def _arrays(
    shape: tuple[int, ...], dtype: np.dtype[Any], kinds: Collection[str]
) -> st.SearchStrategy[np.ndarray]:
    numbers = entries(dtype, kinds)
    # In float64, which has the numbers of all the others: NumPy and hypothesis do not
    # know bfloat16.
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
