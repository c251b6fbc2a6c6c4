"""The results folder: its manifest, damage, full disks, other code and processes."""

import dataclasses
import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.engine import runner, seed_run
from benchmarks.engine.progress import Progress
from benchmarks.errors import UserError
from benchmarks.experiment.plan import Plan, Settings
from benchmarks.results import blocks, files, manifest, paths, store
from benchmarks.results.blocks import Block
from benchmarks.results.manifest import (
    Failure,
    FrontEntry,
    Manifest,
    Skipped,
    Targets,
)
from benchmarks.results.store import Missing
from tests.benchmarks import fakes, toys


def block(lanes: int = 2, points: int = 3) -> Block:
    random = np.random.RandomState(0)
    return Block(
        learning_rates=np.geomspace(0.1, 1, lanes),
        eval_steps=np.arange(points, dtype=np.int32) * 10,
        metrics={
            "loss": random.standard_normal((lanes, points)),
            "accuracy": random.standard_normal((lanes, points)),
        },
        diverged_at=np.array([-1, 7], np.int32),
    )


def tiny_plan(optimizers: Any = (toys.SGD,), **settings: Any) -> Plan:
    return toys.plan(
        [toys.plane(4)], list(optimizers), toys.settings(0.1, seeds=2, **settings)
    )


def first_block(out: Path) -> Path:
    return sorted(out.rglob("*.parquet"))[0]


def test_results_are_read_back_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "seed-000.parquet"
    blocks.write(path, block(), "the key", {"jax version": "1"})
    found = blocks.read(path)
    assert found is not None
    read, key = found
    assert key == "the key"
    assert blocks.read_origin(path) == ("the key", {"jax version": "1"})
    assert list(read.metrics) == ["loss", "accuracy"]
    for name, values in block().metrics.items():
        np.testing.assert_array_equal(read.metrics[name], values)
    np.testing.assert_array_equal(read.learning_rates, block().learning_rates)
    np.testing.assert_array_equal(read.eval_steps, block().eval_steps)
    np.testing.assert_array_equal(read.diverged_at, block().diverged_at)
    assert pq.read_schema(path).names == [
        "lane",
        "learning_rate",
        "step",
        "diverged_at",
        "loss",
        "accuracy",
    ]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_flipped_byte_never_changes_a_number(tmp_path: Path) -> None:
    path = tmp_path / "seed-000.parquet"
    blocks.write(path, block(), "k" * 64, {})
    whole = path.read_bytes()
    noticed = 0
    for position in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        if (found := blocks.read(path)) is None:
            noticed += 1
            continue
        read, key = found
        assert key == "k" * 64
        for name, values in block().metrics.items():
            np.testing.assert_array_equal(read.metrics[name], values)
    assert noticed > len(whole) // 10


class Heard(Progress):
    """What a run found in its folder."""

    def __init__(self) -> None:
        self.broken: list[Path] = []
        self.before: set[tuple[str, int]] = set()

    def damaged(self, path: Path) -> None:
        self.broken.append(path)

    def planned(self, plan: Plan, finished: set[tuple[str, int]]) -> None:
        self.before = finished


