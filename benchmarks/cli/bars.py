"""What a run shows while it runs: bars with the time left, or lines in a log."""

from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.engine import runner
from benchmarks.experiment.plan import Cell, Plan


class Bars(runner.Progress):
    """One bar for all and one for each problem under way; a context manager.

    Where the console is no terminal, a line for each finished problem instead.

    Args:
      console: Where to write.
      weights: Expected seconds of one block, by problem: the bar of all counts
        these, so that its time left holds for problems of different cost.
    """

    def __init__(self, console: Console, weights: Mapping[str, float]) -> None:
        self._console = console
        self._weights = weights
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._all: TaskID | None = None
        self._problems: dict[str, TaskID] = {}
        self._left: Counter[str] = Counter()
        self._budgets: dict[str, int] = {}

    def __enter__(self) -> Self:
        """Starts drawing."""
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Removes the bars."""
        self._bars.stop()

    def planned(self, plan: Plan, finished: set[tuple[str, int]]) -> None:
        """Makes the bars, with what is finished already."""
        seeds = plan.settings.seeds
        blocks = Counter({cell.problem.name: 0 for cell in plan.cells})
        done = Counter(blocks)
        for cell in plan.cells:
            name = cell.problem.name
            self._budgets[name] = plan.settings.budget(cell.problem)
            blocks[name] += len(seeds)
            done[name] += sum((cell.key, seed) in finished for seed in seeds)
        self._left = blocks - done
        if finished:
            self._say(f"{done.total()} of {blocks.total()} blocks are there already")
        weigh = self._weights.__getitem__
        self._all = self._bars.add_task(
            "all",
            total=sum(n * weigh(name) for name, n in blocks.items()),
            completed=sum(n * weigh(name) for name, n in done.items()),
        )
        for name, n in blocks.items():
            self._problems[name] = self._bars.add_task(
                name,
                total=n * self._budgets[name],
                completed=done[name] * self._budgets[name],
                visible=False,
            )

    def advanced(self, cell: Cell, seed: int, steps: int) -> None:
        """Moves the bars."""
        name = cell.problem.name
        share = steps / cell.steps
        advance = share * self._budgets[name]
        self._bars.update(self._problems[name], advance=advance, visible=True)
        self._bars.update(self._all, advance=share * self._weights[name])

    def finished(self, cell: Cell, seed: int) -> None:
        """Hides the bar of a problem that is done."""
        name = cell.problem.name
        self._left[name] -= 1
        if self._left[name] == 0:
            self._bars.update(self._problems[name], visible=False)
            if not self._console.is_terminal:
                self._say(f"{name} done")

    def failed(self, cell: Cell, message: str) -> None:
        """Says which cell is given up, and why."""
        self._say(f"failed: {cell.problem.name} × {cell.optimizer.name}: {message}")

    def _say(self, text: str) -> None:
        self._bars.console.print(text)
