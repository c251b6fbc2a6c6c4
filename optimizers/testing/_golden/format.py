"""The format of golden files: JSON with one step of one leaf on a line."""

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optimizers.testing._golden.scenarios import trajectory_scenarios
from optimizers.testing._golden.trajectory import Trajectory

# Increase when the layout of the files changes, or the inputs of a scenario.
FORMAT = 1

# A trajectory by the paths of its leaves; the first axis of an array is the step.
Leaves = dict[str, np.ndarray]


class File(NamedTuple):
    """The content of a golden file."""

    name: str  # of the optimizer
    recorded_with: str  # versions and platform, in words
    scenarios: dict[str, Leaves]


def flatten(trajectory: Trajectory) -> Leaves:
    """Returns the leaves by their paths, such as state.mu['kernel']."""
    leaves = jax.tree_util.tree_leaves_with_path(trajectory)
    return {jax.tree_util.keystr(path)[1:]: leaf for path, leaf in leaves}


def type_text(array: np.ndarray) -> str:
    """Returns the dtype and shape of one step, such as float32[2,3]."""
    shape = ",".join(map(str, array.shape[1:]))
    return f"{array.dtype}[{shape}]" if shape else str(array.dtype)


def number_text(number: Any) -> str:
    """Returns the shortest decimals that give the same number in its dtype."""
    if np.iscomplexobj(number):
        real, imaginary = number_text(number.real), number_text(number.imag)
        return f"{real}{'' if number.imag < 0 else '+'}{imaginary}j"
    if not jnp.issubdtype(number.dtype, jnp.inexact):
        return str(int(number))
    if not np.isfinite(number):
        return str(float(number))
    kind = number.dtype.type
    with np.errstate(over="ignore"):
        texts = (f"{float(number):.{digits}g}" for digits in range(1, 18))
        return next(text for text in texts if kind(float(text)) == number)


def render(name: str, scenarios: Mapping[str, Leaves]) -> str:
    """Returns the text of the golden file of an optimizer."""
    head = {
        "format": FORMAT,
        "optimizer": name,
        "recorded_with": {
            package: importlib.metadata.version(package)
            for package in ("verbatim-optimizers", "jax", "jaxlib", "optax", "numpy")
        }
        | {"platform": f"{jax.devices()[0].device_kind}, {platform.machine()}"},
    }
    body = ",\n".join(
        f'"{scenario}": {{\n{_render_leaves(scenarios[scenario])}\n}}'
        for scenario in trajectory_scenarios()
        if scenario in scenarios
    )
    return f'{json.dumps(head, indent=0)[:-2]},\n"cases": {{\n{body}\n}}\n}}\n'


def _render_leaves(leaves: Leaves) -> str:
    lines = []
    for leaf, array in leaves.items():
        steps = [_render_array(step) for step in _as_real(array)]
        between = ", " if array.ndim == 1 else ",\n"
        key = json.dumps(f"{leaf} {type_text(array)}", ensure_ascii=False)
        lines.append(f"{key}: [{between.join(steps)}]")
    return ",\n".join(lines)


def _render_array(array: Any) -> str:
    if array.ndim:
        return f"[{', '.join(map(_render_array, array))}]"
    text = number_text(array)
    return text if np.isfinite(float(array)) else f'"{text}"'


def _as_real(array: np.ndarray) -> np.ndarray:
    """Returns complex entries as pairs along a new last axis."""
    if not np.iscomplexobj(array):
        return array
    return np.stack([np.real(array), np.imag(array)], axis=-1)


def read(path: Path) -> File:
    """Returns the content of a golden file.

    Raises:
        ValueError: The file is damaged, is no golden file or has another format.
        FileNotFoundError: There is no file.
    """
    text = path.read_text("utf-8")
    try:
        content = json.loads(text)
    except ValueError as error:
        msg = f"{path} is damaged ({error}). Restore it, or delete and re-record it."
        raise ValueError(msg) from error
    if not isinstance(content, dict) or "format" not in content:
        msg = f"{path} is not a golden file: it has no format. Pass another path."
        raise ValueError(msg)
    if content["format"] != FORMAT:
        msg = (
            f"{path} has format {content['format']}, but this version of optimizers "
            f"reads format {FORMAT}: install a matching version, or re-record the file."
        )
        raise ValueError(msg)
    try:
        scenarios = {
            scenario: dict(_parse_leaf(key, steps) for key, steps in leaves.items())
            for scenario, leaves in content["cases"].items()
        }
        versions = content["recorded_with"].items()
        words = ", ".join(f"{name} {version}" for name, version in versions)
        return File(content["optimizer"], words, scenarios)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        msg = (
            f"{path} is damaged ({type(error).__name__}: {error}). Restore it, or "
            "delete and re-record it."
        )
        raise ValueError(msg) from error


def _parse_leaf(key: str, steps: Any) -> tuple[str, np.ndarray]:
    leaf, kind = key.rsplit(" ", 1)
    dtype, _, shape = kind.rstrip("]").partition("[")
    sizes = [int(size) for size in shape.split(",") if size]
    is_complex = dtype.startswith("complex")
    numbers = np.array(steps, np.int64 if "int" in dtype else np.float64)
    numbers = numbers.reshape(len(steps), *sizes, *[2] * is_complex)
    if is_complex:
        numbers = numbers[..., 0] + 1j * numbers[..., 1]
    return leaf, numbers.astype(jnp.dtype(dtype))
