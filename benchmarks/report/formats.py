"""Numbers and intervals as text."""

import math
from collections.abc import Iterable

from benchmarks.analysis.stats import Interval

MISSED, LEFT, DIVERGED, BOUNDARY, FALLBACK = "∅", "↑", "†", "◊", "‡"
NOT_RUN = "not run"
SYMBOLS = {
    MISSED: "the middle target is missed",
    f"{LEFT}n": "n seeds reach it and end above it",
    f"{DIVERGED}n": "n seeds diverged",
    BOUNDARY: "the best learning rate lies at the boundary of the grid",
    FALLBACK: "the optimizer falls back to another method, named above or below",
}
"""What the marks in the table of gradients mean."""


def number(value: float) -> str:
    """Three significant digits, or two and an exponent."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        lead, exponent = f"{value:.1e}".split("e")
        return f"{lead}e{int(exponent)}"
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def interval(value: Interval) -> str:
    """A median with its bounds, where there are any."""
    if math.isnan(value.low):
        return number(value.median)
    return f"{number(value.median)} ({number(value.low)} to {number(value.high)})"


def percent(fraction: Interval) -> str:
    """A fraction in per cent, with its bounds, where there are any."""
    text = f"{100 * fraction.median:.1f} %"
    if math.isnan(fraction.low):
        return text
    return f"{text} ({100 * fraction.low:.1f} to {100 * fraction.high:.1f})"


def percentage_points(difference: Interval) -> str:
    """A difference of fractions in percentage points, with its bounds."""
    text = f"{100 * difference.median:+.1f}"
    if math.isnan(difference.low):
        return text
    return f"{text} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"


def factor(value: float) -> str:
    """A speed-up: `1.32`."""
    return f"{value:.2f}" if math.isfinite(value) else "–"


def factors(bounds: Iterable[float]) -> str:
    """An interval of speed-ups: `1.23 to 1.41`; empty where there is none.

    `<1.00` and `>1.00` are bounds that would be rounded to 1.
    """
    texts = []
    for bound in bounds:
        if math.isnan(bound):
            return ""
        side = "<" if bound < 1 else ">" if bound > 1 else ""
        text = f"{bound:.2f}"
        texts.append(f"{side}{text}" if text == "1.00" else text)
    return " to ".join(texts)


def p_value(value: float) -> str:
    """A p-value: `0.03`, `< 0.001`."""
    return "< 0.001" if value < 0.001 else number(value)