def damage_footer(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def damage_numbers(path: Path) -> None:
    """Changes a byte of a column; the footer stays whole."""
    whole = bytearray(path.read_bytes())
    with pq.ParquetFile(path) as file:
        chunk = file.metadata.row_group(0).column(4)
    whole[chunk.data_page_offset + chunk.total_compressed_size - 3] ^= 0xFF
    path.write_bytes(whole)


def test_missing_and_damaged_files_are_named_and_one_run_restores_them(
    tmp_path: Path,
) -> None:
    plan = toys.plan([toys.plane(4)], [toys.SGD, toys.ADAM], toys.settings(0.1))
    whole = toys.run(plan, tmp_path)
    assert whole.missing == ()
    numbers = toys.numbers(tmp_path)

    def sgd(seed: int) -> Path:
        return paths.block_path(tmp_path, "toy_plane", "sgd", seed)

    sgd(0).unlink()
    damage_footer(sgd(100))
    damage_numbers(sgd(101))
    cost = paths.cost_path(tmp_path, "toy_plane", "adam")
    cost.write_text("{")
    found = store.load(tmp_path)
    assert found.missing == (
        Missing("toy_plane", "sgd", (0, 100, 101), damaged=(sgd(100), sgd(101))),
        Missing("toy_plane", "adam", (), damaged=(cost,)),
    )
    assert list(found.curves) == [("toy_plane", "adam")]

    heard = Heard()
    found = toys.run(plan, tmp_path, progress=heard)
    assert heard.broken == [sgd(100), sgd(101), cost]
    # The costs come with a seed run, so one of Adam's is repeated.
    assert len(heard.before) == 2
    assert found.missing == ()
    assert found.costs.keys() == whole.costs.keys()
    assert toys.numbers(tmp_path) == numbers


def test_a_block_of_another_run_is_named_and_not_shown(tmp_path: Path) -> None:
    toys.run(tiny_plan(), tmp_path / "one")
    two = tmp_path / "two"
    toys.run(toys.plan([toys.plane(4)], [toys.SGD], toys.settings(0.2)), two)
    theirs = paths.block_path(tmp_path / "one", "toy_plane", "sgd", 100)
    ours = paths.block_path(two, "toy_plane", "sgd", 100)
    ours.write_bytes(theirs.read_bytes())
    found = store.load(two)
    assert found.missing == (Missing("toy_plane", "sgd", (100,), foreign=(ours,)),)
    assert found.curves["toy_plane", "sgd"].seeds.tolist() == [0, 101]


def test_a_failed_cell_is_not_also_missing(tmp_path: Path) -> None:
    def make(rate: Any) -> Any:
        raise RuntimeError

    broken = toys.optimizer("broken", make)
    runner.run_plan(tiny_plan([broken, toys.SGD]), tmp_path)
    found = store.load(tmp_path)
    assert [failure.optimizer for failure in found.manifest.failed] == ["broken"]
    assert found.missing == ()
    # A run of something else does not forget it.
    found = toys.run(tiny_plan([toys.ADAM]), tmp_path)
    assert [failure.optimizer for failure in found.manifest.failed] == ["broken"]
    assert list(found.manifest.optimizers) == ["broken", "sgd", "adam"]


def test_a_lost_manifest_is_made_again(tmp_path: Path) -> None:
    written = tmp_path / "manifest.json"
    with pytest.raises(UserError, match="holds no results: make some"):
        store.load(tmp_path)
    plan = toys.plan([toys.plane(4)], [toys.SGD, toys.ADAM], toys.settings(0.1))
    before = toys.run(plan, tmp_path)
    numbers = toys.numbers(tmp_path)
    for text in (None, '{"suite": ', "[]"):
        written.unlink()
        if text is not None:
            written.write_text(text)
        with pytest.raises(UserError) as error:
            store.load(tmp_path)
        trouble = f"{written} is {'missing' if text is None else 'damaged'}"
        assert str(error.value).startswith(trouble)
        assert "6 seed runs (toy_plane × adam, toy_plane × sgd)" in str(error.value)
        assert str(error.value).endswith(
            "python -m benchmarks run -p toy_plane --only -o adam -o sgd "
            f"--learning-rates 0.1 --seeds 2 --tune-seeds 1 --out {tmp_path}"
        )
        # A run that knows only some of them changes nothing.
        with pytest.raises(UserError, match="that no manifest lists") as error:
            toys.run(tiny_plan(), tmp_path)
        assert "4 seed runs (toy_plane × adam, toy_plane × sgd)" in str(error.value)
        assert "-o adam -o sgd" in str(error.value)
        assert toys.numbers(tmp_path) == numbers
        heard = Heard()
        after = toys.run(plan, tmp_path, progress=heard)
        assert len(heard.before) == 6
        assert after.manifest.cells == before.manifest.cells


def test_results_that_the_manifest_does_not_list_are_named(tmp_path: Path) -> None:
    toys.run(tiny_plan([toys.SGD, toys.ADAM]), tmp_path)
    whole = manifest.read(tmp_path)
    assert whole is not None
    shorter = dataclasses.replace(whole, cells=whole.cells[:1])
    manifest.write(tmp_path, shorter)
    found = store.load(tmp_path)
    assert [(s.pair, s.seed) for s in found.unlisted] == [
        (("toy_plane", "adam"), 0),
        (("toy_plane", "adam"), 100),
    ]


def test_a_checkpoint_is_read_back_or_ignored(tmp_path: Path) -> None:
    path = tmp_path / "seed-000.checkpoint.npz"
    half = np.arange(6, dtype=np.float32).astype("bfloat16").reshape(2, 3)
    arrays = [half, np.array(True), np.zeros((0, 2)), np.array([3], np.int32)]
    blocks.write_checkpoint(path, "key", 5, arrays)
    found = blocks.read_checkpoint(path, "key", arrays)
    assert found is not None
    done, read = found
    assert done == 5
    for new, old in zip(read, arrays, strict=True):
        assert new.dtype == old.dtype
        np.testing.assert_array_equal(new, old)
    assert blocks.read_checkpoint(path, "another key", arrays) is None
    assert blocks.read_checkpoint(path, "key", [*arrays, half]) is None
    assert blocks.read_checkpoint(path, "key", [half[:1], *arrays[1:]]) is None
    assert blocks.read_checkpoint(tmp_path / "absent", "key", arrays) is None
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-30], whole[:200] + b"?" + whole[201:]):
        path.write_bytes(damaged)
        assert blocks.read_checkpoint(path, "key", arrays) is None


