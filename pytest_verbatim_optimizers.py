"""The pytest plugin of optimizers.testing: golden trajectories and their updates.

A module beside the package and not in it, because pytest loads it in every run where
the package is installed: `import optimizers` would bring jax, and a conftest.py that
sets JAX_PLATFORMS would come too late.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

# The test that each file belongs to.
_OWNERS = pytest.StashKey[dict[Path, str]]()

# What happened to a file is a property of its test: so it reaches the summary also
# from the workers of pytest-xdist.
_PROPERTY = "golden_trajectory"

# Options with which a run leaves out tests of a module.
_PARTIAL = ("keyword", "markexpr", "deselect", "lf", "maxfail", "stepwise")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --update-golden."""
    parser.getgroup("optimizers").addoption(
        "--update-golden",
        action="store_true",
        help="record golden trajectories that are missing or moved, and show what did",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuses to record where nobody looks at the result."""
    ci = os.environ.get("CI", "")
    if config.getoption("update_golden") and ci.lower() not in ("", "0", "false"):
        msg = (
            f"--update-golden with CI={ci}: a file that is recorded where it is "
            "compared agrees with everything. Record on your machine and commit."
        )
        raise pytest.UsageError(msg)
    config.stash[_OWNERS] = {}


@pytest.fixture
def golden_trajectory(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Asserts that an optimizer does what it did when its golden file was recorded.

        def test_numbers_stay(golden_trajectory):
            golden_trajectory(my_optimizer, b1=0.95)

    The file lies in a folder called like the test's module, and is called like the
    optimizer: tests/test_mine/my_optimizer-b1=0.95.json for tests/test_mine.py. Where
    that is not enough, or the argument is a transformation and not a factory, there
    is `name=`. All else is as for `optimizers.testing.assert_matches_golden`.

    Under `pytest --update-golden` files that are missing or moved are recorded.
    """
    used: set[Path] = set()

    def check(
        optimizer: Any,
        *,
        name: str | None = None,
        rtol: Mapping[str, float] | None = None,
        cases: Iterable[str] | None = None,
        **kwargs: Any,
    ) -> None:
        __tracebackhide__ = True
        from optimizers import testing  # not earlier: it imports jax

        if name is None and hasattr(optimizer, "update"):
            pytest.fail("golden_trajectory: a transformation needs a name=.", False)
        path = _path(request, name or testing.Case(optimizer, kwargs).name)
        owner = request.config.stash[_OWNERS].setdefault(path, request.node.nodeid)
        if path in used or owner != request.node.nodeid:
            msg = (
                f"golden_trajectory: {path.name} already belongs to {owner}; give one "
                "of the two a name=."
            )
            pytest.fail(msg, False)
        used.add(path)
        options: dict[str, Any] = {"rtol": rtol, "cases": cases, **kwargs}
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
    """Returns what a line or two of the summary say, in types that can travel."""
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
    """Shows what --update-golden did, and which files no test used."""
    updates = {update["path"]: update for update in _updates(terminalreporter)}
    if not updates:
        return
    outcomes = [update["outcome"] for update in updates.values()]
    counts = [
        f"{outcomes.count(outcome)} {outcome}"
        for outcome in ("moved", "recorded", "unchanged")
    ]
    terminalreporter.section(f"golden trajectories: {', '.join(counts)}")
    table = [("file", "what", "change", "where it changed most: recorded → now")]
    for path, update in sorted(updates.items()):
        file = os.path.relpath(path, config.rootpath)
        if update["outcome"] == "recorded":
            table.append((file, "all", "", "is new"))
        for what, change, where in update["rows"]:
            table.append((file, what, change, where))
            file = ""
    if not _is_partial(config):
        for path in _unused(updates):
            file = os.path.relpath(path, config.rootpath)
            table.append((file, "all", "", "was used by no test: delete it"))
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
