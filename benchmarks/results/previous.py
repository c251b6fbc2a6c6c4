"""What a results folder holds before a run, and what becomes of it."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.errors import UserError
from benchmarks.experiment.plan import Cell, Plan
from benchmarks.results import blocks, paths, store, strays
from benchmarks.results import manifest as manifests
from benchmarks.results.manifest import CellEntry, Manifest
from benchmarks.roster.specs import Sweep


def previous_manifest(plan: Plan, out: Path) -> Manifest | None:
    """The manifest that the folder has; None if it has none that can be read.

    Raises:
      UserError: The folder holds results that do not belong in one report with those of
        the plan, or that no manifest lists.
    """
    try:
        found = manifests.read(out)
    except UserError:
        found = None
    pairs = {(cell.problem.name, cell.optimizer.name) for cell in plan.cells}
    seeds = set(plan.settings.seeds)
    listed = pairs
    if found is not None:
        listed = pairs | {(cell.problem, cell.optimizer) for cell in found.cells}
        seeds |= set(found.settings.seeds)
    if others := strays.unlisted(out, listed, seeds):
        msg = (
            f"{out} holds {strays.describe(others)} that no manifest lists: choose "
            f"another folder with --out. Otherwise {strays.way_to_list(out)}"
        )
        raise UserError(msg)
    if found is None:
        return None
    kept = [
        cell
        for cell in found.cells
        if (cell.problem, cell.optimizer) not in pairs
        and paths.block_paths(out, cell.problem, cell.optimizer)
    ]
    reasons = _disagreements(out, kept, plan)
    if kept and found.suite != plan.suite:
        reasons["suite"] += 1
    if reasons:
        names = strays.some([f"{cell.problem} × {cell.optimizer}" for cell in kept])
        msg = (
            f"{out} holds results that this command does not name ({names}) and that "
            "do not belong in one report with those that it does (what differs: "
            f"{', '.join(reasons)}): choose another folder with --out."
        )
        raise UserError(msg)
    _check_sweeps(out, [cell.optimizer for cell in kept], found.sweeps, plan)
    return found


def check_folder(out: Path) -> None:
    """Refuses a folder that holds something, but no results.

    Raises:
      UserError: It does.
    """
    names = [path.name for path in out.glob("[!.]*")]
    others = sorted({*names} - {"manifest.json", "runs"})
    if not others or any((out / "runs").glob("*/*/seed-*.parquet")):
        return
    try:
        found = manifests.read(out)
    except UserError:
        found = None
    if found is None:
        msg = (
            f"{out} is no results folder, but holds {strays.some(others)}: choose an "
            "empty or a new folder with --out."
        )
        raise UserError(msg)


def finished(
    plan: Plan, out: Path, *, fresh: bool = False
) -> tuple[set[tuple[str, int]], list[Path], list[Path]]:
    """Finished seed runs of the plan, as (run key, seed); damaged and stale files.

    Args:
      plan: What will be run.
      out: The results folder.
      fresh: Allow stale files: results of the plan's cells that other code, data or
        settings made.

    Raises:
      UserError: There are such results.
    """
    found, stale, broken, reasons = set(), [], [], Counter()
    for cell in plan.cells:
        names = cell.problem.name, cell.optimizer.name
        done = set()
        for path in paths.block_paths(out, *names):
            origin = blocks.read_origin(path)
            if origin is not None and origin[0] != cell.key:
                stale.append((cell, path))
                reasons.update(_differences(origin[1], cell.ingredients))
            elif origin is None or blocks.read(path) is None:
                broken.append(path)
            else:
                done.add(paths.seed_of(path))
        done &= set(plan.settings.seeds)
        cost = paths.cost_path(out, *names)
        if done and cost.exists() and store.read_cost(cost) is None:
            broken.append(cost)
            done.remove(max(done))  # a seed run that writes the costs again
        found |= {(cell.key, seed) for seed in done}
    if stale and not fresh:
        raise UserError(_stale_message(out, [cell for cell, _ in stale], reasons))
    return found, broken, [path for _, path in stale]


def prepare(
    plan: Plan,
    out: Path,
    *,
    fresh: bool = False,
    damaged: Callable[[Path], None] = lambda path: None,
) -> set[tuple[str, int]]:
    """Removes damaged and stale files; what is `finished` remains.

    Args:
      plan: What will be run.
      out: The results folder.
      fresh: Discard stale files, instead of raising an error.
      damaged: Called with each damaged file.

    Raises:
      UserError: There are stale files.
    """
    found, broken, stale = finished(plan, out, fresh=fresh)
    for path in broken:
        damaged(path)
    for path in (*broken, *stale):
        path.unlink()
    for cell in plan.cells:
        for seed in plan.settings.seeds:
            if (cell.key, seed) in found:
                # Still there if the process was killed right after the last write.
                names = cell.problem.name, cell.optimizer.name
                paths.checkpoint_path(out, *names, seed).unlink(missing_ok=True)
    return found


def merged(out: Path, previous: Manifest | None, description: Manifest) -> Manifest:
    """The manifest of a plan, and of the other results that the folder holds.

    The cells of the previous manifest stay if they hold results or failed, and its
    seeds if they hold results. So nothing that is stored vanishes from the report.
    """
    if previous is None:
        return description
    old, new = previous.settings, description.settings
    cells = {(cell.problem, cell.optimizer): cell for cell in description.cells}
    failed = {(f.problem, f.optimizer): f for f in previous.failed}
    kept = {
        pair: cell
        for cell in previous.cells
        if (pair := (cell.problem, cell.optimizer)) not in cells
        and (pair in failed or paths.block_paths(out, *pair))
    }
    before = previous.suite, old.learning_rates, old.schedule
    if before != (description.suite, new.learning_rates, new.schedule):
        kept = {}  # they only failed, in another run
    held = {
        paths.seed_of(path)
        for pair in (*cells, *kept)
        for path in paths.block_paths(out, *pair)
    } - set(new.seeds)
    settings = dataclasses.replace(
        new,
        tune_seeds=tuple(sorted({*new.tune_seeds, *(held & {*old.tune_seeds})})),
        test_seeds=tuple(sorted({*new.test_seeds, *(held & {*old.test_seeds})})),
    )
    if not kept:
        return dataclasses.replace(description, settings=settings)
    # In the order of the previous manifest: the first optimizer is the reference.
    pairs = dict.fromkeys((c.problem, c.optimizer) for c in previous.cells)
    every = {
        pair: (kept | cells)[pair] for pair in pairs if pair in kept | cells
    } | cells
    problems = {problem for problem, _ in every}
    optimizers = {optimizer for _, optimizer in every}
    skipped = [
        skip
        for skip in previous.skipped
        if (skip.problem, skip.optimizer) not in every
        and skip.problem in problems
        and skip.optimizer in optimizers
    ]
    return dataclasses.replace(
        description,
        settings=settings,
        problems={n: e for n, e in previous.problems.items() if n in problems}
        | description.problems,
        optimizers={n: h for n, h in previous.optimizers.items() if n in optimizers}
        | description.optimizers,
        cells=tuple(every.values()),
        skipped=tuple(dict.fromkeys((*skipped, *description.skipped))),
        failed=tuple(failed[pair] for pair in kept if pair in failed),
        sweeps=_sweeps(previous, description, {optimizer for _, optimizer in kept}),
        command=_both(previous.command, description.command),
    )


def _disagreements(out: Path, kept: Sequence[CellEntry], plan: Plan) -> Counter[str]:
    """What keeps stored results out of one report with those of the plan."""
    of_problem = {cell.problem.name: cell for cell in plan.cells}
    found: Counter[str] = Counter()
    for cell in kept:
        path = paths.block_paths(out, cell.problem, cell.optimizer)[0]
        if (origin := blocks.read_origin(path)) is None:
            continue
        like = of_problem.get(cell.problem, plan.cells[0])
        own = {"optimizer", "optimizer source", "evaluation steps"}
        if cell.problem not in of_problem:
            own |= {"problem", "problem source", "problem data"}
        names = _differences(origin[1], like.ingredients)
        found.update(name for name in names if name not in own)
    return found


def _check_sweeps(
    out: Path, kept: Sequence[str], sweeps: Sequence[Sweep], plan: Plan
) -> None:
    """Refuses a plan that groups optimizers otherwise than the kept results do."""
    before, after = _set_of(sweeps), _set_of(plan.sweeps)
    named = dict.fromkeys(cell.optimizer.name for cell in plan.cells)
    for optimizer, name in itertools.product(dict.fromkeys(kept), named):
        old, new = before.get(optimizer), after.get(name)
        olds = {*old.variants.values()} if old else {optimizer}
        news = {*new.variants.values()} if new else {name}
        if olds != news and (shared := sorted(olds & news)):
            msg = (
                f"{out} holds results of {old.name if old else optimizer!r}, and this "
                f"command names {new.name if new else name!r}; both include "
                f"{shared[0]!r}: name one set with all values, on all problems of the "
                "folder, or choose another folder with --out."
            )
            raise UserError(msg)


def _sweeps(
    previous: Manifest, description: Manifest, kept: set[str]
) -> tuple[Sweep, ...]:
    """The new sweeps, after those of the previous manifest that are not named anew."""
    named = description.optimizers.keys() | _set_of(description.sweeps).keys()
    old = [
        sweep
        for sweep in previous.sweeps
        if kept & (variants := {*sweep.variants.values()}) and not variants & named
    ]
    return (*old, *description.sweeps)


def _set_of(sweeps: Sequence[Sweep]) -> dict[str, Sweep]:
    """By variant, its sweep."""
    return {variant: sweep for sweep in sweeps for variant in sweep.variants.values()}


def _differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    return [name for name in new if old.get(name) != new[name]]


def _both(first: str, second: str) -> str:
    """Two command lines as one; the first may hold the second already."""
    lines = first.split(" && ")
    return " && ".join(lines if second in lines else [*lines, second])


def _stale_message(out: Path, cells: list[Cell], reasons: Counter[str]) -> str:
    names = strays.some([f"{c.problem.name} × {c.optimizer.name}" for c in cells])
    runs = f"{len(cells)} seed run{'s' if len(cells) > 1 else ''}"
    return (
        f"{out} holds results of {runs} made by other code, data or settings ({names}; "
        f"what differs: {', '.join(reasons)}): choose another folder with --out, or "
        "discard these results, and no others, with --fresh."
    )
