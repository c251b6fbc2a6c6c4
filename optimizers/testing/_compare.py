"""Comparisons of trees, with messages that name the leaf."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optimizers.testing._inputs import Tree

# XLA fuses and reorders operations. If a method subtracts nearly equal sums, as
# distance estimates do, one rounding error grows to a few times 1e-5.
_FUSED = 1e-4
# An update that is a difference of two points has their rounding errors.
_ROUNDING = 2.5e-7


def leaves(tree: Tree) -> Iterator[tuple[str, Any]]:
    """Yields the path, such as `.mu['kernel']`, and the value of every leaf."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path) or "(the whole tree)", leaf


def type_of(leaf: Any) -> str:
    """Returns the dtype, shape and weak type of an array or abstract value."""
    aval = jax.typeof(leaf) if isinstance(leaf, jax.Array) else leaf
    weak = "weak " if getattr(aval, "weak_type", False) else ""
    return f"{weak}{_dtype_and_shape(aval)}"


def _dtype_and_shape(leaf: Any) -> str:
    if not hasattr(leaf, "dtype"):
        return type(leaf).__name__
    return f"{leaf.dtype}{list(leaf.shape)}"


def assert_same_structure(actual: Tree, expected: Tree, what: str) -> None:
    """Asserts that two trees have the same structure."""
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
        got, wanted = _dtype_and_shape(a), _dtype_and_shape(b)
        assert got == wanted, f"{what}: {path} is {got}, expected {wanted}"


def assert_close(
    actual: Tree, expected: Tree, what: str, rtol: float = 1e-5, atol: float = 0.0
) -> None:
    """Asserts |actual - expected| ≤ atol + rtol·(largest |expected| of the leaf).

    Relative to the leaf, not to the entry: adding the terms of a sum in another order
    changes it by an ulp of its largest term.
    """
    assert_same_structure(actual, expected, what)
    for (path, a), (_, b) in zip(leaves(actual), leaves(expected), strict=True):
        x, y = as_wide(a), as_wide(b)
        assert x.shape == y.shape, f"{what}: {path} is {x.shape}, expected {y.shape}"
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            error = float(np.max(np.where(x == y, 0.0, np.abs(x - y)), initial=0.0))
        size = np.abs(y[np.isfinite(y)])
        bound = atol + rtol * float(np.max(size, initial=0.0))
        # Written so that NaN fails.
        assert error <= bound, (
            f"{what}: {path} differs by {error:.3g} (allowed {bound:.3g}): "
            f"got {short(a)}, expected {short(b)}"
        )


def names(path: tuple[Any, ...]) -> list[Any]:
    """Returns the fields and keys on the path to a leaf."""
    found = [getattr(key, "name", getattr(key, "key", None)) for key in path]
    return [name for name in found if name is not None]


def assert_agree(actual: Tree, expected: Tree, what: str) -> None:
    """Asserts that trees are equal up to the rounding of another compiled program."""
    assert_close(actual, expected, what, _FUSED, _ROUNDING)


def assert_same_bits(actual: Tree, expected: Tree, what: str) -> None:
    """Asserts that two trees have the same bits, NaNs included."""
    assert_same_dtypes(actual, expected, what)
    for (path, a), (_, b) in zip(leaves(actual), leaves(expected), strict=True):
        same = as_numpy(a).tobytes() == as_numpy(b).tobytes()
        assert same, f"{what}: {path} is {short(a)}, expected exactly {short(b)}"


def assert_finite(
    tree: Tree,
    what: str,
    may_be_infinite: Callable[[tuple[Any, ...]], bool] = lambda path: False,
) -> None:
    """Asserts that nothing is NaN, or infinite unless its path allows it."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            values = as_wide(leaf)
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
        zero = not np.any(as_wide(leaf))
        assert zero, f"{what}: {path} is {short(leaf)}, expected exactly zero"


def assert_mentions(error: Exception, *words: str) -> None:
    """Asserts that the message of an exception contains one of the words."""
    if isinstance(error, jax.errors.ConcretizationTypeError):
        raise error  # from JAX, not a check of the arguments
    found = any(word in str(error) for word in words)
    expected = " or ".join(map(repr, words))
    assert found, (
        f"the message of the {type(error).__name__} does not contain {expected}: "
        f"{error}"
    )


def as_numpy(leaf: Any) -> np.ndarray:
    """Returns a leaf as a NumPy array; a PRNG key as the integers in it."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def as_wide(leaf: Any) -> np.ndarray:
    """Returns a leaf in float64, or in complex128 if it is complex."""
    array = as_numpy(leaf)
    is_complex = jnp.issubdtype(array.dtype, jnp.complexfloating)
    return array.astype(np.complex128 if is_complex else np.float64)


def short(leaf: Any) -> str:
    """Returns the first four entries of an array as text."""
    entries = ", ".join(f"{entry:.6g}" for entry in as_wide(leaf).ravel()[:4])
    return f"[{entries}{', …' if np.size(leaf) > 4 else ''}]"
