"""Which optimizers of a suite differ significantly: paired, over all its problems.

The score of one run is its speed-up: the geometric mean over the targets of the
reference's gradients ÷ the optimizer's, same problem and same seed, a missed target
counted as twice the budget. Scores are kept as natural logarithms
`[optimizer, problem, seed]`, so that a mean of them is a geometric mean.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from benchmarks.analysis.stats import ALPHA, Cells, log_cost

# With five pairs the smallest two-sided p of a sign-flip test is 1/16: a test that
# can never be significant is not a test.
MIN_SEEDS = 8
RESAMPLES = 2000
FLIPS = 20_000
EXACT_UP_TO = 14
REFERENCES = ("optax.adam", "adam")


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
      wide_interval: The same with the problems resampled too: it covers the choice of
        problems.
      iqm: Interquartile mean of the scores, as a factor `[O]`.
      p_values: Holm-adjusted, paired sign-flip `[O, O]`; None below `MIN_SEEDS`.
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


def iqm(values: np.ndarray) -> np.ndarray:
    """Interquartile mean over the last axis, ⌊n/4⌋ values dropped at each end."""
    cut = values.shape[-1] // 4
    return np.sort(values, -1)[..., cut : values.shape[-1] - cut].mean(-1)


def log_speedups(needed: np.ndarray, reference: int, budgets: np.ndarray) -> np.ndarray:
    """Scores `[O, P, S]` from gradients to targets `[O, P, S, 5]` and budgets `[P]`."""
    cost = log_cost(needed, budgets[None, :, None, None])
    return (cost[reference] - cost).mean(-1)


def bootstrap(scores: np.ndarray, *, resample_problems: bool) -> np.ndarray:
    """95 % percentile bounds of the mean of the scores `[O, 2]`.

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
    tail = 100 * ALPHA / 2
    means = [score[picks[:, :, None], draws].mean((1, 2)) for score in scores]
    return np.percentile(means, [tail, 100 - tail], axis=1).T


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
    interval = wide = np.full((len(names), 2), np.nan)
    if seeds >= MIN_SEEDS:
        interval = bootstrap(scores, resample_problems=False)
        if len(problems) > 2:
            wide = bootstrap(scores, resample_problems=True)
    return Comparison(
        problems=problems,
        optimizers=names,
        reference=reference,
        seeds=seeds,
        log_speedup=scores,
        speedup=np.exp(scores.mean((1, 2))),
        interval=np.exp(interval),
        wide_interval=np.exp(wide),
        iqm=np.exp(iqm(scores.reshape(len(names), -1))),
        p_values=pairwise(scores) if seeds >= MIN_SEEDS else None,
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


def identical_optimizers(comparison: Comparison) -> dict[str, str]:
    """Optimizers with the same scores as an earlier one: `{optimizer: earlier}`."""
    found: dict[str, str] = {}
    names, scores = comparison.optimizers, comparison.log_speedup
    for i, j in itertools.combinations(range(len(names)), 2):
        if names[j] not in found and np.array_equal(scores[i], scores[j]):
            found[names[j]] = found.get(names[i], names[i])
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
