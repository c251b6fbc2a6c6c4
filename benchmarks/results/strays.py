"""Stored seed runs that the manifest of a results folder does not list."""

import ast
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiment.plan import Settings, run_key
from benchmarks.experiment.suites import SUITES
from benchmarks.results import blocks, commands, paths


@dataclasses.dataclass(frozen=True)
class Unlisted:
    """A stored seed run that the manifest does not list."""

    path: Path
    ingredients: dict[str, str]

    @property
    def pair(self) -> tuple[str, str]:
        """Problem and optimizer."""
        return self.ingredients["problem"], self.ingredients["optimizer"]

    @property
    def seed(self) -> int:
        """The seed."""
        return paths.seed_of(self.path)


def unlisted(
    out: Path, pairs: set[tuple[str, str]], seeds: set[int]
) -> tuple[Unlisted, ...]:
    """Stored seed runs of other pairs or seeds; unreadable ones are left out."""
    listed = {paths.cell_folder(out, *pair) for pair in pairs}
    files = [
        path
        for path in sorted((out / "runs").glob("*/*/seed-*.parquet"))
        if path.parent not in listed or paths.seed_of(path) not in seeds
    ]
    read = [(path, blocks.read_origin(path)) for path in files]
    return tuple(
        Unlisted(path, origin[1])
        for path, origin in read
        if origin is not None and origin[0] == run_key(origin[1])
    )


def way_to_list(out: Path) -> str:
    """What to do about stored seed runs that the manifest does not list."""
    stored = unlisted(out, set(), set())
    first = stored[0].ingredients
    if any(_grid(s.ingredients) != _grid(first) for s in stored):
        return (
            "its runs have different learning rates or schedules, which cannot share a "
            f"report; move the folders in {out / 'runs'} that are not listed to the "
            "folder runs of a new folder, and call python -m benchmarks report on it"
        )
    seeds = {run.seed for run in stored}
    # The seeds that the command line gives: 0, 1, ... and 100, 101, ...
    tune = max((seed for seed in seeds if seed < 100), default=0)
    test = max((seed for seed in seeds if seed >= 100), default=100)
    rates, schedule = _grid(first)
    settings = Settings(
        learning_rates=ast.literal_eval(rates),
        tune_seeds=tuple(range(tune + 1)),
        test_seeds=tuple(range(100, test + 1)),
        schedule=schedule,
    )
    problems = list(dict.fromkeys(run.pair[0] for run in stored))
    optimizers = list(dict.fromkeys(run.pair[1] for run in stored))
    if suite := commands.suite_of(problems, settings):
        problems = SUITES[suite].problems
    command = commands.run_command(suite, problems, optimizers, settings, out)
    return (
        "this command lists them again; it repeats nothing that is stored, and "
        f"completes the rest: {command}"
    )


def describe(strays: Sequence[Unlisted]) -> str:
    """The number of these seed runs, and of which cells they are."""
    pairs = [
        f"{problem} × {optimizer}" for problem, optimizer in (s.pair for s in strays)
    ]
    runs = f"{len(strays)} seed run{'s' if len(strays) > 1 else ''}"
    return f"{runs} ({some(pairs)})"


def some(names: Sequence[str]) -> str:
    """The first three different names, and how many more there are."""
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _grid(ingredients: dict[str, str]) -> tuple[str, str]:
    return ingredients["learning rates"], ingredients["schedule"]
