"""What a run tells while it runs."""

from benchmarks.experiment.plan import Cell, Plan


class Progress:
    """What a run tells while it runs; override what you want to hear.

    Calls come from several threads, one at a time.
    """

    def planned(self, plan: Plan, finished: set[tuple[str, int]]) -> None:
        """The run begins; these blocks, as (run key, seed), are there already."""

    def compiled(self, cell: Cell, seconds: float) -> None:
        """A cell's program is ready on one more device."""

    def advanced(self, cell: Cell, seed: int, steps: int) -> None:
        """A block has done that many more steps, in all its lanes."""

    def finished(self, cell: Cell, seed: int) -> None:
        """A block is stored."""

    def failed(self, cell: Cell, message: str) -> None:
        """A cell is given up."""
