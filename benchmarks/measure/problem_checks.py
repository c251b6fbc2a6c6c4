"""Checks that a problem measures what it says: the controls of every problem.

Each check takes a problem and yields a sentence for everything that is wrong with it.
A check that does not apply to a problem yields nothing.
"""

import dataclasses
import functools
import hashlib
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.analysis import stats
from benchmarks.engine import runner
from benchmarks.errors import UserError, in_words
from benchmarks.experiment.plan import Settings, make_plan
from benchmarks.measure.calibrate import CONTROLS
from benchmarks.problem import Problem, PyTree
from benchmarks.results import store
from benchmarks.results.store import Results
from benchmarks.roster import resolver

Check = Callable[[Problem], Iterator[str]]

SETTINGS = Settings(
    learning_rates=(0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    tune_seeds=(0,),
    test_seeds=(100, 101, 102, 103, 104),
)
# Plain descent moves away from an equilibrium.
REFERENCES = {"game": "optax.optimistic_gradient_descent"}


def start(problem: Problem, seed: int = 0) -> PyTree:
    """The params at which a run of that seed starts."""
    return _starts(problem.init)(seed)


@functools.lru_cache(maxsize=100)
def _starts(init: Callable[[jax.Array], PyTree]) -> Any:
    return jax.jit(lambda seed: init(jax.random.fold_in(jax.random.key(seed), 0)))


def batch(problem: Problem, step: int | jax.Array = 0, seed: int = 0) -> PyTree:
    """The batch of a run of that seed at that step, counted from 0."""
    stream = jax.random.fold_in(jax.random.key(seed), 1)
    arrays = jax.tree.map(jnp.asarray, problem.data)
    return problem.sample(jax.random.fold_in(stream, step), arrays)


def float64(tree: PyTree) -> PyTree:
    """The same numbers as float64 NumPy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def fingerprint(problem: Problem) -> str:
    """SHA-256, in hex, of a problem's data and minimum."""
    digest = hashlib.sha256(f"{problem.name} {problem.f_star}".encode())
    for leaf in jax.tree.leaves((problem.data, problem.minimizer)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def description(problem: Problem) -> Iterator[str]:
    """The fields that describe the problem are complete and agree."""
    for field in ("summary", "formula", "source"):
        text = getattr(problem, field)
        if not text or "\n" in text:
            yield f"{field} must be a single line of text, got {text!r}."
    for choices in ({"convex", "nonconvex", "game"}, {"deterministic", "stochastic"}):
        if len(problem.tags & choices) != 1:
            yield (
                f"tags must contain exactly one of {sorted(choices)}, got "
                f"{sorted(problem.tags)}."
            )
    if ("game" in problem.tags) != (problem.gradient is not None):
        yield "give `gradient` in a game, and only there."
    if (problem.aux_loss is None) != (problem.front is None):
        yield "give `aux_loss` and `front` together."
    if not problem.scored and problem.metric == "loss":
        yield "a problem that is not scored must name its `metric`."
    if problem.budget < 500:
        yield (
            f"the budget is {problem.budget}: give at least 500 gradients, so that "
            "optimizers with several gradients per step make enough steps."
        )


def minimum(problem: Problem) -> Iterator[str]:
    """The loss is `f_star` and the gradient 0 at the minimizer."""
    if problem.minimizer is None or problem.evaluate_exact is None:
        return
    f_star = problem.f_star
    if f_star is None:
        yield "give `f_star` with `minimizer`."
        return
    value = float(problem.evaluate_exact(float64(problem.minimizer))["loss"])
    if not math.isclose(value, f_star, rel_tol=1e-12, abs_tol=1e-14):
        yield f"the loss at the minimizer is {value!r}, but f_star is {f_star!r}."
    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(problem.loss))
        full = float64(problem.data)
        at_start = np.linalg.norm(_flat(slope(float64(start(problem)), full)))
        found = np.linalg.norm(_flat(slope(float64(problem.minimizer), full)))
    if not found <= 1e-14 * at_start:
        yield (
            f"the norm of the gradient is {found:.2g} at the minimizer and "
            f"{at_start:.2g} at the start: compute the minimizer in float64."
        )


def minimizer(problem: Problem) -> Iterator[str]:
    """No optimizer finds the minimizer by shrinking the params or by rounding them."""
    if problem.minimizer is None or problem.evaluate_exact is None:
        return
    point = _flat(problem.minimizer)
    # The critic of a GAN that has learned its data is 0 by definition.
    found = point[point != 0]
    origin = jax.tree.map(np.zeros_like, float64(problem.minimizer))
    values = [float64(start(problem)), origin]
    at_start, at_origin = (
        float(problem.evaluate_exact(x)["loss"]) - (problem.f_star or 0.0)
        for x in values
    )
    near = len(found) < len(point) / 2 or not np.all(np.abs(found) > 1e-4)
    if near or not at_origin > 1e-3 * at_start:
        yield (
            "the minimizer is too near to the origin, so that an optimizer that only "
            "shrinks the params would find it: move it away."
        )
        return
    # Constants that are drawn or computed are data; without data it is a definition.
    if problem.data is not None and np.mean(np.float32(found) != found) <= 0.9:
        yield (
            "the minimizer has float32 coordinates, so that an optimizer could reach "
            "it exactly, by rounding: draw them in float64. A formula with fixed "
            "constants needs no `data`, and this check does not apply to it."
        )


def lowest(problem: Problem) -> Iterator[str]:
    """No loss is below `f_star`."""
    if problem.evaluate_exact is None or problem.f_star is None:
        return
    values = [problem.evaluate_exact(_points(problem, 30))["loss"]]
    if problem.minimizer is not None:
        random = np.random.RandomState(1)
        near = jax.tree.map(
            lambda leaf: leaf + 1e-3 * random.standard_normal((500, *np.shape(leaf))),
            problem.minimizer,
        )
        values.append(problem.evaluate_exact(near)["loss"])
    least = float(np.min(np.concatenate(values)))
    if not least > problem.f_star:
        yield f"the loss reaches {least!r}, not above f_star, {problem.f_star}."


def gradient(problem: Problem) -> Iterator[str]:
    """The gradient of the loss is its difference quotient."""
    with jax.enable_x64(True):
        value, pairs = _derivatives(problem)
    if value.dtype != jnp.float64:
        yield (
            f"the loss of float64 params is {value.dtype}: do not cast the params; "
            "cast the data to their dtype."
        )
        return
    for expected, found in pairs:
        if not math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-12):
            yield (
                f"the derivative in one direction is {expected:.6g}, but the "
                f"difference quotient is {found:.6g}: the gradient is not that of the "
                "loss."
            )
            return


