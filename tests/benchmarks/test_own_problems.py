"""Problems from outside the checkout: found, checked, run and reproduced."""

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.cli.main import main
from benchmarks.engine import compilation_cache
from benchmarks.errors import UserError
from benchmarks.experiment import plan, targets
from benchmarks.measure import problem_checks
from benchmarks.problems import load_problem
from benchmarks.report import reproduce
from benchmarks.results import manifest
from benchmarks.roster import resolver

Write = Callable[[str, str], Path]

BOWL = """
import jax, jax.numpy as jnp, numpy as np
from benchmarks.problem import Problem
CENTER = np.random.RandomState(0).standard_normal(3)
def loss(x, center):
    return 0.5 * jnp.sum((x - jnp.asarray(center, x.dtype)) ** 2)
def bowl(**changes):
    return Problem(**{**dict(
        name="own_bowl",
        summary="A bowl.",
        formula="½ |x − c|²",
        source="these tests",
        tags=frozenset({"convex", "deterministic"}),
        budget=500,
        init=lambda key: 3.0 + jax.random.normal(key, (3,)),
        loss=loss,
        data=CENTER,
        evaluate_exact=lambda x: {"loss": 0.5 * ((x - CENTER) ** 2).sum(-1)},
        f_star=0.0,
        minimizer=CENTER,
    ), **changes})
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules into the current folder and below, and forgets them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(compilation_cache, "enable_compilation_cache", lambda: None)
    before = set(sys.modules)

    def written(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    yield written
    load_problem.cache_clear()
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(
    ("file", "spec"),
    [
        ("own_a.py", "own_a:bowl"),
        ("folder/own_b.py", "folder/own_b.py:bowl"),
        ("own_c.py", "own_c.py:bowl"),
    ],
)
def test_modules_and_files_are_found(write: Write, file: str, spec: str) -> None:
    path = write(file, BOWL)
    found = load_problem(spec)
    assert (found.name, found.spec) == ("own_bowl", spec)
    assert targets.path_of(found) == path.with_suffix(".targets.json")


def test_a_file_imports_its_neighbours_and_its_hash_follows_them(write: Write) -> None:
    write(
        "folder/own_main.py", "from own_helper import bowl\ndef made(): return bowl()"
    )

    def found(helper: str) -> str:
        write("folder/own_helper.py", helper)
        for name in ("own_main", "own_helper"):
            sys.modules.pop(name, None)
        load_problem.cache_clear()
        return plan.source_hash(load_problem("folder/own_main.py:made"))

    first = found(BOWL)
    assert found(BOWL) == first
    assert found(BOWL.replace("0.5 *", "0.25 *")) != first
    write(
        "folder/own_main.py", "from own_helper import bowl\ndef made(): return bowl( )"
    )
    assert found(BOWL) != first


BAD = {
    "own_bad:missing": "'own_bad' has no 'missing'",
    "own_bad:goood": r"'own_bad' has no 'goood'\. Did you mean 'good'\?",
    "own_bad:needs": "calling it without arguments fails with TypeError: needs",
    "own_bad:fails": "calling it without arguments fails with ValueError: fail",
    "own_bad:VALUE": "gives an object of type int, not a benchmarks.problem.Problem",
    "own_bad:loud": "named 'Own Bowl!'; give it a name of lower-case letters",
    "own_bad:taken": "named 'rosen2', as one of benchmarks/problems is",
    "own_broken:f": "importing 'own_broken' fails with ZeroDivisionError: division",
    "own_nowhere:f": "no module 'own_nowhere' in the current folder or installed",
    "nowhere/own.py:f": "there is no file '.*nowhere/own.py'",
    "folder/json.py:f": "a module 'json' exists already, at .*; rename the file",
    "own_bad.py": r"take it from a file, name its function: own_bad\.py:FUNCTION",
}


@pytest.mark.parametrize("spec", BAD)
def test_a_bad_spec_is_told_in_one_sentence(write: Write, spec: str) -> None:
    more = """
    VALUE = 3
    def good(): return bowl()
    def needs(x): return bowl()
    def fails(): raise ValueError("fail")
    def loud(): return bowl(name="Own Bowl!")
    def taken(): return bowl(name="rosen2")
    """
    write("own_bad.py", BOWL + textwrap.dedent(more))
    write("own_broken.py", "1 / 0")
    write("folder/json.py", "def f(): pass")
    with pytest.raises(UserError, match=BAD[spec]) as caught:
        load_problem(spec)
    assert "\n" not in str(caught.value)


def test_two_problems_of_one_name_are_refused(write: Write) -> None:
    write("own_d.py", BOWL + "def other(): return bowl(budget=600)")
    result = call(
        "plan", "-p", "own_d:bowl", "-p", "own_d:other", "--only", "-o", "adam"
    )
    assert result.exit_code == 2
    assert "two problems are named 'own_bowl'" in result.stderr


def test_targets_lie_beside_the_file(write: Write) -> None:
    unknown = "def unknown(): return bowl(f_star=None, minimizer=None)"
    path = write("own_e.py", f"{BOWL}{unknown}")
    problem = load_problem("own_e:unknown")
    with pytest.raises(UserError, match=r"benchmarks calibrate own_e:unknown$"):
        targets.targets_of(problem)
    entry = {"values": [5, 4, 3, 2, 1], "data_hash": manifest.data_hash(problem)}
    path.with_suffix(".targets.json").write_text(json.dumps({"own_bowl": entry}))
    assert targets.targets_of(problem).values == (5, 4, 3, 2, 1)


def test_the_manifest_and_the_commands_keep_the_spec(write: Write) -> None:
    write("folder/own_f.py", BOWL)
    spec = "folder/own_f.py:bowl"
    made = plan.make_plan(
        "quick", [load_problem(spec)], [resolver.resolve("adam")], plan.Settings(), "s"
    )
    described = manifest.describe(made)
    assert manifest.from_json(manifest.to_json(described)) == described
    (command,) = reproduce.run_commands(described).values()
    assert f"-p {spec} " in command
    assert command.endswith("--out results/own_bowl")


def test_a_checked_problem_runs(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("own_g.py", f"{BOWL}def short(): return bowl(budget=20, summary='')")
    quick = {n: problem_checks.CHECKS[n] for n in ("description", "repeatable")}
    monkeypatch.setattr(problem_checks, "CHECKS", quick)
    checked = call("check-problem", "own_g.py:bowl")
    assert checked.exit_code == 0, checked.stdout
    assert "ok      Another process makes the same problem" in checked.stdout
    monkeypatch.delitem(quick, "repeatable")
    checked = call("check-problem", "own_g:short")
    assert checked.exit_code == 1
    assert "failed  The fields that describe the problem" in checked.stdout
    assert "the budget is 20: give at least 500 gradients" in checked.stdout
    assert checked.stderr == "error: own_bowl: 1 check failed\n"
    settings = ("--learning-rates", "1e-1", "--seeds", "1", "--tune-seeds", "1")
    chosen = ("-p", "own_g:short", "--only", "-o", "adam", *settings)
    result = call("run", *chosen, "--out", "out")
    assert result.exit_code == 0, result.stderr
    assert "own_bowl" in result.stdout
    assert len(list(Path("out/runs/own_bowl").rglob("*.parquet"))) == 2
