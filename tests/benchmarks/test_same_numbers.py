"""The comparison of two results folders notices a single bit."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.benchmarks import toys
from tools.same_numbers import differences


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    before, after = tmp_path / "before", tmp_path / "after"
    toys.run(toys.small_plan(toys.SGD), before)
    shutil.copytree(before, after)
    return before, after


def test_a_copy_has_the_same_numbers(folders: tuple[Path, Path]) -> None:
    found, values = differences(*folders)
    assert not found
    assert values > 100


def test_one_bit_is_noticed(folders: tuple[Path, Path]) -> None:
    path = sorted(folders[1].rglob("*.parquet"))[0]
    table = pq.read_table(path)
    loss = table["loss"].to_numpy().copy()
    loss[-1] = np.nextafter(loss[-1], np.inf)
    index = table.column_names.index("loss")
    pq.write_table(table.set_column(index, "loss", pa.array(loss)), path)
    found, _ = differences(*folders)
    assert found == [f"{path.relative_to(folders[1])}: loss"]


def test_a_missing_run_is_noticed(folders: tuple[Path, Path]) -> None:
    path = sorted(folders[0].rglob("*.parquet"))[0]
    path.unlink()
    found, _ = differences(*folders)
    assert found == [f"{path.relative_to(folders[0])}: only in {folders[1]}"]


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no seed runs"):
        differences(tmp_path, tmp_path)
