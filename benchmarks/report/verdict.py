"""The verdict in words: what the runs show, what they do not, and the warnings.

Paragraphs are plain text with names in backquotes.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.analysis.accuracies import Accuracy, accuracies
from benchmarks.analysis.comparison import MIN_SEEDS, Comparison, groups, twins
from benchmarks.analysis.fronts import fronts, level_of_closed_form
from benchmarks.analysis.stats import (
    ALPHA,
    MISSED,
    CellStats,
    Interval,
    median_interval,
)
from benchmarks.report.tables import interval, number, percent
from benchmarks.results.store import Results

Cells = dict[tuple[str, str], CellStats]


def listed(names: Iterable[str]) -> str:
    """`a`, `b` and `c`."""
    quoted = [f"`{name}`" for name in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def counted(number: int, singular: str, plural: str = "") -> str:
    """A number and its noun: 1 problem, 7 problems."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def bounds(interval: np.ndarray) -> str:
    """A 95 % interval of factors."""
    return f"{interval[0]:.2f} to {interval[1]:.2f}"


def headline(comparison: Comparison) -> str:
    """Who was fastest, by how much, and who cannot be told from it."""
    names, reference = comparison.optimizers, comparison.reference
    if len(names) < 2:
        return f"Only {listed(names)} finished, so there is nothing to compare with."
    best = names[0]
    on = f"On {counted(len(comparison.problems), 'problem')}"
    if best == reference:
        text = f"{on} no optimizer was faster on average than {listed([best])}."
    else:
        size = f"{comparison.speedup[0]:.2f} times as fast as `{reference}`"
        if comparison.p_values is not None:
            size += f" (95 % interval {bounds(comparison.interval[0])})"
        text = f"{on} `{best}` was fastest on average: it reached the targets {size}."
    if comparison.p_values is None:
        return (
            f"{text} With {counted(comparison.seeds, 'test seed')} nothing is tested "
            f"(that takes {MIN_SEEDS}): take the order as a description of these "
            "runs only."
        )
    others = zip(names[1:], comparison.p_values[0, 1:], strict=True)
    like = [name for name, p in others if p >= ALPHA]
    if not like:
        return f"{text} It differs from every other optimizer compared."
    return f"{text} It cannot be told apart from {listed(like)}."


def told_apart(comparison: Comparison) -> str:
    """Pairs that differ, sets that do not, and how the rest stands to the reference."""
    if comparison.p_values is None:
        return ""
    names = comparison.optimizers
    upper = np.triu_indices(len(names), 1)
    different = int((comparison.p_values[upper] < ALPHA).sum())
    parts = [
        f"Of {counted(len(upper[0]), 'pair')} of optimizers {different} can be told "
        f"apart and {len(upper[0]) - different} cannot (paired by problem and seed, "
        "sign-flip test, Holm's correction, 5 %)."
    ]
    home = names.index(comparison.reference)
    against = comparison.p_values[home] < ALPHA
    faster = [n for i, n in enumerate(names) if against[i] and i < home]
    slower = [n for i, n in enumerate(names) if against[i] and i > home]
    if faster:
        parts.append(f"Faster than `{comparison.reference}`: {listed(faster)}.")
    if slower:
        parts.append(f"Slower: {listed(slower)}.")
    sets = "; ".join(listed(group) for group in groups(comparison))
    if sets:
        parts.append(f"Sets in which no pair can be told apart: {sets}.")
    same = twins(comparison)
    for original in dict.fromkeys(same.values()):
        copies = [name for name, of in same.items() if of == original]
        parts.append(
            f"{listed([original, *copies])} needed the same gradients in every run."
        )
    return " ".join(parts)


