"""The abstract of the report: findings, their uncertainty, failures, limitations.

Paragraphs are plain text with names in backquotes.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.analysis.accuracies import Accuracy
from benchmarks.analysis.comparison import MIN_SEEDS, Comparison
from benchmarks.analysis.fronts import ParetoFront, closed_form_at_level
from benchmarks.analysis.stats import ALPHA, MISSED, CellStats
from benchmarks.analysis.summary import Analysis
from benchmarks.report.formats import interval, number, percent, percentage_points
from benchmarks.results.manifest import FrontEntry


def verdict(analysis: Analysis) -> list[str]:
    """Paragraphs, the most important first."""
    manifest, comparison = analysis.manifest, analysis.comparison
    findings = []
    if comparison is not None:
        findings = [
            headline(comparison),
            significance(comparison, analysis.identical),
            f"{winners(analysis.tuned, comparison)} {other_problems(comparison)}",
        ]
    elif analysis.scored:
        findings = [
            "Nothing can be compared: no optimizer has finished every problem without "
            "a fallback (‡)."
            if analysis.fallbacks
            else "Nothing can be compared yet: no optimizer has finished every problem."
        ]
    for problem, fronts in analysis.fronts.items():
        entry = manifest.problems[problem].front
        if entry is not None:
            findings.append(of_fronts(problem, entry, fronts))
    for problem in analysis.accuracies:
        findings.append(of_accuracies(analysis, problem))
    findings[:1] = [f"{setup(analysis)} {text}" for text in findings[:1]]
    paragraphs = [
        *findings,
        " ".join(chosen_values(analysis)),
        " ".join(fallbacks(analysis)),
        failures(analysis),
        limitations(analysis),
    ]
    return [text.strip() for text in paragraphs if text.strip()]


def setup(analysis: Analysis) -> str:
    """How many optimizers, problems, seeds and learning rates were run."""
    manifest, settings = analysis.manifest, analysis.manifest.settings
    verb = "was" if len(manifest.optimizers) == 1 else "were"
    if analysis.scored or analysis.accuracies:
        tuned = "For each optimizer and problem, the learning rate was"
    else:
        tuned = "For each method and weight, learning rates were"
    return (
        f"{counted(len(manifest.optimizers), 'optimizer')} {verb} run on "
        f"{counted(len(manifest.problems), 'problem')} with "
        f"{counted(len(settings.test_seeds), 'evaluation seed')}. {tuned} "
        f"chosen from {counted(len(settings.learning_rates), 'value')} on "
        f"{counted(len(settings.tune_seeds), 'separate tuning seed')}."
    )


def leader(comparison: Comparison) -> str:
    """The fastest optimizer; the reference unless another is faster as printed."""
    first, speedup = comparison.optimizers[0], comparison.speedup[0]
    return first if f"{speedup:.2f}" != "1.00" else comparison.reference


def headline(comparison: Comparison) -> str:
    """The fastest optimizer, its speed-up, and from which it differs significantly."""
    names, reference = comparison.optimizers, comparison.reference
    if len(names) < 2:
        return (
            f"Only {listed(names)} finished every problem, so there is nothing to "
            "compare it with."
        )
    best, tested = leader(comparison), comparison.p_values is not None
    if best == reference:
        text = f"No optimizer was faster on average than the baseline `{reference}`."
    else:
        text = (
            f"`{best}` was the fastest on average: it reached the targets "
            f"{comparison.speedup[0]:.2f} times as fast as the baseline "
            f"`{reference}`"
        )
        if tested:
            text += f" (95 % confidence interval {bounds(comparison.interval[0])})"
        text += ", measured in gradients."
    if comparison.p_values is None:
        return (
            f"{text} With {counted(comparison.seeds, 'evaluation seed')} no difference "
            f"was tested for significance, which takes at least {MIN_SEEDS}, so the "
            "order describes these runs only."
        )
    p_values = dict(zip(names, comparison.p_values[names.index(best)], strict=True))
    others = [name for name in names if name != best]
    undecided = [name for name in others if p_values[name] >= ALPHA]
    if not undecided:
        return f"{text} It differs significantly from every other optimizer."
    if undecided == others:
        return f"{text} It does not differ significantly from {listed(others)}."
    return (
        f"{text} It differs significantly from every other optimizer except "
        f"{listed(undecided)}."
    )


def significance(comparison: Comparison, identical: dict[str, str]) -> str:
    """Significant differences: how many pairs, and which from the baseline."""
    if comparison.p_values is None or len(comparison.optimizers) < 2:
        return ""
    names, reference = comparison.optimizers, comparison.reference
    upper = np.triu_indices(len(names), 1)
    pairs = len(upper[0])
    different = int((comparison.p_values[upper] < ALPHA).sum())
    parts = [
        f"Significant differences were found in {different} of "
        f"{counted(pairs, 'pair')} of optimizers (sign-flip tests paired by problem "
        "and seed, Holm's correction for all pairs, 5 % level); "
        f"{pairs - different} are not significant. Confidence intervals are not "
        "corrected for the number of optimizers."
    ]
    home = names.index(reference)
    significant = comparison.p_values[home] < ALPHA
    order = list(enumerate(names))
    if faster := [n for i, n in order if significant[i] and i < home]:
        parts.append(f"Significantly faster than `{reference}`: {listed(faster)}.")
    if slower := [n for i, n in order if significant[i] and i > home]:
        parts.append(f"Significantly slower than `{reference}`: {listed(slower)}.")
    if same := [n for i, n in order if not significant[i] and i != home]:
        parts.append(f"Not significantly different from it: {listed(same)}.")
    for original in dict.fromkeys(identical.values()):
        copies = [name for name, of in identical.items() if of == original]
        parts.append(f"{listed([original, *copies])} gave identical results.")
    return " ".join(parts)


def winners(tuned: dict[str, dict[str, CellStats]], comparison: Comparison) -> str:
    """The optimizer with the fewest median gradients to the middle target."""
    won: dict[tuple[str, ...], list[str]] = {}
    for problem in comparison.problems:
        cells = tuned[problem]
        names = dict.fromkeys((*comparison.optimizers, *cells))
        medians = {
            name: cells[name].middle_interval.median
            for name in names
            if name in cells and cells[name].complete
        }
        least = min(medians.values(), default=math.inf)
        first = tuple(n for n, m in medians.items() if m == least < math.inf)
        won.setdefault(first, []).append(problem)
    parts = [
        f"{listed(names) or 'no optimizer'} on {', '.join(problems)}"
        for names, problems in sorted(won.items(), key=lambda item: -len(item[1]))
    ]
    return f"Fewest median gradients to the middle target: {'; '.join(parts)}."


def other_problems(comparison: Comparison) -> str:
    """How far the result depends on the choice of problems."""
    wide, names = comparison.wide_interval, comparison.optimizers
    if np.isnan(wide).all() or len(names) < 2:
        return ""
    others = [i for i, n in enumerate(names) if n != comparison.reference]
    clear = [names[i] for i in others if wide[i, 0] > 1 or wide[i, 1] < 1]
    first = others[0]
    text = (
        "The confidence intervals are for these problems. With the problems resampled "
        f"too, that of `{names[first]}` is {bounds(wide[first])} instead of "
        f"{bounds(comparison.interval[first])}"
    )
    if names[first] == leader(comparison) and names[first] not in clear:
        text += ", so its lead may not carry over to other problems"
    if clear:
        return f"{text}. Even then, the interval excludes 1 for {listed(clear)}."
    return f"{text}. No such wider interval excludes 1."


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
    settings = analysis.manifest.settings
    grid = settings.learning_rates
    values = f"{grid[0]:g}"
    if len(grid) > 1:
        values = f"{len(grid)} values from {grid[0]:g} to {grid[-1]:g}"
    text = (
        "Limitations: the problems are small, so the results may not carry over to "
        "large models or long training. Only the learning rate is tuned "
        f"({values}, {settings.schedule} schedule, {seeds(settings.tune_seeds)})"
        f"{', and weights for Pareto fronts' if analysis.fronts else ''}"
        f"{', and the arguments named above' if analysis.manifest.sweeps else ''}; "
        "every other hyperparameter keeps its default. Budgets count gradients, so an "
        "optimizer that takes two gradients per step gets half as many steps; the "
        "other costs of a step are in the cost table."
    )
    if not analysis.scored:
        return text
    return (
        f"{text} A missed target counts as {MISSED:g} times the budget, so speed-ups "
        "over an optimizer that misses many targets are lower bounds."
    )


def of_fronts(problem: str, entry: FrontEntry, fronts: Sequence[ParetoFront]) -> str:
    """The method with the largest Pareto front, and the main losses at the level."""
    if not fronts:
        return f"On {problem} no method has finished yet."
    best = fronts[0]
    text = f"On {problem} `{best.method}` has the largest Pareto front"
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
        return f"On {problem} no optimizer has finished yet."
    reference = next(iter(analysis.manifest.optimizers))
    rows = tables[0]
    home = next((row for row in rows if row.optimizer == reference), None)
    if home is None:
        return (
            f"On {problem} the baseline `{reference}` has no result, so there is "
            "nothing to compare with."
        )
    text = (
        f"On {problem} the baseline `{reference}` ends at {percent(home.final)} "
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


def bounds(interval: np.ndarray) -> str:
    """An interval of factors."""
    return f"{interval[0]:.2f} to {interval[1]:.2f}"


def seeds(values: Sequence[int]) -> str:
    """seed 0; seeds 0–2; seeds 1, 5, 9."""
    if len(values) == 1:
        return f"seed {values[0]}"
    if list(values) == list(range(values[0], values[-1] + 1)):
        return f"seeds {values[0]}–{values[-1]}"
    return f"seeds {', '.join(map(str, values))}"


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
