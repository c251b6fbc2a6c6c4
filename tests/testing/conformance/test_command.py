"""`python -m optimizers.testing`: outcomes, exit codes and messages."""

import re
import subprocess
import sys
from pathlib import Path

import optax
import pytest

from optimizers import testing
from optimizers.testing import __main__ as command
from tests.testing.conformance.sound import sound_adam


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks one cheap rule, which is enough to see what the command does with it."""

    def check(factory: object, rules: object, **options: object) -> testing.Report:
        chosen = [rule for rule in rules if rule.name == "has_right_sign"]
        return testing.check(factory, rules=chosen, **options)

    monkeypatch.setattr(command, "check", check)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the current folder, as its author has it."""
    (tmp_path / "my_rates.py").write_text(
        "import optax\n"
        "def climbing(learning_rate=0.1, scale=1.0):\n"
        "    return optax.sgd(-scale * learning_rate)\n"
        "def descending(learning_rate=0.1):\n"
        "    return optax.sgd(learning_rate)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("only", "module")
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["my_rates:descending"], 0, "1 passed"),
        (["my_rates:descending", "--all"], 0, "has_right_sign"),
        (["my_rates:climbing"], 1, "not point downhill"),
        (["my_rates:climbing", "--arg", "scale=-2"], 0, "climbing(scale=-2)"),
        (["my_rates:climbing", "--exempt", "has_right_sign=a game"], 0, "a game"),
        (["my_rates:descending", "--exempt", "has_right_sign=x"], 1, "no longer"),
        (["my_rates:climbing", "--only", "promise"], 1, "promises of optax"),
        (["my_rates:climbing", "--only", "polish"], 0, "climbing: checked in"),
        (
            ["my_rates:climbing", "--baseline", "my_rates:climbing"],
            0,
            "climbing also breaks has_right_sign.",
        ),
    ],
)
def test_check(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["check", *arguments]) == code
    assert says in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("only")
def test_a_file_is_found_in_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "in_a_file.py").write_text("from optax import sgd")
    assert command.main(["check", f"{tmp_path}/in_a_file.py:sgd"]) == 0
    assert "1 passed" in capsys.readouterr().out
    (tmp_path / "json.py").write_text("def f(): pass")
    assert command.main(["check", f"{tmp_path}/json.py:f"]) == 2
    assert "a module 'json' exists already, at " in capsys.readouterr().err


@pytest.mark.usefixtures("only", "module")
def test_check_fits_a_terminal_and_ends_with_its_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command.main(["check", "my_rates:climbing"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[:2] == ["promises of optax and JAX, 1 rule", "failed: has_right_sign"]
    assert re.fullmatch(r"checked in \d+ s", lines[-1])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["optax"], "'optax' is neither module:function, for example optax:adam, nor"),
        (["no_such_module:x"], "cannot import 'no_such_module': ModuleNotFoundError"),
        (["optax:no_such_name"], "'optax' has no attribute 'no_such_name'"),
        (["optax:adm"], "'optax' has no attribute 'adm'. Did you mean 'adam'?"),
        (["lib/mine.py"], "'lib/mine.py' is neither module:function"),
        (["lib/mine.py:adam"], "'lib/mine.py:adam': there is no file"),
        (["optax:__version__"], "is a str, expected a function"),
        (["optax:sgd", "--arg", "lr=0.1"], "sgd has no argument 'lr'"),
        (["optax:sgd", "--baseline", "optax"], "'optax' is neither module:function"),
        (["optax:sgd", "--arg", "momentum"], "'momentum' is not name=value"),
        (["optax:sgd", "--exempt", "no_such_rule=why"], "no_such_rule"),
    ],
)
def test_bad_input(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["check", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert says in captured.err
    assert captured.err.count("\n") == 1


def test_without_chex_the_command_names_the_extra() -> None:
    program = (
        "import runpy, sys; sys.modules['chex'] = None; "
        "runpy.run_module('optimizers.testing', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: optimizers.testing needs chex: "
        "run `pip install '.[testing]'` in a checkout of verbatim-optimizers."
    )


def test_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["rules"]) == 0
    out = capsys.readouterr().out
    for rule in testing.conformance_rules():
        assert rule.name in out


def test_values_are_python_literals() -> None:
    values = {"0.5": 0.5, "None": None, "True": True, "bfloat16": "bfloat16"}
    assert {text: command._value(text) for text in values} == values


def test_reserved_names_reach_the_factory() -> None:
    # A factory may call an argument what `check` calls its own.
    def named(rules: float = 0.1) -> optax.GradientTransformation:
        return sound_adam(rules)

    assert testing.Case(named, {"rules": 0.5}).name == "named(rules=0.5)"
