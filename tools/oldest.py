"""Print the oldest supported versions as pip constraints: `python -m tools.oldest`."""

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def constraints(dependencies: list[str]) -> list[str]:
    """Pins each dependency, such as `jax>=0.8.0`, to its lower bound.

    Raises:
      ValueError: A dependency is anything but a name and a lower bound.
    """
    pins = []
    for dependency in dependencies:
        match = re.fullmatch(r"([\w.-]+)\s*>=\s*([\w.]+)", dependency)
        if match is None:
            msg = (
                f"pyproject.toml: dependency {dependency!r} has no oldest version: "
                "write it as name>=version."
            )
            raise ValueError(msg)
        pins.append("==".join(match.groups()))
    return pins


if __name__ == "__main__":
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    print(*constraints(project["dependencies"]), sep="\n")
