"""The plugin: the fixture golden_trajectory, --update-golden and its summary."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

MODULE = """
    import jax, optax, pytest

    def descent(learning_rate=0.1, factor={factor}):
        def update(grads, state, params=None):
            return jax.tree.map(lambda g: -learning_rate * factor * g, grads), state
        return optax.GradientTransformation(lambda params: (), update)

    SCENARIOS = ["layers/float32/smooth"]

    @pytest.mark.parametrize("factor", [None, 2.0])
    def test_numbers_stay(golden_trajectory, factor):
        options = {{}} if factor is None else {{"factor": factor}}
        golden_trajectory(descent, scenarios=SCENARIOS, **options)
"""


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture
def folder(pytester: pytest.Pytester) -> Path:
    """Where the files of the module test_mine.py are."""
    pytester.makepyfile(test_mine=MODULE.format(factor=1.0))
    return pytester.path / "test_mine"


def test_update_round_trip(pytester: pytest.Pytester, folder: Path) -> None:
    """Missing, recorded, compared, moved, shown, recorded again, unchanged."""
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*descent.json is missing.*--update-golden*"])
    assert not folder.exists()

    result = pytester.runpytest_inprocess("--update-golden")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*golden trajectories: 0 moved, 2 recorded, 0 unchanged*",
            "test_mine/descent-factor=2.0.json  all*new",
            "test_mine/descent.json * all*new",
        ]
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "descent-factor=2.0.json",
        "descent.json",
    ]
    pytester.runpytest_inprocess().assert_outcomes(passed=2)

    pytester.makepyfile(test_mine=MODULE.format(factor=1.001))
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["E *first in layers/float32/smooth: step 1, updates*"])
    result = pytester.runpytest_inprocess("--update-golden")
    result.stdout.fnmatch_lines(
        [
            "*golden trajectories: 1 moved, 0 recorded, 1 unchanged*",
            "file *part *change *recorded → now",
            "test_mine/descent.json  updates  0.001 *updates* → *",
            " * params *params* → *",
        ]
    )
    result = pytester.runpytest_inprocess("--update-golden")
    result.stdout.fnmatch_lines(["*: 0 moved, 0 recorded, 2 unchanged*"])
    result.stdout.no_fnmatch_line("*recorded → now*")


def test_unused_files_are_listed(pytester: pytest.Pytester, folder: Path) -> None:
    folder.mkdir()
    (folder / "gone.json").write_text("{}")
    unused = "*gone.json *not used by any test: delete it"
    result = pytester.runpytest_inprocess("--update-golden", "-k", "2.0")
    result.stdout.no_fnmatch_line(unused)  # perhaps by one that was left out
    result = pytester.runpytest_inprocess("--update-golden")
    result.stdout.fnmatch_lines([unused])
    assert (folder / "gone.json").exists()


def test_xdist_workers_report_to_the_summary(
    pytester: pytest.Pytester, folder: Path
) -> None:
    pytest.importorskip("xdist")
    result = pytester.runpytest_subprocess("--update-golden", "-n1")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*golden trajectories: 0 moved, 2 recorded, 0 unchanged*",
            "test_mine/descent-factor=2.0.json *new",
            "test_mine/descent.json *new",
        ]
    )
    assert len(list(folder.iterdir())) == 2


def test_update_is_rejected_in_continuous_integration(
    pytester: pytest.Pytester, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = pytester.runpytest_inprocess("--update-golden")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--update-golden with CI=true*"])
    assert not folder.exists()
    monkeypatch.setenv("CI", "false")
    pytester.runpytest_inprocess("--update-golden").assert_outcomes(passed=2)


def test_an_unreadable_file_is_recorded_again(
    pytester: pytest.Pytester, folder: Path
) -> None:
    folder.mkdir()
    (folder / "descent.json").write_text("<<<<<<< ours")
    result = pytester.runpytest_inprocess("-k", "None")
    result.stdout.fnmatch_lines(["*descent.json is damaged*"])
    result = pytester.runpytest_inprocess("-k", "None", "--update-golden")
    result.stdout.fnmatch_lines(["*descent.json *new"])
    assert json.loads((folder / "descent.json").read_text())["format"] == 1


def test_two_tests_cannot_share_a_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import optax

        SCENARIOS = ["layers/float32/smooth"]

        def test_one(golden_trajectory):
            golden_trajectory(optax.identity(), name="one", scenarios=SCENARIOS)

        def test_other(golden_trajectory):
            golden_trajectory(optax.identity(), name="one", scenarios=SCENARIOS)

        def test_twice(golden_trajectory):
            golden_trajectory(optax.identity(), name="two", scenarios=SCENARIOS)
            golden_trajectory(optax.identity(), name="two", scenarios=SCENARIOS)

        def test_nameless(golden_trajectory):
            golden_trajectory(optax.identity(), scenarios=SCENARIOS)
        """
    )
    result = pytester.runpytest_inprocess("--update-golden")
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        [
            "*one.json already belongs to *::test_one; pass*name=*",
            "*two.json already belongs to *::test_twice; pass*name=*",
            "*a transformation needs name=*",
        ]
    )


def test_loading_the_plugin_does_not_load_jax() -> None:
    code = "import sys, pytest_verbatim_optimizers; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