def _derivatives(problem: Problem) -> tuple[jax.Array, list[tuple[float, float]]]:
    """The loss, and in three directions the derivative and the difference quotient."""
    random = np.random.RandomState(2)

    def noise(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: random.standard_normal(np.shape(leaf)), tree)

    def moved(params: PyTree, direction: PyTree, step: float) -> PyTree:
        return jax.tree.map(lambda p, d: p + step * d, params, direction)

    # Off the start, where the blank patches of images meet ReLU at its kink.
    params = float64(start(problem))
    params = moved(params, noise(params), 0.05)
    one_batch = float64(batch(problem))
    slope = jax.jit(jax.value_and_grad(problem.loss))
    value, grads = slope(params, one_batch)
    pairs = []
    for _ in range(3):
        direction = noise(params)
        ahead, behind = (
            float(slope(moved(params, direction, step), one_batch)[0])
            for step in (1e-6, -1e-6)
        )
        along = float(_flat(grads) @ _flat(direction))
        pairs.append((along, (ahead - behind) / 2e-6))
    return value, pairs


def evaluation(problem: Problem) -> Iterator[str]:
    """`evaluate_exact` is the training loss on all data, at any number of points."""
    evaluate = problem.evaluate_exact
    if evaluate is None:
        return
    points = _points(problem, 2, 3)
    metrics = evaluate(points)
    if next(iter(metrics)) != "loss":
        yield f"`evaluate_exact` must give 'loss' first, got {list(metrics)}."
        return
    values = np.asarray(metrics["loss"])
    if values.shape != (2, 3) or values.dtype != np.float64:
        yield (
            "`evaluate_exact` of params with leading axes (2, 3) must be float64 of "
            f"shape (2, 3), got {values.dtype} of {values.shape}: write x[..., 0], not "
            "x[0], and sum over the last axes."
        )
        return
    for at in np.ndindex(2, 3):
        single = float(evaluate(_at(points, at))["loss"])
        if not math.isclose(single, values[at], rel_tol=1e-13):
            yield (
                f"`evaluate_exact` is {single!r} at one point and {values[at]!r} at "
                "the same point among others."
            )
            break
    # The metric of a game is the distance to its equilibrium, not the loss of a player.
    if problem.gradient is None:
        loss = jax.jit(problem.loss)
        full = problem.full_batch(problem.data)
        for at in np.ndindex(2, 3):
            params = jax.tree.map(np.float32, _at(points, at))
            found = float(loss(params, full))
            if not math.isclose(found, values[at], rel_tol=2e-5):
                yield (
                    f"`evaluate_exact` is {values[at]:.6g} where the loss on all data "
                    f"is {found:.6g}."
                )
                break
    far = jax.tree.map(lambda leaf: 1e30 * leaf, points)
    with np.errstate(all="ignore"):
        if not np.all(np.isfinite(evaluate(far)["loss"])):
            yield "`evaluate_exact` must be finite at 1e31 times the start."


