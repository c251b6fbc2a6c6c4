"""A run that is killed repeatedly ends with the same bits as an uninterrupted one."""

import random
import signal
import subprocess
from pathlib import Path

import pytest

from tests.benchmarks import toys


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    assert toys.run_child(out) == 0
    numbers = toys.numbers(out)
    assert len(numbers) == 4
    return numbers


def test_killed_at_chosen_chunks(
    tmp_path: Path, whole: dict[str, dict[str, bytes]]
) -> None:
    out = tmp_path / "out"
    # In the first seed run, and, counted from there, in a later one.
    for chunks in ("3", "60"):
        assert toys.run_child(out, chunks) == -signal.SIGKILL
    assert len(toys.numbers(out)) < 4
    assert list(out.rglob("*.checkpoint.npz"))
    assert toys.run_child(out) == 0
    assert toys.numbers(out) == whole
    assert not list(out.rglob("*.checkpoint.npz"))
    assert not list(out.rglob("*.tmp"))


def test_killed_at_random_moments(
    tmp_path: Path, whole: dict[str, dict[str, bytes]]
) -> None:
    out = tmp_path / "out"
    draw = random.Random(0)
    for _ in range(3):
        child = toys.start_child(out)
        # The manifest is there just before the first program is compiled.
        while not (out / "manifest.json").exists():
            assert child.poll() is None
        try:
            child.wait(draw.uniform(0.2, 2.0))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    assert toys.run_child(out) == 0
    assert toys.numbers(out) == whole
