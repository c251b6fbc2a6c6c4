"""The engine against closed forms, and against itself with other chunks."""

import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.engine import lane, runner
from benchmarks.engine.progress import Progress
from benchmarks.experiment.plan import Cell
from benchmarks.results import blocks, files, store
from benchmarks.results.store import Curves
from tests.benchmarks import toys

RATES = (0.01, 0.1, 1.0)


def starts(problem: Any, seeds: np.ndarray) -> np.ndarray:
    keys = [jax.random.fold_in(jax.random.key(int(s)), 0) for s in seeds]
    return np.array([problem.init(key) for key in keys], np.float64)


def closed_form(curves: Curves, factors: np.ndarray) -> np.ndarray:
    """½ Σ λ (x₀ ∏ factor)² for factors `[L, T, 3]`, at the evaluation points."""
    x0 = starts(toys.quadratic(), curves.seeds)
    ones = np.ones((len(factors), 1, 3))
    shrink = np.cumprod(np.concatenate([ones, factors], 1), 1)[:, curves.eval_steps]
    x = x0[:, None, None, :] * shrink
    return 0.5 * x**2 @ toys.CURVATURES.astype(np.float64)


def test_gradient_descent_follows_its_closed_form(tmp_path: Path) -> None:
    plan = toys.plan([toys.quadratic()], [toys.SGD], toys.settings(*RATES))
    curves = toys.run(plan, tmp_path).curves["toy_quadratic", "sgd"]
    shrink = 1 - np.array(RATES)[:, None, None] * toys.CURVATURES[None, None, :]
    expected = closed_form(curves, np.repeat(shrink, 60, 1))
    # 60 updates of relative error 2⁻²⁴ each, squared; zero is reached at rate 1
    np.testing.assert_allclose(curves.metrics["loss"], expected, 2e-5, 1e-12)
    np.testing.assert_array_equal(curves.seeds, [0, 100, 101])
    np.testing.assert_array_equal(curves.learning_rates, RATES)
    assert (curves.diverged_at == -1).all()


def test_cosine_ends_at_zero(tmp_path: Path) -> None:
    settings = toys.settings(*RATES, schedule="cosine")
    plan = toys.plan([toys.quadratic()], [toys.SGD], settings)
    curves = toys.run(plan, tmp_path).curves["toy_quadratic", "sgd"]
    rates = np.array(RATES)[:, None] * 0.5 * (1 + np.cos(np.pi * np.arange(60) / 60))
    expected = closed_form(curves, 1 - rates[..., None] * toys.CURVATURES)
    np.testing.assert_allclose(curves.metrics["loss"], expected, 5e-5, 1e-12)


def test_update_gets_every_extra_argument(tmp_path: Path) -> None:
    def make(rate: Any) -> optax.GradientTransformationExtraArgs:
        def update(
            grads: Any, state: Any, params: Any, *, value: Any, grad: Any, **fns: Any
        ) -> Any:
            same = fns["value_fn"](params) / value
            again = fns["grad_fn"](params) + grad - grads
            return -rate * same * again, state

        return optax.GradientTransformationExtraArgs(lambda params: (), update)

    asking = toys.optimizer("asking", make)
    plan = toys.plan([toys.quadratic()], [asking], toys.settings(*RATES[:2]))
    (cell,) = plan.cells
    # Of 60 gradients it takes two for each step, and a loss, a third of one.
    assert cell.gradients_per_step == pytest.approx(7 / 3)
    assert cell.steps == 26
    curves = toys.run(plan, tmp_path).curves["toy_quadratic", "asking"]
    np.testing.assert_allclose(curves.gradients_per_step, 7 / 3)
    shrink = 1 - np.array(RATES[:2])[:, None, None] * toys.CURVATURES[None, None, :]
    expected = closed_form(curves, np.repeat(shrink, 26, 1))
    np.testing.assert_allclose(curves.metrics["loss"], expected, 1e-4)


def test_batches_and_starts_follow_the_keys(tmp_path: Path) -> None:
    problem = toys.regression()
    plan = toys.plan([problem], [toys.SGD], toys.settings(0.1, seeds=2))
    curves = toys.run(plan, tmp_path).curves["toy_regression", "sgd"]
    assert list(curves.metrics) == ["loss", "a_size"]

    @jax.jit
    def step(params: Any, key: jax.Array, t: int) -> tuple[jax.Array, Any]:
        batch_key = jax.random.fold_in(jax.random.fold_in(key, 1), t)
        batch = problem.sample(batch_key, jax.tree.map(jnp.asarray, problem.data))
        grads = jax.grad(problem.loss)(params, batch)
        moved = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
        return problem.loss(params, problem.data), moved

    for row, seed in enumerate(curves.seeds):
        key = jax.random.key(int(seed))
        params = problem.init(jax.random.fold_in(key, 0))
        losses = []
        for t in range(41):
            loss, params = step(params, key, t)
            losses.append(float(loss))
        expected = np.array(losses)[curves.eval_steps]
        np.testing.assert_allclose(curves.metrics["loss"][row, 0], expected, 1e-5)


