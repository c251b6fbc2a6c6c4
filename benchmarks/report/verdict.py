"""The abstract of the report: findings, their uncertainty, failures, limitations.

Paragraphs are plain text with names in backquotes.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.analysis.accuracies import Accuracy
from benchmarks.analysis.comparison import MIN_PROBLEMS, MIN_SEEDS, Comparison, Pair
from benchmarks.analysis.fronts import ParetoFront, closed_form_at_level
from benchmarks.analysis.stats import ALPHA, MISSED, CellStats
from benchmarks.analysis.summary import Analysis
from benchmarks.report.formats import (
    factor,
    factors,
    interval,
    number,
    percent,
    percentage_points,
)
from benchmarks.results.manifest import FrontEntry


class Paragraph(NamedTuple):
    """A paragraph of the abstract."""

    heading: str
    text: str


def verdict(analysis: Analysis) -> list[Paragraph]:
    """What was run and counted, what follows from it, and what does not."""
    comparison = analysis.comparison
    found = [Paragraph("What was run", setup(analysis))]
    if analysis.scored:
        found.append(Paragraph("What is counted", measure(comparison)))
    if comparison is not None:
        found.append(Paragraph("Verdict", speeds(comparison, analysis)))
        found.append(Paragraph("By problem", winners(analysis.tuned, comparison)))
    elif analysis.scored:
        text = "Nothing can be compared yet: no optimizer has finished every problem."
        if analysis.fallbacks:
            text = f"{text[:-1]} without a fallback (‡)."
        found.append(Paragraph("Verdict", text))
    for problem, fronts in analysis.fronts.items():
        entry = analysis.manifest.problems[problem].front
        if entry is not None:
            found.append(Paragraph(f"On {problem}", of_fronts(entry, fronts)))
    for problem in analysis.accuracies:
        found.append(Paragraph(f"On {problem}", of_accuracies(analysis, problem)))
    found.append(Paragraph("Tuned arguments", " ".join(chosen_values(analysis))))
    found.append(Paragraph("Fallbacks", " ".join(fallbacks(analysis))))
    found.append(Paragraph("Failures", failures(analysis)))
    found.append(Paragraph("Limitations", limitations(analysis)))
    return [paragraph for paragraph in found if paragraph.text]


def setup(analysis: Analysis) -> str:
    """What was run, how learning rates were chosen, and when differences are tested."""
    manifest, settings = analysis.manifest, analysis.manifest.settings
    grid, tune = (
        settings.learning_rates,
        counted(len(settings.tune_seeds), "tuning seed"),
    )
    verb = "was" if len(manifest.optimizers) == 1 else "were"
    rates = f"{len(grid)} values from {min(grid):g} to {max(grid):g}"
    if len(grid) == 1:
        chosen = f"The learning rate is {grid[0]:g}, without tuning."
    elif analysis.scored or analysis.accuracies:
        criterion = "has the lowest final error"
        if analysis.scored:
            criterion = "reaches the targets with the fewest gradients"
        chosen = (
            "The learning rate of each optimizer on each problem is the one of "
            f"{rates} that {criterion} on {tune}."
        )
    else:
        chosen = (
            "A Pareto front consists of the weights and learning rates "
            f"({rates}) that are not dominated on {tune}."
        )
    return (
        f"{counted(len(manifest.optimizers), 'optimizer')} {verb} run on "
        f"{counted(len(manifest.problems), 'problem')} ({settings.schedule} schedule). "
        f"{chosen} All results are those of "
        f"{counted(len(settings.test_seeds), 'other seed')}, the evaluation seeds. "
        f"Differences are tested only with at least {MIN_SEEDS} of them."
    )


def measure(comparison: Comparison | None) -> str:
    """What a target, a speed-up and a significant difference are."""
    text = (
        "Each problem has five targets, losses from easy to hard; the third is the "
        "middle target. Gradients are counted until a run is at or below a target for "
        "the first time, even if it ends above (interpolated between evaluations, at "
        f"least 1). A missed target counts as {MISSED:g} budgets."
    )
    if comparison is None or len(comparison.optimizers) < 2:
        return text
    text += (
        f" The speed-up of an optimizer is the gradients of the baseline "
        f"`{comparison.reference}` divided by its own, as a geometric mean over "
        "problems, seeds and targets: 2 is twice as fast."
    )
    if comparison.p_values is None:
        return text
    pairs = counted(len(comparison.pairs), "pair")
    return (
        f"{text} Significant means at the 5 % level, in sign-flip tests paired by "
        f"problem and seed, with Holm's correction for all {pairs} of optimizers."
    )


def leader(comparison: Comparison) -> str:
    """The fastest optimizer; the reference unless another is faster as printed."""
    first, speedup = comparison.optimizers[0], comparison.speedup[0]
    return first if f"{speedup:.2f}" != "1.00" else comparison.reference


def speeds(comparison: Comparison, analysis: Analysis) -> str:
    """The fastest optimizer on these problems, and what to expect on others."""
    names, left = comparison.optimizers, left_out(comparison, analysis)
    if len(names) < 2:
        return (
            f"Only {listed(names)} finished every problem, so there is nothing to "
            f"compare it with. {left}"
        ).strip()
    cells = [analysis.cells[p, name] for p in comparison.problems for name in names]
    if not any(np.isfinite(cell.needed).any() for cell in cells):
        return (
            "No run reached any target, so nothing can be said about speed. The final "
            "losses are in the table."
        )
    parts = [f"On {_these(comparison)} {on_these_problems(comparison)}"]
    if comparison.p_values is None:
        parts.append(
            f"With {counted(comparison.seeds, 'evaluation seed')} no difference was "
            "tested for significance, so the order describes these runs only."
        )
    else:
        parts.append(f"On other problems of this kind {on_other_problems(comparison)}")
    for original in dict.fromkeys(analysis.identical.values()):
        copies = [name for name, of in analysis.identical.items() if of == original]
        parts.append(f"{listed([original, *copies])} gave identical results.")
    return " ".join([*parts, left]).strip()


def left_out(comparison: Comparison, analysis: Analysis) -> str:
    """The optimizers that are not compared, and why; empty if all are."""
    left = [name for name in analysis.ranked if name not in comparison.optimizers]
    fallen = {optimizer for _, optimizer in analysis.fallbacks}
    reasons = {
        "falling back to another method on a problem": [n for n in left if n in fallen],
        "runs that failed or are missing": [n for n in left if n not in fallen],
    }
    return " ".join(
        f"Not compared, because of {reason}: {listed(names)}."
        for reason, names in reasons.items()
        if names
    )


def on_these_problems(comparison: Comparison) -> str:
    """The fastest optimizer, and those that it is significantly faster than."""
    reference, best = comparison.reference, leader(comparison)
    tested = comparison.p_values is not None
    if best == reference:
        text = f"no optimizer was faster on average than the baseline `{reference}`."
    else:
        text = (
            f"`{best}` was the fastest: it reached the targets "
            f"{factor(comparison.speedup[0])} times as fast as the baseline "
            f"`{reference}`"
        )
        if tested:
            text += f" (95 % confidence interval {factors(comparison.interval[0])})"
            if not comparison.pair(best, reference).significant:
                text += ", which is not significant after the correction for all pairs"
        text += "."
    if not tested:
        return text
    pairs = {n: comparison.pair(best, n) for n in comparison.optimizers if n != best}
    # A baseline that leads may be slower than another by less than is printed.
    alike = [n for n, p in pairs.items() if not p.significant or p.first != best]
    subject = "The baseline" if best == reference else "It"
    if not alike:
        return f"{text} {subject} is significantly faster than every other optimizer."
    if len(alike) == len(pairs):
        return f"{text} {subject} is not significantly faster than any other."
    return (
        f"{text} {subject} is significantly faster than the {len(pairs)} others except "
        f"{listed(alike)}."
    )


def on_other_problems(comparison: Comparison) -> str:
    """What can be expected where the problems are others."""
    reference, best = comparison.reference, leader(comparison)
    if np.isnan(comparison.wide_interval).all():
        return (
            f"nothing can be said: that takes at least {MIN_PROBLEMS} problems, not "
            f"{len(comparison.problems)}."
        )
    if best == reference:
        text = "none can be expected to be faster either."
    else:
        pair = comparison.pair(best, reference)
        resampled = (
            "with the problems resampled too, the interval is "
            f"{factors(pair.wide_interval)}"
        )
        if pair.carries_over:
            text = f"the same can be expected: {resampled}."
        elif pair.significant:
            text = (
                f"this lead is not established: {resampled}, so `{best}` may be slower "
                "than the baseline there."
            )
        else:
            text = (
                f"no lead of `{best}` is to be expected, because its difference from "
                "the baseline is not significant even on these."
            )
    others = [n for n in comparison.optimizers if n != reference]
    pairs = [comparison.pair(n, reference) for n in others]
    here = _faster_and_slower([p for p in pairs if p.significant], reference)
    there = _faster_and_slower([p for p in pairs if p.carries_over], reference)
    return (
        f"{text} Against the baseline, on these problems: {here[0]} of {len(others)} "
        f"significantly faster, {here[1]} slower; on others: {there[0]} expected to be "
        f"faster, {there[1]} slower."
    )


def _faster_and_slower(pairs: Sequence[Pair], reference: str) -> tuple[int, int]:
    """How many optimizers are faster than the reference in these pairs, and slower."""
    slower = sum(pair.first == reference for pair in pairs)
    return len(pairs) - slower, slower


def _these(comparison: Comparison) -> str:
    count = len(comparison.problems)
    return "this problem" if count == 1 else f"these {count} problems"


def winners(tuned: dict[str, dict[str, CellStats]], comparison: Comparison) -> str:
    """The optimizers with the fewest median gradients, of those that may lead."""
    won: dict[tuple[str, ...], list[str]] = {}
    for problem in comparison.problems:
        cells = tuned[problem]
        names = dict.fromkeys((*comparison.optimizers, *cells))
        medians = {
            name: cells[name].middle_interval.median
            for name in names
            if name in cells and cells[name].may_lead
        }
        least = min(medians.values(), default=math.inf)
        first = tuple(n for n, m in medians.items() if m == least < math.inf)
        won.setdefault(first, []).append(problem)
    parts = [
        f"{listed(names) or 'no optimizer'} on {', '.join(problems)}"
        for names, problems in sorted(won.items(), key=lambda item: -len(item[1]))
    ]
    return (
        "Fewest median gradients to the middle target, among optimizers with at least "
        f"half of their seeds below it at the end: {'; '.join(parts)}."
    )


def fallbacks(analysis: Analysis) -> list[str]:
    """A sentence for each group of optimizers that fall back to another method."""
    problems: dict[tuple[str, str], list[str]] = {}
    for (problem, optimizer), reason in analysis.fallbacks.items():
        problems.setdefault((optimizer, reason), []).append(problem)
    alike: dict[tuple[str, str], list[str]] = {}
    for (optimizer, reason), names in problems.items():
        alike.setdefault((", ".join(names), reason), []).append(optimizer)
    return [
        f"{listed(optimizers)} {'falls' if len(optimizers) == 1 else 'fall'} back to "
        f"another method (‡) on {names}, and {'is' if len(optimizers) == 1 else 'are'} "
        f"left out of comparisons and figures there: {reason}."
        for (names, reason), optimizers in alike.items()
    ]


def chosen_values(analysis: Analysis) -> list[str]:
    """A sentence for each optimizer with an argument tuned beside the learning rate."""
    sentences = []
    for sweep in analysis.manifest.sweeps:
        problems: dict[str, list[str]] = {}
        for (problem, optimizer), value in analysis.chosen.items():
            if optimizer == sweep.name:
                problems.setdefault(value, []).append(problem)
        found = "; ".join(f"{v} on {', '.join(names)}" for v, names in problems.items())
        sentences.append(
            f"`{sweep.name}`: {sweep.argument} was chosen with the learning rate on "
            f"the tuning seeds, from {len(sweep.variants)} values and so with "
            f"{len(sweep.variants)} times as many tuning runs: {found or 'not yet'}."
        )
    return sentences


def failures(analysis: Analysis) -> str:
    """Failed and missing cells, diverged runs, grid boundaries, missed targets."""
    manifest = analysis.manifest
    problems = (*analysis.scored, *analysis.accuracies)
    cells = [c for c in analysis.cells.values() if c.problem in problems]
    scored = [c for c in cells if c.problem in analysis.scored]
    parts = []
    if cells:
        runs = sum(len(cell.seeds) for cell in cells)
        diverged = sum(int(cell.diverged.sum()) for cell in cells)
        boundary = sum(bool(cell.grid_boundary) for cell in cells)
        parts.append(
            f"{diverged} of {counted(runs, 'evaluated run')} diverged (†)."
            if diverged
            else f"None of {counted(runs, 'evaluated run')} diverged."
        )
        parts.append(
            f"In {boundary} of {counted(len(cells), 'cell')} (optimizer × problem) the "
            "best learning rate lies at the grid boundary (◊), so a better one may lie "
            "outside."
            if boundary
            else "No best learning rate lies at the grid boundary."
        )
        asked = len(problems) * len(manifest.optimizers)
        if len(cells) < asked:
            parts.append(f"{asked - len(cells)} of {asked} cells have no result.")
    if scored:
        missed = sum(math.isinf(cell.middle_interval.median) for cell in scored)
        parts.append(
            f"In {counted(missed, 'cell')} the median run misses the middle target (∅)."
            if missed
            else "The median run reaches the middle target in every cell."
        )
        left = Counter(c.problem for c in scored if 2 * c.left.sum() >= len(c.seeds))
        if left:
            where = ", ".join(f"{n} on {problem}" for problem, n in left.items())
            parts.append(
                f"In {counted(left.total(), 'cell')} at least half of the seeds reach "
                f"the middle target and end above it (↑): {where}."
            )
    if manifest.failed:
        parts.append(f"{counted(len(manifest.failed), 'cell')} failed with an error.")
    if manifest.skipped:
        was = "was" if len(manifest.skipped) == 1 else "were"
        parts.append(f"{counted(len(manifest.skipped), 'cell')} {was} skipped.")
    compared = analysis.comparison.optimizers if analysis.comparison else ()
    other = {o for p, o in analysis.fallbacks if p in analysis.scored}
    left_out = [n for n in manifest.optimizers if n not in (*compared, *other)]
    if compared and left_out:
        parts.append(
            "Left out of the comparison, because not every problem is finished: "
            f"{listed(left_out)}."
        )
    return " ".join(parts)


def limitations(analysis: Analysis) -> str:
    """The conclusions that the suite does not support."""
    text = (
        "The problems are small, so the results may not carry over to large models or "
        "long training. Only the learning rate is tuned"
        f"{', and weights for Pareto fronts' if analysis.fronts else ''}"
        f"{', and the arguments named above' if analysis.manifest.sweeps else ''}; "
        "every other hyperparameter keeps its default. Budgets count gradients, so an "
        "optimizer that takes two gradients per step gets half as many steps; the "
        "other costs of a step are in the cost table."
    )
    if not analysis.scored:
        return text
    return (
        f"{text} Because a missed target counts as {MISSED:g} budgets, speed-ups over "
        "an optimizer that misses many targets are lower bounds."
    )


def of_fronts(entry: FrontEntry, fronts: Sequence[ParetoFront]) -> str:
    """The method with the largest Pareto front, and the main losses at the level."""
    if not fronts:
        return "No method has finished yet."
    best = fronts[0]
    text = f"`{best.method}` has the largest Pareto front"
    if entry.points is not None:
        fraction = percent(best.hypervolume_interval)
        text += f", {fraction} of the hypervolume of the closed form"
    text += "."
    if all(math.isnan(f.p_value) for f in fronts[1:]):
        text += f" {_untested(len(best.hypervolume))}"
    elif like := [f.method for f in fronts[1:] if f.p_value >= ALPHA]:
        text += f" It is not significantly larger than that of {listed(like)}."
    else:
        text += " It is significantly larger than that of every other method."
    at_level = [(f.method, f.main_interval) for f in fronts]
    losses = [
        f"{interval(main)} for `{method}`"
        for method, main in sorted(at_level, key=lambda pair: pair[1].median)
        if math.isfinite(main.median)
    ]
    ideal = closed_form_at_level(entry)
    if losses and not math.isnan(ideal):
        losses.append(f"{number(ideal)} for the closed form")
    if losses:
        text += f" At an auxiliary loss of {number(entry.level)} the main loss is "
        text += f"{'; '.join(losses)}."
    return text


def of_accuracies(analysis: Analysis, problem: str) -> str:
    """Which optimizers end significantly higher or lower than the reference."""
    tables = analysis.accuracies[problem]
    if not tables:
        return "No optimizer has finished yet."
    reference = next(iter(analysis.manifest.optimizers))
    rows = tables[0]
    home = next((row for row in rows if row.optimizer == reference), None)
    if home is None:
        return (
            f"The baseline `{reference}` has no result, so there is nothing to compare "
            "with."
        )
    text = (
        f"The baseline `{reference}` ends at {percent(home.final)} "
        f"accuracy on clean held-out data; its best during training is "
        f"{percent(home.best)}."
    )
    if all(math.isnan(row.p_value) for row in rows):
        return f"{text} {_untested(len(analysis.cells[problem, reference].seeds))}"
    higher = [r for r in rows if r.gain.median > 0]
    lower = [r for r in rows[::-1] if r.gain.median < 0]
    text += _significant(higher, "Significantly higher at the end")
    text += _significant(lower, "Significantly lower at the end")
    if same := [row.optimizer for row in rows if row.p_value >= ALPHA]:
        text += f" Not significantly different from it: {listed(same)}."
    for table in tables[1:]:
        metric = table[0].metric
        higher = [r for r in table if r.gain.median > 0]
        lower = [r for r in table[::-1] if r.gain.median < 0]
        text += _significant(higher, f"Significantly higher {metric}")
        text += _significant(lower, f"Significantly lower {metric}")
    return text


def listed(names: Iterable[str]) -> str:
    """`a`, `b` and `c`."""
    quoted = [f"`{name}`" for name in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def counted(number: int, singular: str) -> str:
    """A number and its noun: 1 problem, 7 problems."""
    return f"{number} {singular}" if number == 1 else f"{number} {singular}s"


def _significant(rows: Sequence[Accuracy], what: str) -> str:
    """The rows with a significant difference, the largest with its size."""
    found = [row for row in rows if row.p_value < ALPHA]
    if not found:
        return ""
    gain = percentage_points(found[0].gain)
    text = f" {what}: `{found[0].optimizer}` by {gain} percentage points"
    others = [row.optimizer for row in found[1:]]
    return f"{text}, and {listed(others)}." if others else f"{text}."


def _untested(seeds: int) -> str:
    return (
        f"With {counted(seeds, 'evaluation seed')} no difference can be significant, "
        "so none was tested."
    )