def precision(problem: Problem) -> Iterator[str]:
    """Training is in float32 and promotes no dtypes; losses and metrics are scalars."""

    def step(key: jax.Array, arrays: PyTree) -> PyTree:
        params = problem.init(key)
        one_batch = problem.sample(key, arrays)
        return params, *jax.value_and_grad(problem.loss)(params, one_batch)

    def metrics(params: PyTree, arrays: PyTree) -> Mapping[str, jax.Array]:
        found = (
            problem.evaluate(params, arrays)
            if problem.evaluate
            else {"loss": jnp.zeros(())}
        )
        names.extend(found)  # tracing sorts them
        return found

    arrays = jax.tree.map(jnp.asarray, problem.data)
    names: list[str] = []
    try:
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            params, value, grads = jax.eval_shape(step, jax.random.key(0), arrays)
            scores = jax.eval_shape(metrics, params, arrays)
    except (TypeError, ValueError) as error:
        lines = str(error).strip().splitlines() or ["no message"]
        yield f"one step without promotion of dtypes and ranks fails: {lines[0]}"
        return
    if names[:1] != ["loss"]:
        yield f"`evaluate` must give 'loss' first, got {names}."
    for what, scalar in {"the loss": value, **scores}.items():
        if scalar.shape != ():
            yield f"{what} must be a scalar, got shape {scalar.shape}."
    trained = params, value, grads, scores
    others = {str(leaf.dtype) for leaf in jax.tree.leaves(trained)} - {"float32"}
    if others:
        yield f"params, losses and metrics must be float32, got {sorted(others)}."


def seeds(problem: Problem) -> Iterator[str]:
    """Every seed is an instance of the problem."""
    starts = {seed: _flat(start(problem, seed)) for seed in (0, 3, 4, 103)}
    same = max(np.mean(starts[3] == starts[seed]) for seed in (0, 4, 103))
    # All seeds start the biases of networks at 0.
    if same >= 0.1:
        yield (
            f"{same:.0%} of the start is the same for two seeds: `init` must use its "
            "key in all coordinates, for example with `benchmarks.problem.near`."
        )
        return
    points = [start(problem, seed) for seed in range(4)]
    loss = jax.jit(problem.loss)
    if len({float(loss(point, batch(problem))) for point in points}) < 4:
        yield "the training loss is the same at the starts of two seeds."
    # An error rate counts examples, so two starts can have the same one.
    least = 2 if "error" in problem.metric else 4
    if len({_value(problem, point) for point in points}) < least:
        yield f"the {problem.metric} is the same at the starts of two seeds."


def batches(problem: Problem) -> Iterator[str]:
    """A batch is all data, or random with all data as its mean, and repeatable."""
    if "deterministic" in problem.tags:
        if problem.sample(jax.random.key(0), problem.data) is not problem.data:
            yield "tagged `deterministic`, but `sample` does not return the whole data."
        if problem.full_batch(problem.data) is not problem.data:
            yield (
                "tagged `deterministic`, but `full_batch` does not return the whole "
                "data."
            )
        return
    params = start(problem)

    @jax.jit
    def losses(steps: jax.Array) -> jax.Array:
        return jax.lax.map(lambda t: problem.loss(params, batch(problem, t)), steps)

    values = np.asarray(losses(jnp.arange(1000)))
    full = float(jax.jit(problem.loss)(params, problem.full_batch(problem.data)))
    mean, deviation = np.mean(values, dtype=float), np.std(values, dtype=float)
    # In float32, some hundred of a thousand losses of a text model are equal.
    if len(np.unique(values)) <= 800:
        yield (
            f"tagged `stochastic`, but 1000 batches have {len(np.unique(values))} "
            "different losses: `sample` must use its key."
        )
    elif not abs(mean - full) <= 4 * deviation / math.sqrt(len(values)):
        yield (
            f"the mean loss over batches is {mean:.6g}, but the loss on all "
            f"training data {full:.6g}: give `full_batch`, or correct `sample`."
        )
    if not np.array_equal(losses(jnp.arange(1000)[::-1])[::-1], values):
        yield "the same key gives another batch when it is used again."