def test_null_and_flipped_reach_no_target_and_a_reference_all(tmp_path: Path) -> None:
    roster = [toys.NULL, toys.FLIPPED, toys.SGD]
    settings = toys.settings(0.03, 0.3, 1.0, seeds=5)
    problem = toys.quadratic(budget=1500)
    results = toys.run(toys.plan([problem], roster, settings), tmp_path)

    def passed(name: str) -> np.ndarray:
        loss = results.curves["toy_quadratic", name].metrics["loss"]
        levels = loss[:, :, :1] * np.array(toys.TARGETS.values)
        return loss.min(-1, keepdims=True) <= levels

    assert not passed("null").any()
    assert not passed("flipped").any()
    assert np.median(passed("sgd")[:, 2], 0).all()


def test_a_diverging_lane_is_frozen_and_the_others_continue(tmp_path: Path) -> None:
    rates = (0.1, 30.0)
    plan = toys.plan([toys.quadratic()], [toys.SGD], toys.settings(*rates))
    curves = toys.run(plan, tmp_path).curves["toy_quadratic", "sgd"]
    factor = 1 - 30.0 * toys.CURVATURES.astype(np.float64)
    for row, x0 in enumerate(starts(toys.quadratic(), curves.seeds)):
        x = x0 * factor ** np.arange(60)[:, None]
        loss = 0.5 * x**2 @ toys.CURVATURES.astype(np.float64)
        at = int(np.argmax(loss > lane.DIVERGENCE * max(1.0, loss[0])))
        assert curves.diverged_at[row].tolist() == [-1, at]
        frozen = curves.metrics["loss"][row, 1, curves.eval_steps >= at]
        np.testing.assert_allclose(frozen, loss[at], 1e-4)
        assert len(set(frozen)) == 1
    shrink = 1 - 0.1 * toys.CURVATURES[None, None, :]
    expected = closed_form(curves, np.repeat(shrink, 60, 1))[:, 0]
    np.testing.assert_allclose(curves.metrics["loss"][:, 0], expected, 2e-5)


def test_a_step_to_infinity_is_not_taken(tmp_path: Path) -> None:
    def make(rate: Any) -> optax.GradientTransformation:
        def update(grads: Any, count: Any, params: Any = None) -> Any:
            step = jnp.where((count == 7) & (rate > 0.05), jnp.inf, -rate * grads)
            return step, count + 1

        return optax.GradientTransformation(lambda params: jnp.int32(0), update)

    trap = toys.optimizer("trap", make)
    plan = toys.plan([toys.quadratic()], [trap, toys.SGD], toys.settings(0.01, 0.1))
    results = toys.run(plan, tmp_path)
    trapped = results.curves["toy_quadratic", "trap"]
    free = results.curves["toy_quadratic", "sgd"]
    assert (trapped.diverged_at == [-1, 7]).all()
    np.testing.assert_allclose(
        trapped.metrics["loss"][:, 0], free.metrics["loss"][:, 0], 1e-6
    )
    before = trapped.eval_steps <= 7
    np.testing.assert_allclose(
        trapped.metrics["loss"][:, 1, before], free.metrics["loss"][:, 1, before], 1e-6
    )
    assert np.ptp(trapped.metrics["loss"][:, 1, trapped.eval_steps >= 7], -1).max() == 0


def test_runs_in_the_plane_store_their_path(tmp_path: Path) -> None:
    plan = toys.plan([toys.plane()], [toys.SGD], toys.settings(0.1))
    curves = toys.run(plan, tmp_path).curves["toy_plane", "sgd"]
    x, y = curves.metrics["x_0"], curves.metrics["x_1"]
    np.testing.assert_allclose(y[0, 0], 2 * 0.8**curves.eval_steps, 1e-5)
    np.testing.assert_allclose(curves.metrics["loss"], x**2 + y**2, 1e-6)


def test_numbers_do_not_depend_on_workers_or_chunks(tmp_path: Path) -> None:
    plan = toys.small_plan(toys.ADAM)
    toys.run(plan, tmp_path / "one", workers=1, checkpoint_seconds=1e9)
    toys.run(plan, tmp_path / "three", workers=3, checkpoint_seconds=0.0)
    one, three = toys.numbers(tmp_path / "one"), toys.numbers(tmp_path / "three")
    assert len(one) == 2 * 2
    assert one == three


def test_numbers_do_not_depend_on_the_number_of_devices(tmp_path: Path) -> None:
    runs = {}
    for count in (1, 2, 8):
        out = tmp_path / str(count)
        assert toys.run_child(out, devices=count) == 0
        runs[count] = toys.numbers(out)
    assert len(runs[1]) == 4
    assert runs[1] == runs[2] == runs[8]
    keys = [files.read_json(tmp_path / n / "manifest.json")["cells"] for n in "128"]
    assert keys[0] == keys[1] == keys[2]


