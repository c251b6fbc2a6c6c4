"""The command line: output, streams, exit codes, and the files that it writes."""

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import benchmarks
from benchmarks.analysis import comparison
from benchmarks.cli.main import main
from benchmarks.engine import compilation_cache, runner
from benchmarks.experiment.plan import Plan
from benchmarks.experiment.suites import SUITES
from benchmarks.problems import problem_names
from benchmarks.roster import resolver
from tests.benchmarks import toys

ROOT = Path(benchmarks.__file__).parent.parent
# A run of seconds: two learning rates, one tuning seed, two evaluation seeds.
SHORT = (
    *("run", "smoke", "-p", "rosen2", "--learning-rates", "1e-2,1e-1"),
    *("--seeds", "2", "--tune-seeds", "1", "--out", "out"),
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder; no compilation cache in the checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compilation_cache, "enable_compilation_cache", lambda: None)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def start(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=environment(), **(given | more))


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_missing_package_is_named_with_the_way_to_install_it() -> None:
    code = (
        "import runpy, sys; sys.modules['jax'] = None; sys.argv[1:] = ['list']; "
        "runpy.run_module('benchmarks', run_name='__main__')"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert found.returncode == 1
    assert found.stderr.startswith(f"error: {sys.executable} has no module 'jax': run ")
    assert "Traceback" not in found.stderr


def test_help_names_every_command_and_needs_no_jax() -> None:
    code = (
        "import sys; from benchmarks.cli.main import main; main(['-h'], 'x', "
        "standalone_mode=False); assert not {'jax', 'rich', 'optax'} & set(sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    for command in main.commands:
        assert f"\n  {command} " in found.stdout
    assert {"list", "describe", "plan", "run", "report"} <= set(main.commands)
    assert {"profile", "throughput", "calibrate"} <= set(main.commands)


@pytest.mark.parametrize("command", main.commands)
def test_every_option_is_explained(command: str) -> None:
    for parameter in main.commands[command].params:
        if isinstance(parameter, click.Option):
            assert len(parameter.help or "") > 15, parameter.name
    result = call(command, "-h")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_help_says_what_speedups_are_relative_to() -> None:
    shown = " ".join(CliRunner().invoke(main, ["run", "--help"]).stdout.split())
    first, second = comparison.REFERENCES
    assert f"relative to {first} or, without it, to {second}, and" in shown
    assert "without both to the first -o." in shown


def test_list_shows_every_problem_suite_and_optimizer() -> None:
    result = call("list")
    assert result.exit_code == 0
    for name in (*problem_names(), *SUITES, 'amsgrad(variant="paper")', "optax.lion"):
        assert re.search(rf"^ ?{re.escape(name)} ", result.stdout, re.MULTILINE), name
    assert "rosen2" not in call("list", "optimizers").stdout
    assert call("list", "nonsense").exit_code == 2


def test_describe_a_problem() -> None:
    text = call("describe", "rosen2").stdout
    assert "100 (x₂ − x₁²)² + (1 − x₁)²" in text
    assert "5000 gradients" in text
    assert "0.1, 0.01, 0.001, 0.0001, 1e-05" in text
    assert re.search(r"parameters +2\b", text)
    assert "loss at most " in call("describe", "mlp32_digits").stdout


def test_describe_an_optimizer() -> None:
    text = call("describe", "adam").stdout
    assert "adam(learning_rate, b1=0.9, b2=0.999" in text
    assert "8 bytes per float32 parameter" in text
    assert "4 bytes" in call("describe", "optax.sgd(momentum=0.9)").stdout


@pytest.mark.parametrize(
    ("name", "hint"), [("rosn2", "'rosen2'"), ("adma", "'adam"), ("zzz", "list")]
)
def test_describe_the_unknown(name: str, hint: str) -> None:
    result = call("describe", name)
    assert result.exit_code == 2
    assert hint in result.stderr


def test_plan_counts_and_runs_nothing(folder: Path) -> None:
    result = call("plan", "quick", "-o", "adam", "-o", "optax.sgd", "--seeds", "4")
    assert result.exit_code == 0
    optimizers = len(resolver.default_names()) + 1  # `optax.sgd`; adam is there
    asked = f"8 problems × {optimizers} optimizers × 13 learning rates × 7 seeds"
    assert asked in result.stdout
    assert f"{8 * optimizers * 13 * 7:,} runs" in result.stdout
    assert f"{8 * optimizers} compilations" in result.stdout
    vectors = "quad_diag, quad_rot, logreg_bc, rosen2, rosen10"
    assert f"fallback: {vectors} × optax.contrib.muon: its rule" in result.stdout
    assert files_below(folder) == []


def test_plan_says_what_is_done_in_the_folder(folder: Path) -> None:
    command = (*SHORT[1:], "--only", "-o", "optax.sgd")
    assert call("run", *command, "--no-report").exit_code == 0
    before = {path: path.read_bytes() for path in files_below(folder)}
    planned = call("plan", *command, "-o", "adam")
    assert planned.exit_code == 0
    last = planned.stdout.splitlines()[-2:]
    assert last == ["results: out", "6 of 12 runs are already done"]
    other = call("plan", "-p", "quad_diag", "--out", "out", "--schedule", "cosine")
    assert other.exit_code == 2
    assert "choose another folder with --out" in other.stderr
    assert {path: path.read_bytes() for path in files_below(folder)} == before


BAD_INPUT = {
    "suite": (["quik"], "unknown suite 'quik'. Did you mean 'quick'"),
    "suite without likeness": (["zzz"], "The suites are: smoke, quick, standard"),
    "problem": (["-p", "rosen3"], "unknown problem 'rosen3'. Did you mean 'rosen2'"),
    "optimizer": (["-o", "adma"], "unknown optimizer 'adma'. Did you mean 'ada"),
    "module": (["-o", "nowhere:f"], "no module 'nowhere'"),
    "no transformation": (["-o", "builtins:float"], "returns an object of type float"),
    "rate 0": (["--learning-rates", "0"], "learning rate 0.0"),
    "rate negative": (["--learning-rates", "-1e-3"], "learning rate -0.001"),
    "rate nan": (["--learning-rates", "1e-3,nan"], "learning rate nan"),
    "rate inf": (["--learning-rates", "inf"], "learning rate inf"),
    "rate word": (["--learning-rates", "1e-3,fast"], "'fast' is not a number"),
    "rates empty": (["--learning-rates", ""], "'' is not a number"),
    "rates twice": (["--learning-rates", "0.1,1e-1"], "duplicate learning rates"),
    "no seeds": (["--seeds", "0"], "--seeds must be at least 1, got 0"),
    "no tune seeds": (["--tune-seeds", "-1"], "--tune-seeds must be at least 1"),
    "overlapping seeds": (["--tune-seeds", "101"], "duplicate seeds"),
    "schedule": (["--schedule", "linear"], "unknown schedule 'linear'"),
    "only nothing": (["--only"], "add one with -o"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_bad_input_is_one_sentence_and_exit_2(
    case: str, command: str, folder: Path
) -> None:
    arguments, sentence = BAD_INPUT[case]
    result = call(command, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert sentence in line
    assert files_below(folder) == []


@pytest.mark.parametrize(
    "arguments",
    [("--workers", "0"), ("--seeds", "many"), ("--nonsense",), ("a", "b")],
)
def test_bad_options_are_exit_2(arguments: tuple[str, ...]) -> None:
    result = call("run", *arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "stopped; run the same command to resume"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "d"), 2, "denied 'd'"),
    ],
)
def test_system_errors_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, sentence: str
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(runner, "run_plan", broken)
    result = call(*SHORT, "--only", "-o", "adam")
    assert result.exit_code == code
    assert sentence in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_report_without_results() -> None:
    result = call("report", "nowhere")
    assert result.exit_code == 2
    assert "error: nowhere holds no results" in result.stderr


def test_the_users_optimizer_is_in_the_same_table(folder: Path) -> None:
    (folder / "mine.py").write_text(
        "import optax\ndef best(lr): return optax.sgd(lr, momentum=0.5)\n"
    )
    command = (*SHORT, "-o", "mine:best", "-o", "adam", "--only")
    process = start(*command)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "mine:best" in out
    assert "adam" in out
    assert "out/report.html" in out
    assert "1 problem × 2 optimizers × 2 learning rates × 3 seeds = 12 runs" in err
    assert "\x1b" not in out + err
    assert (folder / "out/report.html").stat().st_size > 1000
    manifest = json.loads((folder / "out/manifest.json").read_text())
    assert list(manifest["optimizers"]) == ["mine:best", "adam"]

    # The same code computes nothing again; other code is refused without --fresh.
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    assert len(before) == 6
    again = start(*command, "--no-report")
    out, err = again.communicate(timeout=120)
    assert (again.returncode, out) == (0, "")
    assert "12 of 12 runs are already done" in err
    assert before == {path: path.stat().st_mtime_ns for path in before}
    (folder / "mine.py").write_text(
        "import optax\ndef best(lr): return optax.sgd(lr, momentum=0.6)\n"
    )
    other = start(*command)
    _, err = other.communicate(timeout=120)
    assert other.returncode == 2
    assert "seed runs made by other code" in err.splitlines()[-1]
    assert before == {path: path.stat().st_mtime_ns for path in before}
    fresh = start(*command, "--fresh", "--no-report")
    _, err = fresh.communicate(timeout=120)
    assert fresh.returncode == 0, err
    assert "6 of 12 runs are already done" in err


def test_damaged_results_are_one_sentence(folder: Path) -> None:
    assert call(*SHORT, "--only", "-o", "optax.sgd", "--no-report").exit_code == 0
    whole = toys.numbers(folder)
    block, other, _ = sorted((folder / "out").rglob("*.parquet"))
    block.write_bytes(b"nonsense")
    other.unlink()
    result = call("report", "out")
    assert result.exit_code == 0
    assert f"{block.relative_to(folder)} is damaged" in result.stderr
    # The command that the message names restores everything in one go.
    command = re.search("python -m benchmarks (.*)", result.stderr)
    assert command is not None
    result = call(*shlex.split(command[1]))
    assert result.exit_code == 0
    assert f"damaged: {block.relative_to(folder)}; its run is repeated" in result.stderr
    assert toys.numbers(folder) == whole
    assert call("report", "out").stderr == ""


def test_a_second_plan_hides_nothing(folder: Path) -> None:
    grid = ("--learning-rates", "1e-2,1e-1", "--seeds", "1", "--tune-seeds", "1")
    first = ("run", "-p", "rosen2", "--only", "-o", "optax.sgd", *grid)
    assert call(*first, "--out", "out").exit_code == 0
    before = {path: path.read_bytes() for path in files_below(folder)}
    second = ("run", "two_objectives", "-p", "quad_diag", "--only", "-o", "optax.sgd")
    result = call(*second, "--out", "out")
    assert result.exit_code == 2
    (line,) = [x for x in result.stderr.splitlines() if x.startswith("error: ")]
    assert "(rosen2 × optax.sgd)" in line
    assert "choose another folder with --out" in line
    assert {path: path.read_bytes() for path in files_below(folder)} == before
    result = call(*first, "-p", "quad_diag", "--out", "out")
    assert result.exit_code == 0
    assert "1 seed run" not in result.stderr
    assert re.search(r"optimizer +.*rosen2 +quad_diag\n", result.stdout)


@pytest.mark.parametrize(
    ("arguments", "title", "name"),
    [
        (("smoke", "-p", "rosen2"), "smoke", "smoke"),
        (("-p", "rosen10"), "quick", "quick"),
        (("-p", "bilinear"), "bilinear", "bilinear"),
        (("smoke", "-p", "quad_rot", "-p", "rosen2"), "quad_rot, rosen2", "quad_rot_"),
    ],
)
def test_a_problem_outside_the_suite_gets_a_title_and_a_folder_of_its_own(
    arguments: tuple[str, ...],
    title: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []

    def run_plan(plan: Plan, out: Path, **options: Any) -> tuple[()]:
        found.append((plan.suite, out))
        return ()

    monkeypatch.setattr(runner, "run_plan", run_plan)
    result = call("run", *arguments, "--only", "-o", "adam", "--no-report")
    assert result.exit_code == 0, result.stderr
    ((suite, out),) = found
    assert suite == title
    assert str(out).startswith(f"results/{name}")
    assert f"{title}: " in result.stderr


def test_failed_cell_is_exit_1_and_the_others_are_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    # Passes the check of specs on a small dict, but fails on a plain vector.
    (folder / "picky.py").write_text(
        "import optax\n"
        "def f(lr): return optax.stateless(lambda u, p: {k: -lr * u[k] for k in u})\n"
    )
    result = call(*SHORT, "--only", "-o", "picky:f", "-o", "optax.sgd")
    assert result.exit_code == 1
    assert "failed: rosen2 × picky:f: " in result.stderr
    assert (
        "1 of 2 pairs of problem and optimizer failed" in result.stderr.splitlines()[-1]
    )
    assert "optax.sgd" in result.stdout
    assert "Traceback" not in result.stderr
    manifest = json.loads((folder / "out/manifest.json").read_text())
    assert [cell["optimizer"] for cell in manifest["failed"]] == ["picky:f"]
    assert "Traceback" in manifest["failed"][0]["traceback"]


def wait_for(pattern: str, folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not any(folder.rglob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_same_command_resumes_after_ctrl_c(folder: Path) -> None:
    command = (*SHORT, "-p", "quad_diag", "--only", "--no-report")
    command += ("-o", "adam", "-o", "optax.lion", "-o", "amsgrad", "-o", "adamax")
    process = start(*command)
    try:
        wait_for("*.parquet", folder, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "stopped; run the same command to resume"
    assert "Traceback" not in err
    done = len(list(folder.rglob("*.parquet")))
    assert 1 <= done < 24
    again = start(*command)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert f"{2 * done} of 48 runs are already done" in err
    assert len(list(folder.rglob("*.parquet"))) == 24
    assert not list(folder.rglob("*.checkpoint.npz"))