def test_a_damaged_checkpoint_is_ignored(tmp_path: Path) -> None:
    plan = tiny_plan()
    toys.run(plan, tmp_path / "whole")
    path = paths.checkpoint_path(tmp_path / "out", "toy_plane", "sgd", 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK and then nothing")
    toys.run(plan, tmp_path / "out")
    assert toys.numbers(tmp_path / "out") == toys.numbers(tmp_path / "whole")
    assert not path.exists()


def test_results_of_other_code_are_refused_or_discarded_on_request(
    tmp_path: Path,
) -> None:
    toys.run(tiny_plan([toys.SGD, toys.ADAM]), tmp_path)
    before = toys.numbers(tmp_path)
    changed = toys.Optimizer("adam", toys.ADAM.make, "another hash")
    plan = tiny_plan([toys.SGD, changed])
    written = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(UserError) as error:
        toys.run(plan, tmp_path)
    assert "2 seed runs" in str(error.value)
    assert "toy_plane × adam" in str(error.value)
    assert "toy_plane × sgd" not in str(error.value)
    assert "what differs: optimizer source" in str(error.value)
    assert "--out" in str(error.value)
    assert "--fresh" in str(error.value)
    assert toys.numbers(tmp_path) == before
    assert (tmp_path / "manifest.json").read_bytes() == written

    heard = Heard()
    toys.run(plan, tmp_path, fresh=True, progress=heard)
    assert heard.before == {(plan.cells[0].key, 0), (plan.cells[0].key, 100)}
    assert toys.numbers(tmp_path) == before


def test_more_seeds_and_optimizers_extend_a_folder(tmp_path: Path) -> None:
    toys.run(tiny_plan(), tmp_path)
    settings = toys.settings(0.1, seeds=4)
    plan = toys.plan([toys.plane(4)], [toys.SGD, toys.ADAM], settings)
    results = toys.run(plan, tmp_path)
    assert results.curves["toy_plane", "sgd"].seeds.tolist() == [0, 100, 101, 102]
    # A smaller plan hides nothing.
    results = toys.run(tiny_plan(), tmp_path)
    assert list(results.curves) == [("toy_plane", "sgd"), ("toy_plane", "adam")]
    assert results.curves["toy_plane", "sgd"].seeds.tolist() == [0, 100, 101, 102]
    assert results.manifest.settings == settings
    assert results.missing == ()


def test_other_problems_and_optimizers_of_a_suite_are_merged(tmp_path: Path) -> None:
    settings = toys.settings(0.1, seeds=2)
    both = [toys.plane(4), toys.quadratic(4)]
    toys.run(toys.plan(both, [toys.SGD], settings), tmp_path)
    numbers = toys.numbers(tmp_path)
    mine = toys.optimizer("mine", toys.ADAM.make)
    results = toys.run(toys.plan(both[1:], [mine], settings), tmp_path)
    assert toys.numbers(tmp_path).items() > numbers.items()
    assert list(results.curves) == [
        *(("toy_plane", "sgd"), ("toy_quadratic", "sgd"), ("toy_quadratic", "mine"))
    ]
    assert list(results.manifest.problems) == ["toy_plane", "toy_quadratic"]
    assert list(results.manifest.optimizers) == ["sgd", "mine"]
    assert results.missing == results.unlisted == ()


def test_results_that_cannot_share_a_report_are_refused(tmp_path: Path) -> None:
    first = toys.plan([toys.plane(4)], [toys.SGD], toys.settings(0.1, seeds=2))
    toys.run(first, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    problem, settings = toys.quadratic(4), toys.settings(0.1, seeds=2)
    other = toys.plan([problem], [toys.ADAM], settings)
    for plan, reason in (
        (dataclasses.replace(other, suite="games"), "suite"),
        (toys.plan([problem], [toys.ADAM], toys.settings(0.2)), "learning rates"),
        (
            toys.plan([toys.plane(8)], [toys.ADAM], toys.settings(schedule="cosine")),
            "learning rates, schedule",
        ),
    ):
        with pytest.raises(UserError, match=r"\(toy_plane × sgd\)") as error:
            toys.run(plan, tmp_path, fresh=True)
        assert f"(what differs: {reason}): choose another folder with --out" in str(
            error.value
        )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
    # A plan that contains all that is there may have another title.
    larger = dataclasses.replace(
        toys.plan([toys.plane(4), problem], [toys.SGD], settings), suite="larger"
    )
    found = toys.run(larger, tmp_path)
    assert found.manifest.suite == "larger"
    assert len(found.curves) == 2


def test_a_manifest_records_where_numbers_come_from(tmp_path: Path) -> None:
    found = toys.run(tiny_plan(), tmp_path).manifest
    assert found.suite == "toys"
    assert found.settings.learning_rates == (0.1,)
    assert found.settings.test_seeds == (100,)
    problem = found.problems["toy_plane"]
    assert problem.budget == 4
    assert problem.dimension == 2
    assert problem.targets == Targets("relative", toys.TARGETS.values)
    assert found.optimizers == {"sgd": toys.SGD.source_hash}
    assert found.cells[0].key == tiny_plan().cells[0].key
    content = json.loads((tmp_path / "manifest.json").read_text())
    assert {"versions", "git", "machine", "command", "skipped"} <= content.keys()
    json.dumps(content, allow_nan=False)


def whole_manifest() -> Manifest:
    """A manifest in which nothing is empty."""
    front = FrontEntry((1.0, 2.0), 0.5, ((0.0, 1.0), (1.0, 0.0)))
    made = fakes.manifest(
        {
            "scored": fakes.entry(10, f_star=None, targets=fakes.ABSOLUTE),
            "two": fakes.entry(10, targets=fakes.UNSCORED, front=front),
        },
        ("adam", "sgd"),
        Settings(),
    )
    return dataclasses.replace(
        made,
        skipped=(Skipped("two", "sgd", "it needs aux_grads"),),
        failed=(Failure("scored", "sgd", "ValueError: no", "Traceback"),),
    )


def test_a_manifest_is_read_back_unchanged(tmp_path: Path) -> None:
    made = whole_manifest()
    manifest.write(tmp_path, made)
    assert manifest.read(tmp_path) == made
    text = (tmp_path / "manifest.json").read_text("utf-8")
    manifest.write(tmp_path, manifest.read(tmp_path))
    assert (tmp_path / "manifest.json").read_text("utf-8") == text


def test_the_layout_of_a_manifest_is_that_of_older_folders() -> None:
    content = json.loads(json.dumps(manifest.to_json(whole_manifest())))
    assert list(content["problems"]["two"]) == [
        *("summary", "formula", "source", "tags", "budget", "f_star", "metric"),
        *("targets", "front", "data_hash", "dimension", "spec"),
    ]
    assert content["optimizers"]["adam"] == {"source_hash": "0" * 64}
    assert list(content["cells"][0]) == [
        *("problem", "optimizer", "key", "gradients", "fallback"),
    ]
    assert content["skipped"] == [["two", "sgd", "it needs aux_grads"]]
    assert content["problems"]["two"]["front"]["points"] == [[0.0, 1.0], [1.0, 0.0]]
    # Keys that the first folders did not have, and one that later ones do not.
    del content["problems"]["two"]["metric"], content["problems"]["scored"]["front"]
    del content["cells"][0]["gradients"]
    content["settings"]["budget_scale"] = 1.0
    assert manifest.from_json(content) == whole_manifest()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.pop("cells"), "the manifest lacks cells"),
        (lambda c: c["problems"]["two"].pop("budget"), "problem 'two' lacks budget"),
        (lambda c: c.update(more=1), "the manifest has unknown keys: more"),
        (
            lambda c: c["problems"]["two"]["front"].update(more=1),
            "the front of 'two' has unknown keys: more",
        ),
        (lambda c: c["problems"]["two"].update(budget="many"), "'many'"),
        (lambda c: c["settings"].update(test_seeds=[]), "one evaluation seed"),
        (lambda c: c["cells"][0].pop("key"), "'key'"),
    ],
)
def test_a_manifest_of_another_version_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], sentence: str
) -> None:
    content = manifest.to_json(whole_manifest())
    change(content)
    files.write_json(tmp_path / "manifest.json", content)
    with pytest.raises(UserError, match=r"manifest\.json is damaged or was") as error:
        store.load(tmp_path)
    assert sentence in str(error.value)


