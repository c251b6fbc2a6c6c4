"""The statistics against numbers worked by hand, and against what they promise."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

from benchmarks.analysis import comparison
from benchmarks.analysis.comparison import (
    Comparison,
    bootstrap,
    bounds,
    compare,
    ecdf,
    groups,
    holm,
    identical_optimizers,
    iqm,
    log_speedups,
    pairwise,
    resampled_means,
    sign_flip,
)
from benchmarks.analysis.stats import (
    CellStats,
    baseline,
    cell_stats,
    choose_learning_rate,
    expected_runtime,
    gap,
    gradients_to_targets,
    log_cost,
    median_interval,
    stretch,
    summarize,
    target_levels,
)
from benchmarks.experiment.plan import Settings
from benchmarks.results.store import Curves
from tests.benchmarks import fakes

INF = math.inf
STEPS = np.array([0, 10, 20, 40], np.int32)
DECADES = np.array([[1e-1, 1e-2, 1e-3, 1e-4, 1e-5]])


def within(observed: float, expected: float, repeats: int, errors: float = 3.5) -> bool:
    """Whether a fraction of repeats lies within binomial standard errors of another."""
    error = math.sqrt(expected * (1 - expected) / repeats)
    return abs(observed - expected) <= errors * error


def make_curves(
    losses: Any,
    diverged_at: Any = None,
    rates: Any = None,
    seeds: Any = None,
    steps: np.ndarray = STEPS,
) -> Curves:
    losses = np.asarray(losses, float)
    count, lanes, _ = losses.shape
    at = np.full((count, lanes), -1) if diverged_at is None else np.array(diverged_at)
    return Curves(
        seeds=np.arange(count) if seeds is None else np.array(seeds),
        learning_rates=np.geomspace(0.1, 1.0, lanes)
        if rates is None
        else np.array(rates),
        eval_steps=steps,
        metrics={"loss": losses},
        diverged_at=at,
    )


def to_targets(gaps: list[float]) -> list[float]:
    found = gradients_to_targets(np.array([[gaps]]), STEPS, DECADES)
    assert found.shape == (1, 1, 5)
    return found[0, 0].tolist()


def make_cell(
    needed: Any, problem: str = "p", name: str = "a", **more: Any
) -> CellStats:
    needed = np.asarray(needed, float)
    final, middle = np.ones(len(needed)), needed[:, 2]
    given = {
        "learning_rate": 0.1,
        "lane": 0,
        "grid_boundary": "",
        "seeds": np.arange(100, 100 + len(needed)),
        "middle": middle,
        "middle_interval": median_interval(middle),
        "ends_below": np.isfinite(middle),
        "expected_runtime": expected_runtime(middle, 100),
        "final": final,
        "final_interval": median_interval(final),
        "diverged": np.zeros(len(needed), bool),
        "budget": 100,
        "gradients_per_step": 1.0,
        "gradients": STEPS,
        "gaps": np.ones((len(needed), len(STEPS))),
        "metrics": {},
        "learning_rates": np.array([0.01, 0.1, 1.0]),
        "final_by_rate": np.ones(3),
        "reaching": 2,
        "tolerance": 1.0,
        "complete": True,
        "start": 1.0,
        "smallest": 1.0,
        "levels": DECADES[0],
    }
    return CellStats(problem=problem, optimizer=name, needed=needed, **(given | more))


# gap, targets


def test_gap_is_the_distance_to_the_minimum_until_the_run_diverges() -> None:
    curves = make_curves(
        [[[4.5, 2.5, 1.5, 1.0], [4.5, 9.0, 9.0, 9.0], [4.5, 3.5, 2.5, 0.75]]],
        [[-1, 3, 20]],
    )
    expected = [[[4, 2, 1, 0.5], [4, INF, INF, INF], [4, 3, INF, INF]]]
    entry = fakes.entry(40, f_star=0.5)
    np.testing.assert_array_equal(gap(curves, baseline(entry)), expected)


def test_gap_of_a_problem_with_absolute_targets_is_its_loss() -> None:
    curves = make_curves([[[4.5, 2.5, 1.5, 1.0]]])
    entry = fakes.entry(40, f_star=None, targets=fakes.ABSOLUTE)
    np.testing.assert_array_equal(gap(curves, baseline(entry)), curves.metrics["loss"])


def test_a_run_that_diverges_in_its_first_update_keeps_its_start() -> None:
    curves = make_curves([[[4.0, 4.0, 4.0, 4.0]]], [[0]])
    gaps = gap(curves, baseline(fakes.entry(40)))
    np.testing.assert_array_equal(gaps, [[[4, INF, INF, INF]]])
    assert np.isinf(gradients_to_targets(gaps, STEPS, 4 * DECADES)).all()


def test_target_levels_are_relative_to_the_start_of_each_seed_or_absolute() -> None:
    losses = [[[start, 1.0, 1.0, 1.0]] for start in (1.5, 2.5, 10.5)]
    curves = make_curves(losses)
    relative = target_levels(curves, fakes.RELATIVE, 0.5)
    np.testing.assert_allclose(relative, DECADES * [[1.0], [2.0], [10.0]], rtol=1e-15)
    absolute = target_levels(curves, fakes.ABSOLUTE, 0.0)
    np.testing.assert_array_equal(absolute, [fakes.ABSOLUTE.values] * 3)


# steps to targets


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        # Two decades in 10 steps, nothing, then four decades in 20.
        ([1.0, 1e-2, 1e-2, 1e-6], [5, 10, 25, 30, 35]),
        # The first crossing counts, also if the run goes up again.
        ([1.0, 1e-2, 1.0, 1e-3], [5, 10, 40, INF, INF]),
        ([1.0, 0.5, 0.5, 0.5], [INF] * 5),
        # The start is at the target already.
        ([1e-2, 1e-2, 1e-2, 1e-4], [0, 0, 30, 40, INF]),
        ([1.0, 1e-2, INF, INF], [5, 10, INF, INF, INF]),
        ([1.0, INF, INF, INF], [INF] * 5),
    ],
)
def test_gradients_to_targets_by_hand(gaps: list[float], expected: list[float]) -> None:
    # Logarithms of powers of ten are rounded.
    np.testing.assert_allclose(to_targets(gaps), expected, rtol=1e-13)


@pytest.mark.parametrize("least", [0.0, -1e-9])
def test_a_gap_that_rounds_to_zero_meets_every_target(least: float) -> None:
    # log of the smallest normal number stands for log 0: 307.65 decades down.
    expected = 10 * np.arange(1, 6) / -math.log10(np.finfo(float).tiny)
    found = to_targets([1.0, least, least, least])
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_gradients_to_targets_treats_seeds_and_learning_rates_separately() -> None:
    slow, fast = [1, 1e-1, 1e-2, 1e-4], [1, 1e-2, 1e-4, 1e-8]
    gaps = np.array([[slow, fast], [fast, slow]], float)
    levels = np.concatenate([DECADES, 10 * DECADES])
    found = gradients_to_targets(gaps, STEPS, levels)
    a, b = [10, 20, 30, 40, INF], [5, 10, 15, 20, 25]
    easy_a, easy_b = [0, 10, 20, 30, 40], [0, 5, 10, 15, 20]
    np.testing.assert_allclose(found, [[a, b], [easy_b, easy_a]], rtol=1e-13)


def test_log_cost_of_hits_and_misses() -> None:
    found = log_cost(np.array([0.0, 0.5, 1.0, 20.0, INF]), 100)
    expected = [0, 0, 0, math.log(20), math.log(200)]
    np.testing.assert_allclose(found, expected, rtol=1e-15)


# choice of the learning rate


def choose(*rates: list[list[float]]) -> int:
    """From the gaps of each rate on each seed."""
    gaps = np.array(rates, float).swapaxes(0, 1)
    return choose_learning_rate(
        gaps, STEPS, np.repeat(DECADES, len(gaps), 0), STEPS[-1]
    )


STEADY = [1, 1e-2, 1e-4, 1e-8]  # 5, 10, 15, 20, 25 steps
SLOW = [1, 1e-1, 1e-2, 1e-4]  # 10, 20, 30, 40 steps and a miss
STUCK = [1, 1e-4, 1e-4, 1e-4]  # 2.5, 5, 7.5, 10 steps and a miss
DEAD = [1, INF, INF, INF]


def test_the_chosen_learning_rate_has_the_least_geometric_mean_to_all_targets() -> None:
    # 5 · 10 · 15 · 20 · 25 = 375 000; 2.5 · 5 · 7.5 · 10 · 80 = 75 000;
    # 10 · 20 · 30 · 40 · 80 = 19.2 million: STUCK wins by the product although it
    # misses the last target.
    assert choose([SLOW] * 2, [STEADY] * 2, [STUCK] * 2) == 2
    assert choose([SLOW] * 2, [STEADY] * 2) == 1
    # √(75 000 · 19.2 million) = 1.2 million, worse than 375 000 twice.
    assert choose([STUCK, SLOW], [STEADY] * 2) == 1


def test_divergence_on_some_seeds_counts_against_a_learning_rate() -> None:
    # A diverged run misses all five targets: √(375 000 · 80⁵) = 35 million.
    assert choose([SLOW] * 2, [STEADY, DEAD]) == 0
    assert choose([SLOW, DEAD], [STEADY, DEAD]) == 1
    assert choose([DEAD] * 3, [DEAD, DEAD, SLOW]) == 1


def test_no_learning_rate_is_chosen_where_all_diverged() -> None:
    assert choose([DEAD] * 2, [DEAD] * 2) == -1


def test_ties_go_to_the_lower_final_gap_then_the_smaller_learning_rate() -> None:
    lower = [*STEADY[:-1], 1e-8]
    higher = [*STEADY[:-1], 1e-8]
    assert choose([higher], [lower]) == 0
    miss, near = [1, 1, 1, 0.9], [1, 1, 1, 0.5]
    assert choose([miss] * 3, [near] * 3, [near] * 3) == 1
    assert choose([near, near, DEAD], [miss, miss, miss]) == 0


# intervals, expected runtime


@pytest.mark.parametrize(
    ("count", "low", "high"), [(6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (20, 6, 15)]
)
def test_bounds_of_the_median_are_order_statistics(
    count: int, low: int, high: int
) -> None:
    # The tables of the sign test: P(Binomial(20, ½) ≤ 5) = 0.0207 and ≤ 6 0.0577.
    shuffled = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    found = median_interval(shuffled)
    assert (found.median, found.low, found.high) == ((count + 1) / 2, low, high)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_below_six_values_there_is_no_interval(count: int) -> None:
    found = median_interval(np.arange(float(count)))
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(found.median) == (count == 0)


def test_missed_targets_count_in_the_interval() -> None:
    found = median_interval(np.array([INF, 1, 2, 3, INF, 4, 5, 6, INF, INF]))
    assert (found.median, found.low, found.high) == (5.5, 2, INF)
    assert median_interval(np.full(10, INF)).low == INF


@pytest.mark.parametrize("count", [6, 10, 15])
def test_the_interval_covers_the_median_at_the_nominal_level(count: int) -> None:
    rng = np.random.default_rng(count)
    repeats = 2000
    found = [median_interval(rng.lognormal(size=count)) for _ in range(repeats)]
    covered = np.mean([i.low <= 1.0 <= i.high for i in found])
    k = {6: 1, 10: 2, 15: 4}[count]
    exact = 1 - 2 * sum(math.comb(count, j) for j in range(k)) / 2**count
    assert exact >= 0.95
    assert within(covered, exact, repeats)


def test_expected_runtime_divides_all_steps_by_the_hits() -> None:
    assert expected_runtime(np.array([10.0, 20.0, INF]), 100) == 65.0
    assert expected_runtime(np.array([10.0, 20.0]), 100) == 15.0
    assert expected_runtime(np.array([INF, INF]), 100) == INF


# cells


@pytest.mark.parametrize(
    ("flags", "position", "expected"),
    [("TTTT", 1, (0, 3)), ("TFTT", 2, (2, 3)), ("FTF", 1, (1, 1)), ("TTFT", 1, (0, 1))],
)
def test_stretch_ends_at_the_first_gap(
    flags: str, position: int, expected: tuple[int, int]
) -> None:
    assert stretch(np.array([f == "T" for f in flags]), position) == expected


# Steps per decade of each rate; the targets lie one to five decades down.
PER_DECADE = {1e-3: 16.0, 1e-2: 9.0, 1e-1: 5.0, 1.0: INF}


def falling(rates: tuple[float, ...], seeds: tuple[int, ...] = (0, 100, 101)) -> Curves:
    """From 2 at 1, 1.25 and 1.5 times as many steps; the rate 1 diverges."""
    losses = [
        [2.0 * 10.0 ** -(STEPS / (slower * PER_DECADE[r])) for r in rates]
        for slower in (1.0, 1.25, 1.5)
    ]
    at = [[4 if r == 1.0 else -1 for r in rates]] * 3
    return make_curves(losses, at, rates, seeds)


def settings(**more: Any) -> Settings:
    return Settings(
        **({"learning_rates": (1e-3, 1e-2, 1e-1, 1.0), "tune_seeds": (0,)} | more)
    )


def statistics(curves: Curves, **more: Any) -> CellStats | None:
    given = settings(**({"test_seeds": (100, 101)} | more))
    return cell_stats("p", "a", curves, fakes.entry(40), given)


@pytest.mark.parametrize(
    "rates", [(1e-3, 1e-2, 1e-1, 1.0), (1.0, 1e-3, 1e-1, 1e-2), (1e-1, 1.0, 1e-2, 1e-3)]
)
def test_cell_stats_by_hand_with_learning_rates_in_any_order(
    rates: tuple[float, ...],
) -> None:
    cell = statistics(falling(rates))
    assert cell is not None
    assert (cell.learning_rate, cell.lane, cell.grid_boundary) == (
        0.1,
        rates.index(0.1),
        "",
    )
    np.testing.assert_array_equal(cell.seeds, [100, 101])
    # 6.25 and 7.5 steps per decade.
    expected = [[6.25, 12.5, 18.75, 25, 31.25], [7.5, 15, 22.5, 30, 37.5]]
    np.testing.assert_allclose(cell.needed, expected, rtol=1e-12)
    np.testing.assert_allclose(cell.middle, [18.75, 22.5], rtol=1e-12)
    final = 2 * 10.0 ** -(40 / np.array([6.25, 7.5]))
    np.testing.assert_allclose(cell.final, final, rtol=1e-12)
    assert not cell.diverged.any()
    # The middle target takes 33.75 and 40.5 steps at 1e-2, of which there are 40.
    assert (len(cell.learning_rates), cell.reaching, cell.tolerance) == (4, 1, 0.0)
    assert (cell.budget, cell.complete) == (40, True)


def test_tolerance_is_in_decades_of_learning_rates_that_reach_the_middle_target() -> (
    None
):
    cell = statistics(falling((1e-3, 1e-2, 1e-1, 1.0), (0, 100, 7)))
    assert cell is not None
    assert not cell.complete
    np.testing.assert_array_equal(cell.seeds, [100])
    # Without the slowest seed 1e-2 reaches it too.
    assert cell.reaching == 2
    assert cell.tolerance == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("rates", "edge"),
    [((1e-2, 1e-1), "highest"), ((1e-1, 1.0), "lowest"), ((1e-1,), "")],
)
def test_the_grid_boundary_is_flagged(rates: tuple[float, ...], edge: str) -> None:
    cell = statistics(falling(rates), learning_rates=rates)
    assert cell is not None
    assert (cell.learning_rate, cell.grid_boundary) == (0.1, edge)


def test_a_run_that_leaves_the_middle_target_does_not_end_below_it() -> None:
    losses = np.ones((4, 1, 4)) * [1.0, 1e-3, 1e-4, 1e-4]
    losses[2, 0] = [1.0, 1e-3, 2e-3, 2e-3]  # reached, and left
    losses[3, 0] = [1.0, 0.5, 0.2, 0.1]  # never reached
    curves = make_curves(losses, seeds=[0, 100, 101, 102], rates=[0.1])
    found = statistics(curves, test_seeds=(100, 101, 102))
    assert found is not None
    assert found.reached.tolist() == [True, True, False]
    assert found.ends_below.tolist() == [True, False, False]
    assert found.left.tolist() == [False, True, False]


def test_a_cell_in_which_everything_diverged_has_no_learning_rate() -> None:
    cell = statistics(falling((1.0,)), learning_rates=(1.0,))
    assert cell is not None
    assert (cell.lane, cell.grid_boundary, cell.reaching) == (-1, "", 0)
    assert math.isnan(cell.learning_rate)
    assert math.isnan(cell.tolerance)
    assert cell.diverged.all()
    np.testing.assert_array_equal(cell.needed, np.full((2, 5), INF))
    np.testing.assert_array_equal(cell.final, [INF, INF])


def test_a_cell_without_tuning_or_evaluation_seeds_has_no_statistics() -> None:
    curves = falling((1e-2, 1e-1))
    assert statistics(fakes.first_seeds(curves, 1)) is None
    assert statistics(curves, tune_seeds=(5,)) is None


def test_evaluation_seeds_do_not_affect_the_chosen_learning_rate() -> None:
    rates = (1e-2, 1e-1)
    curves = falling(rates)
    curves.metrics["loss"][1:, 1] = 2.0
    cell = statistics(curves, learning_rates=rates)
    assert cell is not None
    assert cell.learning_rate == 0.1
    assert np.isinf(cell.needed).all()


# comparison


def test_ecdf_by_hand() -> None:
    first = [[10, 20, 30, 40, 50], [10, 20, 30, INF, INF]]
    second = [[5, 5, INF, INF, INF], [10, INF, INF, INF, INF]]
    cells = {("p", "a"): make_cell(first), ("q", "a"): make_cell(second, budget=10)}
    shares, reached = ecdf(cells, ("p", "q"), "a")
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.3, 0.4, 0.5, 1.0])
    # Of p 2, 4, 6, 7, 8, 8 of 10; of q 0, 0, 0, 0, 2, 3 of 10.
    np.testing.assert_allclose(reached, [0.1, 0.2, 0.3, 0.35, 0.5, 0.55])


def test_ecdf_of_an_optimizer_that_reaches_nothing_is_empty() -> None:
    shares, reached = ecdf({("p", "a"): make_cell(np.full((2, 5), INF))}, ("p",), "a")
    assert len(shares) == len(reached) == 0


def test_log_speedups_by_hand() -> None:
    reference = [[10, 20, 40, 80, INF]]
    twice = [[5, 10, 20, 40, INF]]
    missing = [[10, 20, 40, INF, INF]]
    steps = np.array([[reference], [twice], [missing]], float)
    found = log_speedups(steps, 0, np.array([100.0]))
    # A miss costs 200 steps: 80 → 200 is a factor 2.5 on one of five targets.
    expected = [0, 4 * math.log(2) / 5, -math.log(2.5) / 5]
    np.testing.assert_allclose(found[:, 0, 0], expected, atol=1e-15)


def test_iqm_drops_a_quarter_at_each_end() -> None:
    assert iqm(np.array([8.0, 1, 7, 2, 6, 3, 5, 4])) == 4.5
    assert iqm(np.array([0.0, 1, 2, 3, 1000])) == 2.0
    np.testing.assert_array_equal(iqm(np.array([[1.0, 2], [3, 5]])), [1.5, 4.0])


@pytest.mark.parametrize("spreads", [[1.0] * 5, [0.1, 0.5, 1.0, 1.0, 2.0]])
def test_bootstrap_intervals_cover_the_mean_of_these_problems(
    spreads: list[float],
) -> None:
    repeats, problems, seeds = 1000, 5, 10
    means = np.array([[-2.0], [-1.0], [0.0], [1.0], [3.0]])
    noise = np.random.default_rng(0).standard_normal((repeats, problems, seeds))
    scores = means + np.array(spreads)[:, None] * noise
    low, high = bootstrap(scores, resample_problems=False).T
    covered = np.mean((low <= means.mean()) & (means.mean() <= high))
    # Bounds at normal quantiles of a variance known with so many degrees of freedom
    # (Satterthwaite): 94.4 % where the problems spread alike, 93.5 % where one rules.
    variances = np.square(spreads)
    freedom = (seeds - 1) * variances.sum() ** 2 / (variances**2).sum()
    expected = 1 - 2 * scipy.stats.t.sf(scipy.stats.norm.isf(0.025), freedom)
    assert expected > 0.93
    assert within(covered, expected, repeats)


def test_resampling_the_problems_widens_the_interval_by_their_variance() -> None:
    repeats, problems, seeds = 600, 7, 10
    rng = np.random.default_rng(1)
    means = rng.standard_normal((repeats, problems, 1))
    scores = means + 0.3 * rng.standard_normal((repeats, problems, seeds))
    plain = bounds(resampled_means(scores, resample_problems=True))
    seeds_only, both = (bootstrap(scores, resample_problems=r) for r in (False, True))
    intervals = [seeds_only, plain, both]
    covers = [np.mean((i[:, 0] <= 0) & (i[:, 1] >= 0)) for i in intervals]
    # Seven problems behave as a t distribution with 6 degrees of freedom, of which
    # ±1.96 hold 90 % and ±2.45 95 %; binomial error 1.2 %. Seeds alone say little
    # about others.
    assert covers[0] < 0.4
    assert covers[1] == pytest.approx(0.90, abs=0.045)
    assert covers[2] == pytest.approx(0.95, abs=0.03)
    assert covers[2] > covers[1]


def test_bootstrap_keeps_the_pairing_of_optimizers() -> None:
    scores = np.random.default_rng(2).standard_normal((1, 4, 8))
    shifted = np.concatenate([scores, scores + 0.5])
    for resample_problems in (False, True):
        found = bootstrap(shifted, resample_problems=resample_problems)
        np.testing.assert_allclose(found[1], found[0] + 0.5, rtol=1e-12)


# sign flips


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        # Sums of ±1 ±2 ±3: only 6 and -6 are as far from 0 as 6.
        ([[1, 2, 3]], 2 / 8),
        # ±1 ±1 ±2: 4, 2, 2, 0, 0, -2, -2, -4.
        ([[1, -1, 2]], 6 / 8),
        # Means ±2 (variance 1) or ±1 (4), and ±1 (0) or 0 (1): of the sixteen
        # statistics only (2 + 1) / 1 and its mirror image reach 3.
        ([[3, 1], [1, 1]], 2 / 16),
        ([[3, 1], [-2, -2]], 1.0),
        ([[0, 0, 0, 0]], 1.0),
        ([[0.7] * 8], 2 / 256),
    ],
)
def test_sign_flip_by_hand(differences: list[list[float]], expected: float) -> None:
    assert sign_flip(np.array([differences], float))[0] == expected


def test_sign_flip_agrees_with_a_permutation_test() -> None:
    differences = np.random.default_rng(3).normal(0.5, 1.0, (5, 1, 11))
    for pair, p in zip(differences, sign_flip(differences), strict=True):
        other = scipy.stats.permutation_test(
            (pair[0],), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert p == pytest.approx(other.pvalue, abs=1e-12)


def test_random_flips_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(4).normal(0.3, 1.0, (5, 2, 8))
    drawn = sign_flip(differences)
    monkeypatch.setattr(comparison, "EXACT_UP_TO", 16)
    exact = sign_flip(differences)
    for a, b in zip(drawn, exact, strict=True):
        assert within(a, b, comparison.FLIPS)


@pytest.mark.parametrize("crossing", [0.0, 1.0])
def test_equal_optimizers_differ_significantly_at_the_nominal_level(
    crossing: float,
) -> None:
    # Heavy tails and unequal noise; with `crossing` one optimizer is better on some
    # problems and worse on others, with a mean of 0.
    repeats = 400
    rng = np.random.default_rng(5)
    noise = rng.standard_t(3, (repeats, 4, 8))
    scale = np.array([0.1, 0.3, 0.5, 1.0])[:, None]
    means = crossing * np.array([1.0, -1.0, 2.0, -2.0])[:, None]
    alarms = np.mean(sign_flip(means + scale * noise) < 0.05)
    assert within(alarms, 0.05, repeats)


def test_a_planted_effect_is_found() -> None:
    # Half a standard deviation of one difference: z = 0.5 · √60 = 3.9.
    differences = np.random.default_rng(6).normal(0.5, 1.0, (100, 6, 10))
    assert np.mean(sign_flip(differences) < 0.05) > 0.9


def test_holm_by_hand() -> None:
    found = holm(np.array([0.01, 0.04, 0.03, 0.5]))
    np.testing.assert_allclose(found, [0.04, 0.09, 0.09, 0.5], rtol=1e-15)
    np.testing.assert_array_equal(holm(np.array([0.6, 0.7])), [1.0, 1.0])


def test_pairwise_is_symmetric_and_adjusted() -> None:
    base = np.random.default_rng(7).standard_normal((1, 8))
    scores = np.stack([base, base + 1.0, base - 1.0])
    # Every difference is the same in all 8 seeds: 2/256 for each of three pairs.
    expected = np.full((3, 3), 3 * 2 / 256)
    np.fill_diagonal(expected, 1.0)
    np.testing.assert_allclose(pairwise(scores), expected, rtol=1e-12)
    np.testing.assert_array_equal(pairwise(scores[:1]), [[1.0]])


# suites


def suite(factors: dict[str, Any], problems: int = 6, seeds: int = 8) -> dict:
    """Cells whose steps are those of one optimizer times a factor, without noise.

    The factor is the same on all problems, or one for each.
    """
    rng = np.random.default_rng(8)
    base = rng.uniform(1, 50, (problems, seeds, 1)) * [1, 2, 4, 8, 16]
    return {
        (f"p{i}", name): make_cell(
            factor * base[i],
            f"p{i}",
            name,
            budget=100_000,
            complete=True,
            gaps=np.full((seeds, len(STEPS)), factor),
        )
        for name, each in factors.items()
        for i, factor in enumerate(np.broadcast_to(each, problems).tolist())
    }


def compared(cells: dict, problems: int = 6) -> Comparison:
    names = tuple(dict.fromkeys(name for _, name in cells))
    found = compare(cells, tuple(f"p{i}" for i in range(problems)), names)
    assert found is not None
    return found


def test_compare_orders_by_speedup_over_the_reference() -> None:
    cells = suite({"slow": 4.0, "adam": 3.0, "optax.adam": 2.0, "fast": 1.0})
    found = compared(cells)
    assert found.reference == "optax.adam"
    assert found.optimizers == ("fast", "optax.adam", "adam", "slow")
    speedups = [2, 1, 2 / 3, 1 / 2]
    np.testing.assert_allclose(found.speedup, speedups, rtol=1e-12)
    np.testing.assert_allclose(found.iqm, speedups, rtol=1e-12)
    for interval in (found.interval, found.wide_interval):
        np.testing.assert_allclose(interval, np.c_[speedups, speedups], rtol=1e-12)
    assert found.p_values is not None
    assert (found.p_values[np.triu_indices(4, 1)] < 0.05).all()
    assert groups(found) == []
    assert identical_optimizers(cells, found) == {}


def test_the_reference_falls_back_and_comes_first_among_equals() -> None:
    assert compared(suite({"x": 1.0, "adam": 2.0})).reference == "adam"
    assert compared(suite({"x": 1.0, "y": 2.0})).reference == "x"
    cells = suite({"x": 1.0, "adam": 1.0, "z": 1.0})
    found = compared(cells)
    assert found.optimizers == ("adam", "x", "z")
    assert identical_optimizers(cells, found) == {"x": "adam", "z": "adam"}
    assert groups(found) == [("adam", "x", "z")]


def test_optimizers_that_miss_a_problem_are_left_out() -> None:
    cells = suite({"adam": 1.0, "b": 2.0, "c": 3.0}, problems=3)
    del cells["p1", "b"]
    cells["p2", "c"] = dataclasses.replace(cells["p2", "c"], complete=False)
    found = compare(cells, ("p0", "p1", "p2"), ("adam", "b", "c"))
    assert found is not None
    assert found.optimizers == ("adam",)
    np.testing.assert_array_equal(found.p_values, [[1.0]])
    assert groups(found) == []
    assert compare(cells, ("p0", "p1", "p2"), ("b", "c")) is None
    assert compare(cells, ("p0", "p3"), ("adam",)) is None
    assert compare({}, (), ("adam",)) is None


def test_few_seeds_are_not_tested() -> None:
    found = compared(suite({"adam": 1.0, "b": 2.0}, seeds=comparison.MIN_SEEDS - 1))
    assert found.p_values is None
    assert np.isnan(found.interval).all()
    assert np.isnan(found.wide_interval).all()
    assert groups(found) == []
    np.testing.assert_allclose(found.speedup, [1.0, 0.5], rtol=1e-12)


@pytest.mark.parametrize("problems", [1, 5])
def test_few_problems_say_nothing_about_others(problems: int) -> None:
    found = compared(suite({"adam": 1.0, "b": 2.0}, problems=problems), problems)
    assert np.isnan(found.wide_interval).all()
    assert not np.isnan(found.interval).any()
    pair = found.pair("b", "adam")
    assert pair.significant
    assert not pair.carries_over


def test_pairs_by_hand() -> None:
    mixed = [1.0, 16.0, 1.0, 16.0, 1.0, 1.0]
    found = compared(suite({"adam": 4.0, "half": 8.0, "mixed": mixed}))
    # Four times as fast on four of six problems, a quarter on two: 4^(4/6 - 2/6).
    speedup = 4.0 ** (1 / 3)
    assert list(found.pairs) == [
        ("mixed", "adam"),
        ("mixed", "half"),
        ("adam", "half"),
    ]
    assert found.pair("adam", "mixed") is found.pair("mixed", "adam")
    for pair in found.pairs.values():
        i, j = (found.optimizers.index(name) for name in (pair.first, pair.second))
        assert found.p_values is not None
        assert pair.p_value == found.p_values[i, j]
        # Without noise every seed says the same.
        np.testing.assert_allclose(pair.interval, [pair.ratio] * 2, rtol=1e-12)
    lead, _, fixed = found.pairs.values()
    assert lead.ratio == pytest.approx(speedup, rel=1e-12)
    assert lead.significant
    assert lead.wide_interval[0] < 1 < lead.wide_interval[1]
    assert not lead.carries_over
    assert fixed.ratio == pytest.approx(2.0, rel=1e-12)
    np.testing.assert_allclose(fixed.wide_interval, [2.0, 2.0], rtol=1e-12)
    assert fixed.carries_over


def test_optimizers_that_all_miss_are_not_identical() -> None:
    cells = suite({"adam": 1.0, "b": 2.0})
    for pair, cell in cells.items():
        missed = np.full_like(cell.needed, INF)
        cells[pair] = dataclasses.replace(cell, needed=missed)
    found = compared(cells)
    np.testing.assert_array_equal(found.log_speedup, np.zeros((2, 6, 8)))
    assert identical_optimizers(cells, found) == {}


@pytest.mark.parametrize(
    ("different", "expected"),
    [
        ([], ["abcd"]),
        (["ad"], ["abc", "bcd"]),
        (["ac", "ad", "bd"], ["ab", "bc", "cd"]),
        (["ab", "ac", "ad"], ["bcd"]),
        (["ab", "ac", "ad", "bc", "bd", "cd"], []),
        # a and d may be alike, but b, between them, differs from both.
        (["ab", "bc", "bd"], ["cd"]),
    ],
)
def test_groups_are_the_longest_stretches_without_a_significant_difference(
    different: list[str], expected: list[str]
) -> None:
    found = compared(suite(dict(zip("abcd", (1.0, 2.0, 3.0, 4.0), strict=True))))
    p_values = np.ones((4, 4))
    for first, second in different:
        i, j = "abcd".index(first), "abcd".index(second)
        p_values[i, j] = p_values[j, i] = 0.01
    found = dataclasses.replace(found, p_values=p_values)
    assert ["".join(group) for group in groups(found)] == expected


def test_summarize_leaves_out_cells_without_evaluation_seeds() -> None:
    made = fakes.results(
        ("quad_diag", "quad_rot"),
        ("adam", "adamw"),
        learning_rates=fakes.FEW_RATES,
        test_seeds=(100, 101),
    )
    made.curves["quad_rot", "adamw"] = fakes.first_seeds(
        made.curves["quad_rot", "adamw"], 3
    )
    found = summarize(made)
    assert set(found) == set(made.curves) - {("quad_rot", "adamw")}
    assert all(cell.complete for cell in found.values())
    assert found["quad_diag", "adam"].learning_rate == 1e-2