def speed(problem: Problem) -> Iterator[str]:
    """Learning rates side by side train on one batch without slow operations."""

    def losses(params: PyTree, one_batch: PyTree) -> list[jax.Array]:
        found = (problem.loss, problem.aux_loss, problem.tail_loss)
        return [loss(params, one_batch) for loss in found if loss]

    step = jax.vmap(jax.jacrev(losses), (0, None))
    lanes = jax.tree.map(lambda leaf: np.stack([leaf] * 3), start(problem))
    operations = str(jax.make_jaxpr(step)(lanes, batch(problem)))
    for slow in ("gather", "scatter", "conv_general"):
        if slow in operations:
            yield (
                f"the gradient of several runs at once contains {slow!r}, which is "
                "slow: write the loss with slices, sums or matrix products."
            )


def descent(problem: Problem) -> Iterator[str]:
    """Sixty steps of Adam reduce the metric."""
    if problem.gradient is not None:
        return
    first, last = start(problem), _adam(problem, rate=0.01, steps=60)
    before, after = _value(problem, first), _value(problem, last)
    least = problem.f_star or 0.0
    if not after - least < 0.99 * (before - least):
        yield (
            f"60 steps of Adam at the learning rate 0.01 change the {problem.metric} "
            f"from {before:.6g} to {after:.6g}, which is not a descent."
        )


def controls(problem: Problem) -> Iterator[str]:
    """Standing still and going uphill miss every target; a reference reaches them."""
    if not problem.scored:
        yield from _unscored_controls(problem)
        return
    kind = next(iter(problem.tags & {*REFERENCES}), "")
    reference = REFERENCES.get(kind, "optax.adam")
    results = _run(problem, reference, SETTINGS)
    entry = results.manifest.problems[problem.name]
    for control in CONTROLS:
        curves = results.curves[problem.name, control.name]
        levels = stats.target_levels(curves, entry.targets, stats.baseline(entry))
        steps = stats.gradients_to_targets(
            stats.gap(curves, stats.baseline(entry)), curves.eval_steps, levels
        )
        if reached := np.isfinite(steps).any(axis=(1, 2)).sum():
            yield (
                f"the control {control.name!r} reaches a target on {reached} of "
                f"{len(steps)} seeds: the targets are too easy; check `f_star`, start "
                "further from the minimum, or let the starts of seeds differ less."
            )
    last = entry.targets.values[-1]
    origin = _value(problem, jax.tree.map(jnp.zeros_like, start(problem)))
    if entry.targets.kind == "absolute" and origin <= last:
        yield f"params that are 0 reach the last target: {origin:.6g} ≤ {last:.6g}."
    cell = stats.summarize(results)[problem.name, reference]
    reached = np.isfinite(np.median(cell.needed, axis=0))
    if not reached.all():
        yield (
            f"the reference {reference} with a tuned learning rate reaches "
            f"{reached.sum()} of {len(reached)} targets in {problem.budget} gradients: "
            "raise the budget, or check `f_star`."
        )


def _unscored_controls(problem: Problem) -> Iterator[str]:
    short = dataclasses.replace(problem, budget=round(0.05 * problem.budget))
    results = _run(short, "optax.adam", Settings((0.01,), (0,), (100, 101)))
    losses = {
        name: curves.metrics["loss"][:, 0]
        for (_, name), curves in results.curves.items()
    }
    first = losses["null"][:, 0]
    if np.ptp(losses["null"], axis=1).any():
        yield f"the {problem.metric} changes without a step."
    if not (losses["uphill"][:, -1] > 0.8 * first).all():
        yield f"going uphill improves the {problem.metric}."
    if not (losses["optax.adam"][:, -1] < 0.8 * first).all():
        yield f"Adam does not improve the {problem.metric} by a fifth in 5 % of a run."


