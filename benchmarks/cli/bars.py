"""Shows the progress of a run: bars with the time left, or lines in a log."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from benchmarks.cli import show
from benchmarks.engine.progress import Progress
from benchmarks.experiment.plan import Cell, Plan


class Bars(Progress):
    """A bar for the whole run and one for each active problem; a context manager.

    If the console is not a terminal, prints a line for each finished problem instead.

    Args:
      console: Where to write.
      weights: Relative cost of one optimizer on a problem, by problem. The bar of the
        whole run is weighted by it, so that the time left is realistic.
    """

    def __init__(self, console: Console, weights: Mapping[str, float]) -> None:
        self._console = console
        self._weights = weights
        self._bars = RichProgress(
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
        self._all = self._bars.add_task("all", total=None, visible=False)
        self._problems: dict[str, TaskID] = {}
        self._left: Counter[str] = Counter()

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

    def damaged(self, path: Path) -> None:
        """Prints which file is damaged."""
        self._print(f"damaged: {path}; its run is repeated")

    def planned(self, plan: Plan, finished: set[tuple[str, int]]) -> None:
        """Makes the bars, and says how many runs are already done."""
        seeds = plan.settings.seeds
        total = Counter({cell.problem.name: 0 for cell in plan.cells})
        done = Counter(total)
        for cell in plan.cells:
            total[cell.problem.name] += len(seeds)
            done[cell.problem.name] += sum(
                (cell.key, seed) in finished for seed in seeds
            )
        self._left = total - done
        if finished:
            self._print(show.done_line(plan, finished))
        self._bars.update(
            self._all,
            total=sum(n * self._weights[name] for name, n in total.items()),
            completed=sum(n * self._weights[name] for name, n in done.items()),
            visible=True,
        )
        for name, n in total.items():
            self._problems[name] = self._bars.add_task(name, total=n, visible=False)
            self._bars.update(self._problems[name], completed=done[name])

    def advanced(self, cell: Cell, seed: int, steps: int) -> None:
        """Moves the bars."""
        name, fraction = cell.problem.name, steps / cell.steps
        self._bars.update(self._problems[name], advance=fraction, visible=True)
        self._bars.update(self._all, advance=fraction * self._weights[name])

    def finished(self, cell: Cell, seed: int) -> None:
        """Hides the bar of a finished problem."""
        name = cell.problem.name
        self._left[name] -= 1
        if self._left[name] == 0:
            self._bars.update(self._problems[name], visible=False)
            if not self._console.is_terminal:
                self._print(f"{name} done")

    def failed(self, cell: Cell, message: str) -> None:
        """Prints which cell failed, and why."""
        self._print(f"failed: {cell.problem.name} × {cell.optimizer.name}: {message}")

    def _print(self, text: str) -> None:
        self._bars.console.print(text)