def winners(cells: Cells, comparison: Comparison) -> str:
    """Who needs the fewest median gradients to the middle target, by problem."""
    won: dict[tuple[str, ...], list[str]] = {}
    for problem in comparison.problems:
        medians = {
            name: float(np.median(cells[problem, name].middle))
            for name in comparison.optimizers
        }
        least = min(medians.values())
        first = tuple(n for n, m in medians.items() if m == least < math.inf)
        won.setdefault(first, []).append(problem)
    parts = [
        f"{listed(names) or 'nobody'} on {', '.join(problems)}"
        for names, problems in sorted(won.items(), key=lambda item: -len(item[1]))
    ]
    return f"Fewest gradients to the middle target: {'; '.join(parts)}."


def other_problems(comparison: Comparison) -> str:
    """How far the conclusion depends on the choice of problems."""
    wide = comparison.wide_interval
    if np.isnan(wide).all() or len(comparison.optimizers) < 2:
        return ""
    others = [
        i for i, n in enumerate(comparison.optimizers) if n != comparison.reference
    ]
    safe = [
        comparison.optimizers[i] for i in others if wide[i, 0] > 1 or wide[i, 1] < 1
    ]
    first = others[0]
    text = (
        f"The interval of `{comparison.optimizers[first]}` for these problems is "
        f"{bounds(comparison.interval[first])}; with the problems redrawn too, it is "
        f"{bounds(wide[first])}."
    )
    if safe:
        return f"{text} These wider intervals exclude 1 for {listed(safe)}."
    return f"{text} No optimizer's wider interval excludes 1."


def warnings(cells: Cells, results: Results) -> str:
    """Diverged runs, rates at the edge of the grid, targets missed."""
    every = [cell for cell in cells.values() if cell.problem in results.scored]
    if not every:
        return ""
    diverged = sum(int(cell.diverged.sum()) for cell in every)
    runs = sum(len(cell.seeds) for cell in every)
    edge = sum(bool(cell.edge) for cell in every)
    missed = sum(math.isinf(np.median(cell.middle)) for cell in every)
    asked = len(results.scored) * len(results.manifest["optimizers"])
    parts = [
        f"{diverged} of {counted(runs, 'reported run')} diverged (†).",
        f"In {edge} of {counted(len(every), 'cell')} the best learning rate ends the "
        "grid (◊), so a better one may lie outside."
        if edge
        else "No best learning rate lies at the end of the grid.",
        f"In {missed} the median run misses the middle target (∅)."
        if missed
        else "The median run reaches the middle target everywhere.",
    ]
    if len(every) < asked:
        parts.append(f"{asked - len(every)} of {asked} cells have no result.")
    return " ".join(parts)


def limits(results: Results) -> str:
    """What no reader should conclude from this suite."""
    settings = results.manifest["settings"]
    rates = len(settings["learning_rates"])
    seeds = span(settings["tune_seeds"])
    text = (
        "What this does not show: anything about large models or long training. The "
        "problems are small; only the learning rate is tuned, per "
        f"problem, among {counted(rates, 'rate')} with a {settings['schedule']} "
        f"schedule, on {seeds}; every other hyperparameter keeps its default. "
        "Budgets are counted in gradients, so that an optimizer that takes two for "
        "each step gets half as many steps; what a step costs besides stands in the "
        "cost table."
    )
    if not results.scored:
        return text
    return (
        f"{text} A missed target counts as {MISSED:g} budgets, so speed-ups over an "
        "optimizer that misses many targets are lower bounds."
    )