def repeatable(problem: Problem) -> Iterator[str]:
    """Another process makes the same problem."""
    name = problem.spec or problem.name
    code = (
        "import sys; from benchmarks.measure.problem_checks import fingerprint; "
        "from benchmarks.problems import load_problem; "
        "print(fingerprint(load_problem(sys.argv[1])))"
    )
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    made = subprocess.run(
        [sys.executable, "-c", code, name],
        env=os.environ | {"PYTHONHASHSEED": "99", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    lines = made.stdout.split()
    if made.returncode:
        errors = made.stderr.strip().splitlines() or ["no message"]
        yield f"making it in another process fails: {errors[-1]}"
    elif lines[-1:] != [fingerprint(problem)]:
        yield (
            "another process makes another problem: draw constants from "
            "np.random.RandomState(0), and everything else from the key."
        )


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        description,
        precision,
        minimum,
        minimizer,
        lowest,
        gradient,
        evaluation,
        seeds,
        batches,
        speed,
        descent,
        repeatable,
        controls,
    )
}


# The fields of a problem without which a check has nothing to check.
NEEDS = {
    "minimum": ("evaluate_exact", "minimizer"),
    "minimizer": ("evaluate_exact", "minimizer"),
    "lowest": ("evaluate_exact", "f_star"),
    "evaluation": ("evaluate_exact",),
}


def check(problem: Problem) -> Iterator[tuple[str, list[str] | None]]:
    """The title of each check, and a sentence for everything that is wrong.

    A check that raises an error has failed too; its sentence gives the error. None
    instead of sentences stands for a check that does not apply to the problem.
    """
    for name, one in CHECKS.items():
        title = (one.__doc__ or "").splitlines()[0].rstrip(".")
        if any(getattr(problem, field) is None for field in NEEDS.get(name, ())):
            yield title, None
            continue
        try:
            sentences = list(one(problem))
        except UserError as error:
            sentences = [f"{error}"]
        except Exception as error:  # functions of a problem fail in any way
            sentences = [f"it fails with {in_words(error)}."]
        yield title, sentences


def _run(problem: Problem, reference: str, settings: Settings) -> Results:
    optimizers = [resolver.resolve(reference), *CONTROLS]
    plan = make_plan("controls", [problem], optimizers, settings, "source")
    with tempfile.TemporaryDirectory() as folder:
        failures = runner.run_plan(plan, Path(folder))
        if failures:
            raise RuntimeError(failures[0].message)
        return store.load(Path(folder))


def _adam(problem: Problem, rate: float, steps: int) -> PyTree:
    optimizer = optax.adam(rate)

    def step(carry: PyTree, t: jax.Array) -> tuple[PyTree, None]:
        params, state = carry
        grads = jax.grad(problem.loss)(params, batch(problem, t))
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(params: PyTree) -> PyTree:
        carry = params, optimizer.init(params)
        return jax.lax.scan(step, carry, jnp.arange(steps))[0][0]

    return run(start(problem))


def _flat(tree: PyTree) -> np.ndarray:
    """All numbers of a tree in one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _points(problem: Problem, *leading: int) -> PyTree:
    """Starts of several seeds, scaled up and down, in float64, with leading axes."""
    count = math.prod(leading)
    points = [
        jax.tree.map(lambda leaf, by=scale: by * leaf, float64(start(problem, seed)))
        for seed, scale in enumerate(np.geomspace(0.03, 30.0, count))
    ]

    def stack(*leaves: np.ndarray) -> np.ndarray:
        return np.reshape(leaves, (*leading, *leaves[0].shape))

    return jax.tree.map(stack, *points)


def _at(points: PyTree, index: tuple[int, ...]) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[index], points)


def _value(problem: Problem, params: PyTree) -> float:
    """The metric on which targets are set."""
    if problem.evaluate_exact is not None:
        return float(problem.evaluate_exact(float64(params))["loss"])
    return float(_evaluation(problem.evaluate)(params, problem.data)["loss"])


@functools.lru_cache(maxsize=100)
def _evaluation(evaluate: Any) -> Callable[[PyTree, PyTree], PyTree]:
    return jax.jit(evaluate)
