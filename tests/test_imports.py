"""Which packages each part may import; directions inside are import-linter's."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.sync import ROOT

# NumPy is a part of jax's interface: jax's dtypes are NumPy's.
LIBRARY = {"jax", "numpy", "optax", "optimizers"}
TESTING = LIBRARY | {"chex", "hypothesis", "pytest", "rich"}
EXAMPLES = LIBRARY | {"flax"}


def _imported(path: Path) -> Iterator[str]:
    """Top-level packages that a file imports, the standard library aside."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [str(node.module)]
        else:
            continue
        packages = {name.split(".")[0] for name in names}
        yield from packages - sys.stdlib_module_names


def _files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        (
            sorted(set(_files("optimizers")) - set(_files("optimizers/testing"))),
            LIBRARY,
        ),
        (_files("optimizers/testing"), TESTING),
        (_files("examples"), EXAMPLES),
    ],
    ids=["library", "testing", "examples"],
)
def test_only_allowed_packages_are_imported(
    files: list[Path], allowed: set[str]
) -> None:
    assert files
    stray = {
        f"{path.relative_to(ROOT)}: {package}"
        for path in files
        for package in _imported(path)
        if package not in allowed
    }
    assert not stray