def test_curves_of_some_seeds() -> None:
    curves = fakes.results(("quad_diag",), ("adam",)).curves["quad_diag", "adam"]
    found = curves.of((101, 0, 999))
    assert found.seeds.tolist() == [0, 101]
    rows = [curves.seeds.tolist().index(seed) for seed in (0, 101)]
    np.testing.assert_array_equal(found.metrics["loss"], curves.metrics["loss"][rows])
    np.testing.assert_array_equal(found.diverged_at, curves.diverged_at[rows])
    assert found.gradients_per_step == curves.gradients_per_step


def test_costs_are_kept(tmp_path: Path) -> None:
    results = toys.run(tiny_plan([toys.ADAM]), tmp_path)
    cost = results.costs["toy_plane", "adam"]
    assert cost["param_bytes"] == 8
    assert cost["state_bytes"] == 8 + 8 + 4  # mu, nu, count
    assert cost["run_s"] > 0
    assert cost["us_per_run_step"] == pytest.approx(1e6 * cost["run_s"] / (2 * 4))
    assert cost["flops"] > 0


def test_a_full_disk_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = toys.plan([toys.plane(4)], [toys.SGD], toys.settings(0.1, seeds=5))
    toys.run(plan, tmp_path / "whole")
    out = tmp_path / "out"
    written = 0

    def write_bytes(self: Path, content: bytes) -> None:
        nonlocal written
        if self.name.endswith(".parquet.tmp"):
            written += 1
            if written == 3:
                original(self, b"half of it")
                raise OSError(errno.ENOSPC, "No space left on device")
        original(self, content)

    original = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(UserError, match="the disk is full"):
        toys.run(plan, out, workers=1)
    assert len(toys.numbers(out)) == 2
    assert not list(out.rglob("*.tmp"))
    toys.run(plan, out, workers=1)
    assert toys.numbers(out) == toys.numbers(tmp_path / "whole")