def span(seeds: Sequence[int]) -> str:
    """seed 0; seeds 0–2; seeds 1, 5, 9."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]}–{seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}"


def of_fronts(results: Results, problem: str) -> str:
    """Whose front is largest, who cannot be told from it, and the main losses."""
    found = fronts(results, problem)
    if not found:
        return f"On {problem} no method is finished yet."
    entry, best = results.manifest["problems"][problem], found[0]
    share = median_interval(best.share)
    closed = entry["front"]["points"] is not None
    text = f"On {problem} the front of `{best.method}` is the largest"
    text += f": {percent(share)} of the hypervolume of the closed form." * closed
    text += "." * (not closed)
    if all(math.isnan(f.p_value) for f in found[1:]):
        return f"{text} {_untested(len(best.share))}"
    like = [f.method for f in found[1:] if f.p_value >= ALPHA]
    text += f" It cannot be told apart from that of {listed(like)}." if like else ""
    level = number(entry["front"]["level"])
    at_level = [(f.method, median_interval(f.main_at_level)) for f in found]
    told = [
        f"{interval(main)} for `{method}`"
        for method, main in sorted(at_level, key=lambda pair: pair[1].median)
        if math.isfinite(main.median)
    ]
    ideal = level_of_closed_form(entry)
    if told and not math.isnan(ideal):
        told.append(f"{number(ideal)} for the closed form")
    if told:
        text += f" At an auxiliary loss of {level} the main loss is {'; '.join(told)}."
    return text


def of_accuracies(results: Results, cells: Cells, problem: str) -> str:
    """Who ends higher than the reference, by how much, and what early stopping does."""
    tables = accuracies(results, cells, problem)
    if not tables:
        return f"On {problem} no optimizer is finished yet."
    reference = next(iter(results.manifest["optimizers"]))
    rows = tables[0]
    home = next((row for row in rows if row.optimizer == reference), None)
    text = f"On {problem} "
    if home is None:
        return (
            f"{text}`{reference}` has no result, so there is nothing to compare with."
        )
    text += (
        f"`{reference}` ends at {percent(home.final)} accuracy on clean held-out data, "
        f"having been at {percent(home.best)} on the way."
    )
    if all(math.isnan(row.p_value) for row in rows):
        return f"{text} {_untested(len(cells[problem, reference].seeds))}"
    text += _apart([r for r in rows if r.gain.median > 0], "Higher at the end")
    text += _apart([r for r in rows[::-1] if r.gain.median < 0], "Lower at the end")
    same = [row.optimizer for row in rows if row.p_value >= ALPHA]
    text += f" Not told apart from it: {listed(same)}." if same else ""
    for table in tables[1:]:
        metric = table[0].metric
        text += _apart([r for r in table if r.gain.median > 0], f"Higher {metric}")
        text += _apart([r for r in table[::-1] if r.gain.median < 0], f"Lower {metric}")
    return text


def _apart(rows: Sequence[Accuracy], what: str) -> str:
    """Those that can be told from the reference, the farthest with its distance."""
    apart = [row for row in rows if row.p_value < ALPHA]
    if not apart:
        return ""
    text = f" {what}: `{apart[0].optimizer}` by {points(apart[0].gain)} points"
    others = [row.optimizer for row in apart[1:]]
    return f"{text}, and {listed(others)}." if others else f"{text}."


def _untested(seeds: int) -> str:
    return (
        f"With {counted(seeds, 'test seed')} nothing is tested: there are too few for "
        "any difference to come out significant."
    )


def points(gain: Interval) -> str:
    """A difference of shares in points, with its interval."""
    bounds = f" ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    return f"{100 * gain.median:+.1f}{bounds * (not math.isnan(gain.low))}"


def verdict(results: Results, cells: Cells, comparison: Comparison | None) -> list[str]:
    """Paragraphs, the most important first."""
    if not results.scored:
        first = []
    elif comparison is None:
        first = [
            "Nothing can be compared yet: no optimizer has finished every problem."
        ]
    else:
        first = [
            headline(comparison),
            told_apart(comparison),
            f"{winners(cells, comparison)} {other_problems(comparison)}".strip(),
        ]
        left_out = [
            n for n in results.manifest["optimizers"] if n not in comparison.optimizers
        ]
        if left_out:
            first.append(
                f"Left out of the comparison, because not every problem is finished: "
                f"{listed(left_out)}."
            )
    for problem in results.with_fronts:
        first.append(of_fronts(results, problem))
    for problem in results.with_accuracies:
        first.append(of_accuracies(results, cells, problem))
    return [
        text for text in (*first, warnings(cells, results), limits(results)) if text
    ]
