"""Which optimizers of a suite differ significantly: paired, over all its problems.

The score of one run is its speed-up: the geometric mean over the targets of the
reference's gradients ÷ the optimizer's, same problem and same seed, a missed target
counted as twice the budget. Scores are kept as natural logarithms
`[optimizer, problem, seed]`, so that a mean of them is a geometric mean.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from benchmarks.analysis.stats import ALPHA, Cells, log_cost

# With five pairs the smallest two-sided p of a sign-flip test is 1/16: a test that
# can never be significant is not a test.
MIN_SEEDS = 8
# All of five values lie on the same side of their median with a chance of 1/16: fewer
# than six problems say nothing about others at the 5 % level.
MIN_PROBLEMS = 6
RESAMPLES = 2000
FLIPS = 20_000
EXACT_UP_TO = 14
REFERENCES = ("optax.adam", "adam")


@dataclass(frozen=True)
class Pair:
    """Two optimizers on the same problems and seeds.

    Attributes:
      first: The one with the larger speed-up.
      second: The other one.
      ratio: Speed-up of the first over the second.
      interval: 95 % bounds of the ratio for these problems `[2]`; NaN below
        `MIN_SEEDS` seeds.
      wide_interval: The same for other problems of this kind `[2]`; NaN also below
        `MIN_PROBLEMS` problems.
      p_value: Holm-adjusted for all pairs; NaN below `MIN_SEEDS` seeds.
    """

    first: str
    second: str
    ratio: float
    interval: np.ndarray
    wide_interval: np.ndarray
    p_value: float

    @property
    def significant(self) -> bool:
        """Whether the two differ on these problems."""
        return self.p_value < ALPHA

    @property
    def carries_over(self) -> bool:
        """Whether the same can be expected on other problems of this kind."""
        return self.significant and bool(self.wide_interval[0] > 1)


@dataclass(frozen=True)
class Comparison:
    """All optimizers that finished every problem, best first.

    Attributes:
      problems: Names of the problems.
      optimizers: Names, by falling speed-up.
      reference: Name of the optimizer whose speed-up is 1.
      seeds: Number of evaluation seeds.
      log_speedup: Scores `[O, P, S]`.
      speedup: Geometric mean over problems and seeds `[O]`.
      interval: 95 % bounds of `speedup` for these problems, seeds resampled
        `[O, 2]`; NaN below `MIN_SEEDS` seeds.
      wide_interval: The same for other problems of this kind, with the problems
        resampled too; NaN also below `MIN_PROBLEMS` problems.
      iqm: Interquartile mean of the scores, as a factor `[O]`.
      p_values: Holm-adjusted, paired sign-flip `[O, O]`; None below `MIN_SEEDS`.
      pairs: Every pair of optimizers by their names, in the order of `optimizers`.
    """

    problems: tuple[str, ...]
    optimizers: tuple[str, ...]
    reference: str
    seeds: int
    log_speedup: np.ndarray
    speedup: np.ndarray
    interval: np.ndarray
    wide_interval: np.ndarray
    iqm: np.ndarray
    p_values: np.ndarray | None
    pairs: dict[tuple[str, str], Pair]

    def pair(self, one: str, other: str) -> Pair:
        """The pair of two optimizers, in any order."""
        return self.pairs.get((one, other)) or self.pairs[other, one]


def iqm(values: np.ndarray) -> np.ndarray:
    """Interquartile mean over the last axis, ⌊n/4⌋ values dropped at each end."""
    cut = values.shape[-1] // 4
    return np.sort(values, -1)[..., cut : values.shape[-1] - cut].mean(-1)


def log_speedups(needed: np.ndarray, reference: int, budgets: np.ndarray) -> np.ndarray:
    """Scores `[O, P, S]` from gradients to targets `[O, P, S, 5]` and budgets `[P]`."""
    cost = log_cost(needed, budgets[None, :, None, None])
    return (cost[reference] - cost).mean(-1)


def resampled_means(scores: np.ndarray, *, resample_problems: bool) -> np.ndarray:
    """Means of resampled scores, one per optimizer and resample `[O, R]`.

    Stratified by problem, and the same draw for every optimizer, which keeps the
    pairing. Each stratum of n gets n - 1 draws (Rao and Wu, 1988): n draws understate
    the variance by the factor (n - 1)/n, which matters at 10 seeds.
    """
    rng = np.random.default_rng(0)
    _, problems, seeds = scores.shape
    picks = np.broadcast_to(np.arange(problems), (RESAMPLES, problems))
    if resample_problems:
        picks = rng.integers(problems, size=(RESAMPLES, problems - 1))
    draws = rng.integers(seeds, size=(*picks.shape, seeds - 1))
    return np.array([score[picks[:, :, None], draws].mean((1, 2)) for score in scores])


def bounds(means: np.ndarray, strata: int | None = None) -> np.ndarray:
    """95 % percentile bounds `[..., 2]` of resampled means `[..., R]`.

    If `strata` is the number of problems that were resampled, the percentiles are
    those that a normal distribution needs to hold as much as a t distribution with one
    degree of freedom less (Hesterberg, 2015): plain percentiles of 7 problems hold
    90 %.
    """
    tail = ALPHA / 2
    if strata is not None:
        tail = float(norm.cdf(t.ppf(tail, strata - 1)))
    low, high = np.percentile(means, [100 * tail, 100 - 100 * tail], axis=-1)
    return np.stack([low, high], -1)


def bootstrap(scores: np.ndarray, *, resample_problems: bool) -> np.ndarray:
    """95 % bounds of the mean of the scores `[O, 2]`."""
    means = resampled_means(scores, resample_problems=resample_problems)
    return bounds(means, scores.shape[1] if resample_problems else None)


def sign_flip(differences: np.ndarray) -> np.ndarray:
    """Two-sided p of "the mean is 0" for paired differences `[K, P, S]`, `[K]`.

    The statistic is the mean over its standard error stratified by problem, as in the
    bootstrap: differences between problems are not noise. Under the null hypothesis
    each sign is a fair coin toss: all 2^(PS) tosses are enumerated up to PS = 14, above
    that 20 000 random ones and the observed one.
    """
    count = differences[0].size
    observed = _studentized(differences, np.ones((1, *differences.shape[1:])))[0]
    # Statistics that differ by rounding only are ties.
    threshold = observed * (1 - 1e-9)
    if count <= EXACT_UP_TO:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
        signs = (2.0 * bits - 1).reshape(-1, *differences.shape[1:])
        return (_studentized(differences, signs) >= threshold).mean(0)
    rng = np.random.default_rng(0)
    extreme = np.zeros(len(differences))
    for _ in range(FLIPS // 500):
        signs = 2.0 * rng.integers(2, size=(500, *differences.shape[1:])) - 1
        extreme += (_studentized(differences, signs) >= threshold).sum(0)
    return (1 + extreme) / (1 + FLIPS)


def _studentized(differences: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """|mean| ÷ standard error of signed differences `[B, K]`; 0/0 is 0."""
    seeds = differences.shape[2]
    means = np.einsum("bps,kps->bkp", signs, differences, optimize=True) / seeds
    squares = (differences**2).mean(-1)
    # Rounding must not make a variance out of equal differences.
    spread = squares - means**2
    spread[spread < 1e-12 * squares] = 0.0
    top, bottom = np.abs(means.sum(-1)), np.sqrt(spread.sum(-1) / (seeds - 1))
    top[top < 1e-12 * np.sqrt(squares).sum(-1)] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(top / bottom, nan=0.0, posinf=np.inf)


def testable(seeds: int, comparisons: int) -> bool:
    """Whether that many paired tests on one problem can be significant at all."""
    return comparisons > 0 and comparisons * 2.0 ** (1 - seeds) < ALPHA


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment: controls the family-wise error rate."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(p_values[order] * factors)
    return np.minimum(adjusted, 1.0)


def pairwise(scores: np.ndarray) -> np.ndarray:
    """Holm-adjusted p of every pair of optimizers, symmetric `[O, O]`, diagonal 1.

    One pair's differences are those of the scores on the same problem and seed.
    """
    result = np.ones((len(scores), len(scores)))
    if len(scores) < 2:
        return result
    first, second = np.triu_indices(len(scores), 1)
    result[first, second] = holm(sign_flip(scores[first] - scores[second]))
    return np.minimum(result, result.T)


def compare(
    cells: Cells,
    problems: tuple[str, ...],
    optimizers: tuple[str, ...],
) -> Comparison | None:
    """Compares the optimizers that finished every problem; None if there are none."""
    done = [
        name
        for name in optimizers
        if all((p, name) in cells and cells[p, name].complete for p in problems)
    ]
    if not done or not problems:
        return None
    reference = next((name for name in REFERENCES if name in done), done[0])
    needed = np.array([[cells[p, name].needed for p in problems] for name in done])
    budgets = np.array([cells[p, reference].budget for p in problems], float)
    scores = log_speedups(needed, done.index(reference), budgets)
    # Among equals the reference comes first.
    others = [name != reference for name in done]
    order = np.lexsort((others, -scores.mean((1, 2))))
    scores, names = scores[order], tuple(done[i] for i in order)
    seeds = scores.shape[2]
    tested = seeds >= MIN_SEEDS
    unknown = np.full((len(names), RESAMPLES), np.nan)
    means, wide_means, strata = unknown, unknown, None
    if tested:
        means = resampled_means(scores, resample_problems=False)
    if tested and len(problems) >= MIN_PROBLEMS:
        wide_means = resampled_means(scores, resample_problems=True)
        strata = len(problems)
    speedup, p_values = scores.mean((1, 2)), pairwise(scores) if tested else None
    pairs = {
        (names[i], names[j]): Pair(
            first=names[i],
            second=names[j],
            ratio=float(np.exp(speedup[i] - speedup[j])),
            interval=np.exp(bounds(means[i] - means[j])),
            wide_interval=np.exp(bounds(wide_means[i] - wide_means[j], strata)),
            p_value=math.nan if p_values is None else float(p_values[i, j]),
        )
        for i, j in itertools.combinations(range(len(names)), 2)
    }
    return Comparison(
        problems=problems,
        optimizers=names,
        reference=reference,
        seeds=seeds,
        log_speedup=scores,
        speedup=np.exp(speedup),
        interval=np.exp(bounds(means)),
        wide_interval=np.exp(bounds(wide_means, strata)),
        iqm=np.exp(iqm(scores.reshape(len(names), -1))),
        p_values=p_values,
        pairs=pairs,
    )


def groups(comparison: Comparison) -> list[tuple[str, ...]]:
    """Groups of at least two optimizers without a significant difference (5 % level).

    In the order of speed-up, the longest stretches in which no pair differs
    significantly.
    """
    if comparison.p_values is None:
        return []
    same = comparison.p_values >= ALPHA
    found: list[tuple[str, ...]] = []
    reach = 0
    for first in range(len(same)):
        last = first
        while last + 1 < len(same) and same[first : last + 1, last + 1].all():
            last += 1
        if last > first and last + 1 > reach:
            found.append(comparison.optimizers[first : last + 1])
        reach = max(reach, last + 1)
    return found


def identical_optimizers(cells: Cells, comparison: Comparison) -> dict[str, str]:
    """Optimizers with the same runs as an earlier one: `{optimizer: earlier}`.

    Equal scores are not enough: optimizers that all miss every target have them too.
    """
    found: dict[str, str] = {}
    for earlier, later in itertools.combinations(comparison.optimizers, 2):
        pairs = [(cells[p, earlier], cells[p, later]) for p in comparison.problems]
        same = all(np.array_equal(a.gaps, b.gaps) for a, b in pairs)
        if same and later not in found and any(a.lane >= 0 for a, _ in pairs):
            found[later] = found.get(earlier, earlier)
    return found


def ecdf(
    cells: Cells,
    problems: tuple[str, ...],
    optimizer: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Fraction of targets reached within a fraction of the budget, over all seeds.

    Every problem has the same weight. Returns fractions of the budget, ascending, and
    the fraction reached at each: a step function that starts at 0.
    """
    used = [cells[p, optimizer].needed / cells[p, optimizer].budget for p in problems]
    fractions = np.unique(np.concatenate([u[np.isfinite(u)] for u in used]))
    reached = [(u.ravel() <= fractions[:, None]).mean(1) for u in used]
    return fractions, np.mean(reached, 0)
