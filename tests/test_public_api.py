"""The public names, signatures and state fields change only on purpose."""

from pathlib import Path

import pytest

import optimizers
from tools import package_init, public_api, sync


def test_package_exports_the_public_names_of_its_modules() -> None:
    assert sync.PACKAGE.read_text() == package_init.render(), (
        "optimizers/__init__.py differs from the __all__ of its modules; run make sync."
    )


def test_a_module_without_public_names_is_named(tmp_path: Path) -> None:
    (tmp_path / "_first.py").write_text('__all__ = ["adam"]')
    (tmp_path / "_second.py").write_text("import jax")
    with pytest.raises(ValueError, match=r"optimizers/_second\.py: no __all__"):
        package_init.render(tmp_path)


def test_two_modules_may_not_share_a_public_name(tmp_path: Path) -> None:
    for name in ("_first", "_second"):
        (tmp_path / f"{name}.py").write_text('__all__ = ["adam"]')
    with pytest.raises(ValueError, match=r"'adam' is public in both .*_first\.py"):
        package_init.render(tmp_path)


def test_public_api_is_the_recorded_one() -> None:
    assert public_api.render().splitlines() == sync.API.read_text().splitlines(), (
        "The public API differs from tests/public_api.txt; if that is meant, "
        "run make sync and tell users in CHANGELOG.md."
    )


def test_all_is_sorted_and_complete() -> None:
    public = {name for name in vars(optimizers) if not name.startswith("_")}
    assert optimizers.__all__ == sorted(optimizers.__all__)
    assert public - {"catalog", "testing"} == set(optimizers.__all__)
