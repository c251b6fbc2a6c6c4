"""The version and the oldest supported versions are stated consistently."""

import importlib.metadata
import re

import pytest

import optimizers
from tools import oldest
from tools.sync import ROOT


def test_version_is_that_of_the_distribution() -> None:
    assert optimizers.__version__ == importlib.metadata.version("verbatim-optimizers")


def test_version_is_that_of_the_citation() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    stated = re.search(r"^version: (.+)$", citation, re.MULTILINE)
    assert stated is not None
    assert stated[1] == optimizers.__version__


def test_oldest_versions_are_the_lower_bounds() -> None:
    pins = oldest.constraints(["jax>=0.8.0", "optax >= 0.2.7"])
    assert pins == ["jax==0.8.0", "optax==0.2.7"]


@pytest.mark.parametrize("dependency", ["jax", "jax==0.8.0", "jax>=0.8,<1", "jax>0.8"])
def test_a_dependency_without_an_oldest_version_is_refused(dependency: str) -> None:
    with pytest.raises(ValueError, match="write it as name>=version"):
        oldest.constraints([dependency])
