"""Compares an optimizer with its golden file, and records the file."""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from optimizers.testing._factory import full_name
from optimizers.testing._golden.diff import GoldenChange, compare
from optimizers.testing._golden.format import Leaves, flatten, read, render
from optimizers.testing._golden.scenarios import is_runnable
from optimizers.testing._golden.trajectory import is_transformation, try_scenarios


def assert_matches_golden(
    optimizer: Any,
    path: str | PathLike[str],
    *,
    rtol: Mapping[str, float] | None = None,
    scenarios: Iterable[str] | None = None,
    **kwargs: Any,
) -> None:
    """Asserts that an optimizer gives the numbers in its golden file.

    The fixture `golden_trajectory` of the pytest plugin does the same, chooses the path
    and records the file under `pytest --update-golden`.

    Args:
        optimizer: A transformation or a factory of one, as for `record_trajectory`.
        path: The golden file.
        rtol: Relative tolerances by a part of the leaf's path, for instance
            `{".distance": 1e-3}`; the last match counts. The defaults depend on the
            dtype: for float32 2e-5 in the state, 1e-4 in updates and 5e-5 in params;
            1e-12 for float64, eight units in the last place for 16 bits; integers must
            be equal. A difference is relative to the largest entry that the leaf has
            had.
        scenarios: Names from `trajectory_scenarios()`; all if None.
        **kwargs: Keyword arguments of the factory.

    Raises:
        AssertionError: Numbers moved, and the message shows the first step and leaf
            that did; or there is no file.
        TypeError: `rtol` is no mapping.
        ValueError: The file is damaged or no golden file, or a tolerance matches no
            leaf.
    """
    __tracebackhide__ = True
    path, tolerances = Path(path), _tolerances(rtol)
    if not path.exists():
        msg = (
            f"{path} is missing. Record it with pytest --update-golden -k NAME, where "
            "NAME selects this test, or with optimizers.testing.update_golden, and "
            "commit it."
        )
        raise AssertionError(msg)
    records, refusals = _records(optimizer, scenarios, kwargs)
    change = compare(records, read(path), tolerances, refusals)
    if change:
        msg = (
            f"{change.name} no longer matches {path}, recorded with "
            f"{change.recorded_with}:\n"
            f"{change}\n"
            "If the change is intended, re-record the file with pytest --update-golden "
            "-k NAME, where NAME selects this test, and note the change in your "
            "changelog."
        )
        raise AssertionError(msg)


def update_golden(
    optimizer: Any,
    path: str | PathLike[str],
    *,
    rtol: Mapping[str, float] | None = None,
    scenarios: Iterable[str] | None = None,
    **kwargs: Any,
) -> GoldenChange | None:
    """Records the golden file of an optimizer, unless the existing one still matches.

    A file that matches within the tolerances is left unchanged, to the byte, even if
    this machine rounds differently. Scenarios that cannot run here (float64 without
    `jax_enable_x64`) keep their records.

    Args:
        optimizer: As for `assert_matches_golden`.
        path: The golden file; its folder is created if it is missing.
        rtol: As for `assert_matches_golden`.
        scenarios: As for `assert_matches_golden`.
        **kwargs: Keyword arguments of the factory.

    Returns:
        What moved, false if nothing did. None if there was no readable file.
    """
    path, tolerances = Path(path), _tolerances(rtol)
    records, refusals = _records(optimizer, scenarios, kwargs)
    try:
        file = read(path)
    except (FileNotFoundError, ValueError):
        change = None
    else:
        change = compare(records, file, tolerances, refusals)
        for name, old in file.scenarios.items():
            if not is_runnable(name):
                records[name] = old
    if change is None or change:
        name = (
            type(optimizer).__name__
            if is_transformation(optimizer)
            else full_name(optimizer, kwargs)
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(name, records), "utf-8")
    return change


def _tolerances(rtol: Mapping[str, float] | None) -> Mapping[str, float]:
    if rtol is not None and not isinstance(rtol, Mapping):
        msg = (
            "rtol must be a mapping from a part of a leaf's path to a tolerance, such "
            f'as {{".mu": 1e-3}}, got {rtol!r}.'
        )
        raise TypeError(msg)
    return rtol or {}


def _records(
    optimizer: Any, scenarios: Iterable[str] | None, kwargs: dict[str, Any]
) -> tuple[dict[str, Leaves], dict[str, Exception]]:
    trajectories, refusals = try_scenarios(optimizer, scenarios, kwargs)
    records = {name: flatten(trajectory) for name, trajectory in trajectories.items()}
    return records, refusals
