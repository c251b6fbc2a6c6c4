"""The pytest plugin of optimizers.testing: golden trajectories and their updates.

This module is not in the package because pytest loads it in every run where the package
is installed: `import optimizers` would import jax before a conftest.py can set
JAX_PLATFORMS.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

# The test that uses each file.
_OWNERS = pytest.StashKey[dict[Path, str]]()

# The outcome of a file is a user property of its test, which pytest-xdist sends from
# its workers to the summary.
_PROPERTY = "golden_trajectory"

# Options that may deselect tests of a module.
_PARTIAL = ("keyword", "markexpr", "deselect", "lf", "maxfail", "stepwise")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --update-golden."""
    parser.getgroup("optimizers").addoption(
        "--update-golden",
        action="store_true",
        help="record golden trajectories that are missing or have changed, and show "
        "the changes; select one with -k NAME",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuses to record in continuous integration, where no test could then fail."""
    ci = os.environ.get("CI", "")
    if config.getoption("update_golden") and ci.lower() not in ("", "0", "false"):
        msg = (
            f"--update-golden with CI={ci}: a file recorded in continuous integration "
            "matches by construction. Record it on your machine and commit it."
        )
        raise pytest.UsageError(msg)
    config.stash[_OWNERS] = {}


@pytest.fixture
def golden_trajectory(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Asserts that an optimizer gives the numbers in its golden file.

        def test_numbers_stay(golden_trajectory):
            golden_trajectory(my_optimizer, b1=0.95)

    The file is named after the test's module and the optimizer:
    tests/test_mine/my_optimizer-b1=0.95.json for tests/test_mine.py. Pass `name=` if
    that is not unique, or if the argument is a transformation and not a factory. The
    other arguments are those of `optimizers.testing.assert_matches_golden`.

    `pytest --update-golden` records files that are missing or no longer match; add
    `-k NAME` to record those of some tests only.
    """
    used: set[Path] = set()

    def check(
        optimizer: Any,
        *,
        name: str | None = None,
        rtol: Mapping[str, float] | None = None,
        scenarios: Iterable[str] | None = None,
        **kwargs: Any,
    ) -> None:
        __tracebackhide__ = True
        from optimizers import testing  # imports jax

        if name is None and hasattr(optimizer, "update"):
            pytest.fail("golden_trajectory: a transformation needs name=.", False)
        path = _path(request, name or testing.Case(optimizer, kwargs).name)
        owner = request.config.stash[_OWNERS].setdefault(path, request.node.nodeid)
        if path in used or owner != request.node.nodeid:
            msg = (
                f"golden_trajectory: {path.name} already belongs to {owner}; pass "
                "name= to one of the two."
            )
            pytest.fail(msg, False)
        used.add(path)
        options: dict[str, Any] = {"rtol": rtol, "scenarios": scenarios, **kwargs}
        if request.config.getoption("update_golden"):
            change = testing.update_golden(optimizer, path, **options)
            request.node.user_properties.append((_PROPERTY, _summary(path, change)))
        else:
            testing.assert_matches_golden(optimizer, path, **options)

    return check


def _path(request: pytest.FixtureRequest, name: str) -> Path:
    stem = re.sub(r"[^\w.=+-]+", "-", name).strip("-")
    return request.path.with_suffix("") / f"{stem}.json"


def _summary(path: Path, change: Any) -> dict[str, Any]:
    """Returns the rows of the summary for a file, in types that can be serialized."""
    if change is None:
        return {"path": str(path), "outcome": "recorded", "rows": []}
    rows = [
        (quantity, f"{move.relative_error:.2g}", str(move))
        for quantity, move in change.largest.items()
    ]
    rows += [("leaves", "", text) for text in change.structure]
    return {
        "path": str(path),
        "outcome": "moved" if change else "unchanged",
        "rows": rows,
    }


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Shows the files that --update-golden recorded, and those that no test used."""
    updates = {update["path"]: update for update in _updates(terminalreporter)}
    if not updates:
        return
    outcomes = [update["outcome"] for update in updates.values()]
    counts = [
        f"{outcomes.count(outcome)} {outcome}"
        for outcome in ("moved", "recorded", "unchanged")
    ]
    terminalreporter.section(f"golden trajectories: {', '.join(counts)}")
    table = [("file", "part", "change", "largest change: recorded → now")]
    for path, update in sorted(updates.items()):
        file = os.path.relpath(path, config.rootpath)
        if update["outcome"] == "recorded":
            table.append((file, "all", "", "new"))
        for what, change, where in update["rows"]:
            table.append((file, what, change, where))
            file = ""
    if not _is_partial(config):
        for path in _unused(updates):
            file = os.path.relpath(path, config.rootpath)
            table.append((file, "all", "", "not used by any test: delete it"))
    if len(table) > 1:
        widths = [
            max(map(len, column)) for column in list(zip(*table, strict=True))[:3]
        ]
        for *cells, last in table:
            padded = [cell.ljust(n) for cell, n in zip(cells, widths, strict=True)]
            terminalreporter.line("  ".join([*padded, last]))


def _updates(terminalreporter: pytest.TerminalReporter) -> Iterator[dict[str, Any]]:
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == _PROPERTY:
                    yield value


def _is_partial(config: pytest.Config) -> bool:
    chosen = any("::" in argument for argument in config.args)
    return chosen or any(config.getoption(name, None) for name in _PARTIAL)


def _unused(used: Iterable[str]) -> list[Path]:
    folders = {Path(path).parent for path in used}
    files = {file for folder in folders for file in folder.glob("*.json")}
    return sorted(files - set(map(Path, used)))
