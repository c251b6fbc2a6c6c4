"""Strategies draw the requested numbers, exact in their dtype, and shrink to zeros."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import find, given, settings

from optimizers import testing
from optimizers.testing import strategies

DTYPES = ["float32", "bfloat16", "float16", "float64"]


def _smallest(dtype: str) -> float:
    return float(jnp.finfo(dtype).smallest_normal)


def _is_zero(x: float, dtype: str) -> bool:
    return x == 0.0


def _is_ordinary(x: float, dtype: str) -> bool:
    return 1e-3 < abs(x) <= 8.0


def _is_spike(x: float, dtype: str) -> bool:
    return abs(x) >= 0.99 * float(jnp.finfo(dtype).max) ** 0.5 and np.isfinite(x)


def _is_denormal(x: float, dtype: str) -> bool:
    return 0.0 < abs(x) < _smallest(dtype)


def _is_infinity(x: float, dtype: str) -> bool:
    return bool(np.isinf(x))


def _is_nan(x: float, dtype: str) -> bool:
    return bool(np.isnan(x))


OF_KIND: dict[str, Callable[[float, str], bool]] = {
    "zero": _is_zero,
    "ordinary": _is_ordinary,
    "spike": _is_spike,
    "denormal": _is_denormal,
    "infinity": _is_infinity,
    "nan": _is_nan,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", strategies.KINDS)
def test_entries_are_of_their_kind_in_every_dtype(kind: str, dtype: str) -> None:
    @settings(max_examples=20)
    @given(strategies.entries(dtype, [kind]))
    def check(x: float) -> None:
        assert OF_KIND[kind](x, dtype)
        exact = np.asarray(x).astype(jnp.dtype(dtype))
        np.testing.assert_array_equal(exact.astype(np.float64), x)

    check()


@pytest.mark.parametrize("kind", strategies.KINDS)
def test_every_kind_occurs_and_the_rest_shrinks_to_zero(kind: str) -> None:
    params = np.zeros(3, np.float32)
    drawn = strategies.gradients(params, steps=4, kinds=("zero", kind))
    found = find(drawn, lambda g: any(OF_KIND[kind](x, "float32") for x in g.flat))
    of_kind = [OF_KIND[kind](x, "float32") for x in found.flat]
    assert found.shape == (4, 3)
    # One number, alone or everywhere: that is the simplest array that has it.
    assert sum(of_kind) in (1, 12) or kind == "zero"


def test_both_signs_and_the_extremes_occur() -> None:
    info = jnp.finfo("float32")
    for extreme in (
        float(info.max),
        -float(info.max),
        float(info.smallest_subnormal),
        -np.inf,
    ):
        x = find(
            strategies.entries("float32", strategies.KINDS),
            lambda x, extreme=extreme: x == extreme,
        )
        assert x == extreme


@given(strategies.sequences())
def test_entries_are_finite_by_default(sequence: testing.Sequence) -> None:
    for x in jax.tree.leaves(tuple(sequence)):
        assert np.isfinite(x.astype(np.float64)).all()
        assert x.dtype in (jnp.float32, jnp.bfloat16)


@given(strategies.sequences(steps=3, dtypes=strategies.dtypes(["float16"])))
def test_gradients_fit_their_start(sequence: testing.Sequence) -> None:
    start, gradients = sequence
    shapes = jax.tree.map(lambda x: x.shape, start)
    assert shapes in [
        jax.tree.map(lambda s: s, tree, is_leaf=lambda node: type(node) is tuple)
        for tree in strategies.SHAPES
    ]
    jax.tree.map(lambda x, g: np.testing.assert_equal(g.shape[1:], x.shape), *sequence)
    assert {g.shape[0] for g in jax.tree.leaves(gradients)} == {3}
    assert {x.dtype for x in jax.tree.leaves(tuple(sequence))} == {jnp.dtype("float16")}


def test_the_simplest_sequence_is_a_zero_scalar() -> None:
    start, gradients = find(strategies.sequences(), lambda _: True)
    assert (start.shape, start.dtype) == ((), np.float32)
    assert not start.any()
    assert not gradients.any()


def test_custom_trees_and_dtypes() -> None:
    one = strategies.trees(st.just([(2,), ()]), st.just("float64"), ["ordinary"])

    @settings(max_examples=5)
    @given(one)
    def check(tree: Any) -> None:
        assert [(x.shape, x.dtype) for x in tree] == [((2,), "f8"), ((), "f8")]

    check()
    abstract = jax.ShapeDtypeStruct((2,), jnp.bfloat16)
    g = find(strategies.gradients({"w": abstract}, steps=2), lambda _: True)["w"]
    assert (g.shape, g.dtype) == ((2, 2), jnp.bfloat16)


def test_infinite_complex_numbers_have_no_stray_nan() -> None:
    params = np.zeros(2, np.complex64)

    @settings(max_examples=20)
    @given(strategies.gradients(params, kinds=("zero", "ordinary", "infinity")))
    def check(g: np.ndarray) -> None:
        assert g.dtype == np.complex64
        assert not np.isnan(g).any()

    check()
    g = find(strategies.gradients(params, steps=2), lambda g: (g.imag != 0).any())
    assert not g.real.any()


@pytest.mark.parametrize("kinds", [(), ("zero", "huge")])
def test_unknown_kinds_are_rejected(kinds: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"kinds must be one or more of .*'denormal'"):
        strategies.entries("float32", kinds)


def test_only_strategies_need_hypothesis() -> None:
    code = """
import sys
sys.modules["hypothesis"] = None
from optimizers import testing
testing.assert_descends
try:
    from optimizers.testing import strategies
except ImportError as error:
    assert "hypothesis" in str(error), error
else:
    raise AssertionError("imported without hypothesis")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
