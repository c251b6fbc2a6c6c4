"""Made-up results: curves whose every number is known beforehand."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiment.plan import DEFAULT_LEARNING_RATES, Settings, eval_steps
from benchmarks.experiment.targets import Targets
from benchmarks.results import blocks, files, paths
from benchmarks.results import manifest as manifests
from benchmarks.results.blocks import Block
from benchmarks.results.manifest import CellEntry, Git, Manifest, ProblemEntry
from benchmarks.results.store import Curves, Results

RELATIVE = Targets("relative", (1e-1, 1e-2, 1e-3, 1e-4, 1e-5))
ABSOLUTE = Targets("absolute", (0.5, 0.3, 0.2, 0.15, 0.12))
UNSCORED = Targets("none", ())
PROBLEMS = (
    *("quad_diag", "quad_rot", "logreg_bc", "softmax_digits", "rosen2", "rosen10"),
    "mlp32_digits",
)
OPTIMIZERS = (
    *("adam", "adam_nc", "adamax", "adamw", "amsgrad", 'amsgrad(variant="torch")'),
    *('amsgrad(variant="paper")', "optax.sgd(momentum=0.9)", "optax.adam"),
    *("optax.lion", "optax.contrib.muon"),
)
PLANE = "rosen2"
VALIDATED = ("softmax_digits", "mlp32_digits")


def entry(budget: int, **changes: Any) -> ProblemEntry:
    """A problem's part of the manifest."""
    made = ProblemEntry(
        summary="A problem that nobody solved.",
        formula="½ x²",
        source="these tests",
        tags=("convex",),
        budget=budget,
        f_star=0.0,
        targets=RELATIVE,
        data_hash="0123456789abcdef" * 4,
        dimension=2,
    )
    return dataclasses.replace(made, **changes)


def manifest(
    problems: dict[str, ProblemEntry], optimizers: tuple[str, ...], settings: Settings
) -> Manifest:
    """A manifest of all pairs."""
    pairs = [(p, o) for p in problems for o in optimizers]
    return Manifest(
        suite="quick",
        settings=settings,
        problems=problems,
        optimizers=dict.fromkeys(optimizers, "0" * 64),
        cells=tuple(
            CellEntry(p, o, hashlib.sha256(f"{p} {o}".encode()).hexdigest())
            for p, o in pairs
        ),
        skipped=(),
        failed=(),
        versions={"python": "3.11", "jax": "0.10"},
        git=Git("f" * 40, dirty=False),
        machine={"cpu": "a processor", "cores": 2},
        command="python -m benchmarks run quick",
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:01:00+00:00",
    )


def curves(
    budget: int,
    settings: Settings,
    *,
    speed: float,
    best_rate: float = 1e-2,
    f_star: float = 0.0,
    plane: bool = False,
    seed: int = 0,
) -> Curves:
    """Losses that fall exponentially, fastest at `best_rate`; 100 times that diverges.

    Pairs of equal `seed` share the noise of every run.
    """
    rng = np.random.default_rng(seed)
    rates = np.array(settings.learning_rates)
    seeds = np.array(settings.seeds)
    steps = eval_steps(budget).astype(np.int32)
    start = rng.uniform(1.0, 3.0, (len(seeds), 1, 1))
    noise = np.exp(0.1 * rng.standard_normal((len(seeds), 1, 1)))
    away = np.abs(np.log10(rates / best_rate))[None, :, None]
    decay = 20.0 * speed * noise * np.exp(-away) * steps / budget
    gaps = start * np.maximum(np.exp(-decay), 1e-9)
    diverged = np.where(rates > 99 * best_rate, 3, -1)
    diverged_at = np.broadcast_to(diverged, (len(seeds), len(rates))).copy()
    frozen = (diverged_at[:, :, None] >= 0) & (steps >= 3)
    loss = f_star + np.where(frozen, 1.5 * start, gaps)
    metrics = {"loss": loss}
    if plane:
        metrics["x_0"] = 1.0 - 2.2 * np.sqrt(gaps / start)
        metrics["x_1"] = 1.0 + 0.5 * np.sqrt(gaps / start) * np.sin(decay)
    return Curves(seeds, rates, steps, metrics, diverged_at)


def cost(seed: int) -> dict[str, float]:
    """What a cell cost."""
    rng = np.random.default_rng(seed)
    return {
        "trace_s": 0.1,
        "compile_s": 0.5,
        "run_s": 1.0,
        "flops": 1e6,
        "bytes_accessed": 1e6,
        "temp_bytes": 0.0,
        "state_bytes": 80.0,
        "param_bytes": 40.0,
        "us_per_run_step": float(rng.uniform(1, 2)),
    }


def results(
    problems: tuple[str, ...] = PROBLEMS,
    optimizers: tuple[str, ...] = OPTIMIZERS,
    **settings: Any,
) -> Results:
    """A finished run in which later optimizers are a little slower, bar noise."""
    given = Settings(**settings)
    described, found, costs = {}, {}, {}
    for i, problem in enumerate(problems):
        budget = 1000 + 500 * (i % 3)
        changes: dict[str, Any] = {"f_star": 0.05 * (i % 2)}
        if problem in VALIDATED:
            changes = {"f_star": None, "targets": ABSOLUTE}
        described[problem] = entry(budget, **changes)
        for j, optimizer in enumerate(optimizers):
            made = curves(
                budget,
                given,
                speed=1.0 / (1 + 0.1 * j),
                best_rate=10.0 ** -(2 - j % 2),
                f_star=0.05 if changes["f_star"] is None else changes["f_star"],
                plane=problem == PLANE,
                seed=1000 * i,
            )
            # A little of what a pair's difference is made of in real runs.
            rng = np.random.default_rng(1000 * i + j + 1)
            shape = made.metrics["loss"].shape
            offset = described[problem].f_star or 0.0
            noise = np.exp(0.05 * rng.standard_normal(shape))
            noise[:, :, 0] = 1.0
            made.metrics["loss"][:] = offset + (made.metrics["loss"] - offset) * noise
            found[problem, optimizer] = made
            costs[problem, optimizer] = cost(i + j)
    return Results(manifest(described, optimizers, given), found, costs)


def without(made: Results, *pairs: tuple[str, str]) -> Results:
    """The same without some cells."""
    kept = {pair: c for pair, c in made.curves.items() if pair not in pairs}
    costs = {pair: c for pair, c in made.costs.items() if pair not in pairs}
    return Results(made.manifest, kept, costs)


def first_seeds(curves: Curves, count: int) -> Curves:
    """The same with only the first blocks finished."""
    return curves.of(curves.seeds[:count])


def write(made: Results, out: Path) -> None:
    """Stores results as a run would."""
    manifests.write(out, made.manifest)
    keys = {(c.problem, c.optimizer): c.key for c in made.manifest.cells}
    for pair, cell in made.curves.items():
        files.write_json(paths.cost_path(out, *pair), made.costs[pair])
        for s, seed in enumerate(cell.seeds):
            block = Block(
                cell.learning_rates,
                cell.eval_steps,
                {name: values[s] for name, values in cell.metrics.items()},
                cell.diverged_at[s].astype(np.int32),
            )
            blocks.write(paths.block_path(out, *pair, int(seed)), block, keys[pair], {})


FEW_RATES = DEFAULT_LEARNING_RATES[4:9]
