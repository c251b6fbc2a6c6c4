"""Comparisons of trees whose messages name the leaf."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optimizers.testing._data import Tree

# XLA fuses and reorders. Where a method subtracts nearly equal sums, as distance
# estimates do, a rounding in the last place grows to a few times 1e-5.
_FUSED = 1e-4
# Where an update is the difference of two points, it has their rounding.
_ROUNDING = 2.5e-7


def leaves(tree: Tree) -> Iterator[tuple[str, Any]]:
    """Yields every leaf after its path, written `.mu['kernel']`."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path) or "(the whole tree)", leaf


def type_of(leaf: Any) -> str:
    """Returns dtype, shape and weakness of an array or abstract value."""
    aval = jax.typeof(leaf) if isinstance(leaf, jax.Array) else leaf
    weak = "weak " if getattr(aval, "weak_type", False) else ""
    if not hasattr(aval, "dtype"):
        return type(aval).__name__
    return f"{weak}{aval.dtype}{list(aval.shape)}"


def assert_same_structure(actual: Tree, expected: Tree, what: str) -> None:
    """Asserts that two trees have one structure."""
    got, wanted = jax.tree.structure(actual), jax.tree.structure(expected)
    assert got == wanted, f"{what}: structure is {got}, expected {wanted}"


def assert_same_types(actual: Tree, expected: Tree, what: str) -> None:
    """Asserts equal structure and, leaf by leaf, shape, dtype and weak type."""
    assert_same_structure(actual, expected, what)
    for (path, a), (_, b) in zip(leaves(actual), leaves(expected), strict=True):
        assert type_of(a) == type_of(b), (
            f"{what}: {path} is {type_of(a)}, expected {type_of(b)}"
        )


def assert_same_dtypes(actual: Tree, expected: Tree, what: str) -> None:
    """Asserts equal structure and, leaf by leaf, shape and dtype."""
    assert_same_structure(actual, expected, what)
    for (path, a), (_, b) in zip(leaves(actual), leaves(expected), strict=True):
        got, wanted = (a.dtype, a.shape), (b.dtype, b.shape)
        assert got == wanted, (
            f"{what}: {path} is {a.dtype}{list(a.shape)}, "
            f"expected {b.dtype}{list(b.shape)}"
        )


def assert_close(
    actual: Tree, expected: Tree, what: str, rtol: float = 1e-5, atol: float = 0.0
) -> None:
    """Asserts |actual - expected| ≤ atol + rtol·(largest |expected| of the leaf).

    Relative to the leaf, not to the entry: a sum that another order of additions
    rounds otherwise is wrong by an ulp of its largest term.
    """
    assert_same_structure(actual, expected, what)
    for (path, a), (_, b) in zip(leaves(actual), leaves(expected), strict=True):
        x, y = _wide(a), _wide(b)
        assert x.shape == y.shape, f"{what}: {path} is {x.shape}, expected {y.shape}"
        with np.errstate(invalid="ignore"):  # the same infinity twice is no error
            error = float(np.max(np.where(x == y, 0.0, np.abs(x - y)), initial=0.0))
        size = np.abs(y[np.isfinite(y)])
        bound = atol + rtol * float(np.max(size, initial=0.0))
        # Written so that a NaN on either side fails.
        assert error <= bound, (
            f"{what}: {path} differs by {error:.3g} (allowed {bound:.3g}): "
            f"got {short(a)}, expected {short(b)}"
        )


def names(path: tuple[Any, ...]) -> list[Any]:
    """The fields and keys that lead to a leaf, from NamedTuples and dicts alike."""
    found = [getattr(key, "name", getattr(key, "key", None)) for key in path]
    return [name for name in found if name is not None]


def assert_agree(actual: Tree, expected: Tree, what: str) -> None:
    """Asserts equal trees up to what another program for the same formulas changes."""
    assert_close(actual, expected, what, _FUSED, _ROUNDING)


def assert_same_bits(actual: Tree, expected: Tree, what: str) -> None:
    """Asserts that two trees agree to the bit, NaNs included."""
    assert_same_dtypes(actual, expected, what)
    for (path, a), (_, b) in zip(leaves(actual), leaves(expected), strict=True):
        same = _numbers(a).tobytes() == _numbers(b).tobytes()
        assert same, f"{what}: {path} is {short(a)}, expected exactly {short(b)}"


def assert_finite(
    tree: Tree,
    what: str,
    may_be_infinite: Callable[[tuple[Any, ...]], bool] = lambda path: False,
) -> None:
    """Asserts that no entry is NaN, nor infinite but where its path allows it."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            values = _wide(leaf)
            wrong = ~np.isfinite(values)
            if np.any(wrong) and may_be_infinite(path):
                wrong = np.isnan(values)
            assert not np.any(wrong), (
                f"{what}: {jax.tree_util.keystr(path)} is {short(leaf)}, "
                "expected finite numbers"
            )


def assert_zero(tree: Tree, what: str) -> None:
    """Asserts that every entry is exactly zero."""
    for path, leaf in leaves(tree):
        zero = not np.any(_wide(leaf))
        assert zero, f"{what}: {path} is {short(leaf)}, expected exactly zero"


def assert_says(error: Exception, *words: str) -> None:
    """Asserts that the message of an exception has one of the words."""
    if isinstance(error, jax.errors.ConcretizationTypeError):
        raise error  # says nothing about its arguments
    said = any(word in str(error) for word in words)
    assert said, f"the {type(error).__name__} says none of {words}: {error}"


def _numbers(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    return np.asarray(leaf)


def _wide(leaf: Any) -> np.ndarray:
    array = _numbers(jnp.asarray(leaf) if isinstance(leaf, float) else leaf)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        return array.astype(np.complex128)
    return array.astype(np.float64)


def short(leaf: Any) -> str:
    """Returns the first entries of an array."""
    entries = ", ".join(f"{entry:.6g}" for entry in _wide(leaf).ravel()[:4])
    return f"[{entries}{', …' if np.size(leaf) > 4 else ''}]"