def test_half_written_files_are_removed(tmp_path: Path) -> None:
    left = tmp_path / "runs" / ".seed-000.parquet.tmp"
    left.parent.mkdir()
    left.touch()
    toys.run(tiny_plan(), tmp_path)
    assert not left.exists()


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    with files.lock(tmp_path), pytest.raises(UserError, match="another run is writing"):
        toys.run(tiny_plan(), tmp_path)
    toys.run(tiny_plan(), tmp_path)


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    toys.run(tiny_plan(), tmp_path / "out")
    (tmp_path / "out" / "notes.txt").touch()
    toys.run(tiny_plan(), tmp_path / "out")
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as error:
        toys.run(tiny_plan(), tmp_path)
    assert str(error.value) == (
        f"{tmp_path} is no results folder, but holds out: choose an empty or a new "
        "folder with --out."
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/out cannot be written"):
        toys.run(tiny_plan(), tmp_path / "file" / "out")


def test_a_diverged_lane_repeats_its_last_finite_values() -> None:
    loss = np.array([[4.0, 4.0], [3.0, np.inf], [2.0, 1.0], [np.nan, 1.0]])
    other = np.arange(8.0).reshape(4, 2)
    found = seed_run.finish(
        toys.regression(),
        {"metrics": {"a": other.T, "loss": loss.T}, "params": ()},
        np.array([0.1, 1.0]),
        np.array([0, 1, 5, 9], np.int32),
        np.array([-1, -1], np.int32),
    )
    assert list(found.metrics) == ["loss", "a"]
    np.testing.assert_array_equal(found.metrics["loss"], [[4, 3, 2, 2], [4, 4, 4, 4]])
    np.testing.assert_array_equal(found.metrics["a"], [[0, 2, 4, 4], [1, 1, 1, 1]])
    assert found.diverged_at.tolist() == [9, 1]


def test_metrics_of_a_wrong_shape_are_refused() -> None:
    rows = {"metrics": {"loss": np.zeros((4, 1))}, "params": ()}
    grid = np.array([0.1, 1.0]), np.arange(4), np.array([-1, -1])
    with pytest.raises(ValueError, match=r"metric 'loss' has shape \(4, 1\)"):
        seed_run.finish(toys.regression(), rows, *grid)
    with pytest.raises(ValueError, match="but not 'loss'"):
        seed_run.finish(toys.regression(), {"metrics": {}, "params": ()}, *grid)