def test_seeds_share_one_compilation(tmp_path: Path) -> None:
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name)
    )

    def count(seeds: int, out: Path) -> int:
        compiled.clear()
        settings = toys.settings(seeds=seeds)
        toys.run(toys.plan([toys.plane()], [toys.ADAM], settings), out, workers=1)
        return sum("backend_compile" in name for name in compiled)

    count(2, tmp_path / "warm-up")
    few, many = count(2, tmp_path / "few"), count(6, tmp_path / "many")
    jax.monitoring.clear_event_listeners()
    assert many == few > 0
    # What is finished is not even compiled again.
    assert count(6, tmp_path / "many") == 0


class Compilations(Progress):
    def __init__(self) -> None:
        self.cells: list[str] = []

    def compiled(self, cell: Cell, seconds: float) -> None:
        self.cells.append(f"{cell.problem.name} {cell.optimizer.name}")


def test_workers_of_one_device_share_one_compilation(tmp_path: Path) -> None:
    heard = Compilations()
    toys.run(toys.small_plan(toys.SGD), tmp_path, workers=4, progress=heard)
    assert len(heard.cells) == len(set(heard.cells)) == 2


def test_a_failing_optimizer_loses_nothing_else(tmp_path: Path) -> None:
    def make(rate: Any) -> Any:
        msg = "I was never good.\nReally."
        raise RuntimeError(msg)

    broken = toys.optimizer("broken", make)
    leaving = toys.optimizer("leaving", lambda rate: sys.exit(3))
    roster = [leaving, toys.SGD, broken]
    plan = toys.plan([toys.quadratic()], roster, toys.settings())
    failures = runner.run_plan(plan, tmp_path)
    assert [(failure.optimizer, failure.message) for failure in failures] == [
        ("leaving", "SystemExit: 3"),
        ("broken", "RuntimeError: I was never good."),
    ]
    results = store.load(tmp_path)
    assert list(results.curves) == [("toy_quadratic", "sgd")]
    assert "in make" in results.manifest.failed[1].traceback


class Interrupt(Progress):
    """Ctrl-C after 30 chunks."""

    def __init__(self) -> None:
        self.left = 30

    def advanced(self, cell: Cell, seed: int, steps: int) -> None:
        self.left -= 1
        if self.left == 0:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def test_an_interrupted_run_resumes(tmp_path: Path) -> None:
    plan = toys.small_plan(toys.ADAM)
    toys.run(plan, tmp_path / "whole")
    out = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        toys.run(plan, out, workers=2, progress=Interrupt(), checkpoint_seconds=0.0)
    assert list(out.rglob("*.checkpoint.npz"))
    assert len(toys.numbers(out)) < 4
    toys.run(plan, out)
    assert toys.numbers(out) == toys.numbers(tmp_path / "whole")
    assert not list(out.rglob("*.checkpoint.npz"))
    assert files.read_json(out / "manifest.json")["finished"]


def test_an_interrupted_run_waits_for_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, begun, done = blocks.write_checkpoint, [], []

    def write_slowly(path: Path, *arguments: Any) -> None:
        if not begun:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        begun.append(path)
        time.sleep(0.5)
        write(path, *arguments)
        done.append(path)

    monkeypatch.setattr(blocks, "write_checkpoint", write_slowly)
    plan = toys.small_plan(toys.ADAM)
    with pytest.raises(KeyboardInterrupt):
        toys.run(plan, tmp_path, workers=2, checkpoint_seconds=0.0)
    assert sorted(done) == sorted(begun)


def test_random_keys_in_a_state_survive(tmp_path: Path) -> None:
    def make(rate: Any) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_noise(0.1, 0.5, key=jax.random.key(7)), optax.sgd(rate)
        )

    noisy = toys.optimizer("noisy", make)
    half = toys.optimizer("half", lambda rate: optax.adam(rate, mu_dtype=jnp.bfloat16))
    plan = toys.plan([toys.quadratic()], [noisy, half], toys.settings(seeds=2))
    toys.run(plan, tmp_path / "whole")
    out = tmp_path / "chunks"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            toys.run(plan, out, workers=1, progress=Interrupt(), checkpoint_seconds=0.0)
    toys.run(plan, out)
    assert toys.numbers(out) == toys.numbers(tmp_path / "whole")


def test_an_error_in_a_progress_callback_ends_the_run(tmp_path: Path) -> None:
    class Deaf(Progress):
        def failed(self, cell: Cell, message: str) -> None:
            msg = "what?"
            raise BrokenPipeError(msg)

    leaving = toys.optimizer("leaving", lambda rate: sys.exit(3))
    plan = toys.small_plan(leaving)
    with pytest.raises(BrokenPipeError):
        toys.run(plan, tmp_path, workers=3, progress=Deaf())
