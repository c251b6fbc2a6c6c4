"""The files of one seed run: its results (Parquet) and its checkpoint (npz)."""

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.results import files

_FIXED = ("lane", "learning_rate", "step", "diverged_at")
_DAMAGED = (OSError, ValueError, KeyError, TypeError, pa.ArrowException)


@dataclasses.dataclass(frozen=True)
class Block:
    """The results of one seed run: E evaluation points of L lanes.

    Attributes:
      learning_rates: `[L]`, float64.
      eval_steps: `[E]`, int32: steps done at each evaluation.
      metrics: By name, each `[L, E]`, float64; `"loss"` first.
      diverged_at: `[L]`, int32; -1 where the lane never diverged.
    """

    learning_rates: np.ndarray
    eval_steps: np.ndarray
    metrics: dict[str, np.ndarray]
    diverged_at: np.ndarray


def write(path: Path, block: Block, key: str, ingredients: dict[str, str]) -> None:
    """Writes the results, rows by lane and then step, their origin in the footer.

    Raises:
      UserError: The file cannot be written.
    """
    lanes, points = len(block.learning_rates), len(block.eval_steps)
    columns = {
        "lane": np.repeat(np.arange(lanes, dtype=np.int32), points),
        "learning_rate": np.repeat(block.learning_rates, points),
        "step": np.tile(block.eval_steps, lanes),
        "diverged_at": np.repeat(block.diverged_at, points),
    } | {name: values.ravel() for name, values in block.metrics.items()}
    origin = {
        "run_key": key,
        "ingredients": json.dumps(ingredients),
        "content": _digest(columns, key),
    }
    table = pa.table(columns).replace_schema_metadata(origin)
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        # Dictionaries save space only in columns of repeated values.
        use_dictionary=list(_FIXED),  # pyright: ignore[reportArgumentType]
    )
    files.write_bytes(path, buffer.getvalue())


def read(path: Path) -> tuple[Block, str] | None:
    """The results of a seed run and its run key; None if the file is damaged."""
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(use_threads=False)
        columns = {n: table[n].to_numpy() for n in table.column_names}
        metadata = table.schema.metadata
        key, content = (metadata[n].decode() for n in (b"run_key", b"content"))
    except PermissionError:
        raise
    except _DAMAGED:
        return None
    if content != _digest(columns, key):
        return None
    lanes = int(columns["lane"][-1]) + 1
    tables = {n: c.reshape(lanes, -1) for n, c in columns.items()}
    block = Block(
        learning_rates=tables["learning_rate"][:, 0],
        eval_steps=tables["step"][0],
        metrics={n: t for n, t in tables.items() if n not in _FIXED},
        diverged_at=tables["diverged_at"][:, 0],
    )
    return block, key


def read_origin(path: Path) -> tuple[str, dict[str, str]] | None:
    """Run key and ingredients of a seed run, from the footer of its results.

    None if the footer is damaged. Damage elsewhere in the file is not noticed.
    """
    try:
        metadata = pq.read_metadata(path).metadata
        return metadata[b"run_key"].decode(), json.loads(metadata[b"ingredients"])
    except PermissionError:
        raise
    except _DAMAGED:
        return None


def write_checkpoint(
    path: Path, key: str, done: int, arrays: Sequence[np.ndarray]
) -> None:
    """Writes a checkpoint: `done` evaluation points, and arrays of any dtype.

    Raises:
      UserError: The file cannot be written.
    """
    # As bytes, because npz does not know bfloat16.
    content = {
        f"array_{i}": np.frombuffer(a.tobytes(), np.uint8) for i, a in enumerate(arrays)
    }
    buffer = io.BytesIO()
    content |= {"key": np.array(key), "done": np.array(done)}
    np.savez(buffer, allow_pickle=False, **content)
    files.write_bytes(path, buffer.getvalue())


def read_checkpoint(
    path: Path, key: str, like: Sequence[np.ndarray]
) -> tuple[int, list[np.ndarray]] | None:
    """Points done and arrays, shaped as `like`; None if damaged or of another key."""
    try:
        with np.load(io.BytesIO(path.read_bytes())) as content:
            if str(content["key"]) != key:
                return None
            arrays = [
                np.frombuffer(content[f"array_{i}"].tobytes(), a.dtype).reshape(a.shape)
                for i, a in enumerate(like)
            ]
            return int(content["done"]), arrays
    except (*_DAMAGED, EOFError, zipfile.BadZipFile):
        return None


def _digest(columns: Mapping[str, np.ndarray], key: str) -> str:
    """SHA-256, in hex, of all results; Parquet does not check its footer."""
    digest = hashlib.sha256(key.encode())
    for name, values in columns.items():
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
