"""Settings shared by all tests."""

from collections.abc import Iterator

import hypothesis
import jax
import pytest

# The same examples on every run and machine, and no folder of found ones.
hypothesis.settings.register_profile(
    "deterministic", derandomize=True, database=None, deadline=None, max_examples=25
)
hypothesis.settings.load_profile("deterministic")


@pytest.fixture
def strict_arithmetic() -> Iterator[None]:
    """Arrays of different dtypes or ranks may not meet unasked."""
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        yield


@pytest.fixture
def x64() -> Iterator[None]:
    """64-bit arrays, for the length of one test."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)
