"""Numbers and intervals as text."""

import math

from benchmarks.analysis.stats import Interval

MISSED, BOUNDARY, DIVERGED, FALLBACK = "∅", "◊", "†", "‡"
NOT_RUN = "not run"


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
