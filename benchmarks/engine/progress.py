"""Progress callbacks of a run."""

from pathlib import Path

from benchmarks.experiment.plan import Cell, Plan


class Progress:
    """Progress callbacks; override the ones you need.

    They are called from several threads, one call at a time.
    """

    def damaged(self, path: Path) -> None:
        """A stored file is damaged, and is removed; its seed run is repeated."""

    def planned(self, plan: Plan, finished: set[tuple[str, int]]) -> None:
        """The run begins; `finished` seed runs, as (run key, seed), are stored."""

    def compiled(self, cell: Cell, seconds: float) -> None:
        """A cell's program is compiled for one more device."""

    def advanced(self, cell: Cell, seed: int, steps: int) -> None:
        """A seed run has done `steps` more steps, at every learning rate."""

    def finished(self, cell: Cell, seed: int) -> None:
        """A seed run is finished and stored."""

    def failed(self, cell: Cell, message: str) -> None:
        """A cell has failed; its remaining seeds are skipped."""
