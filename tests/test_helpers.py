"""The helpers that optimizers share: one name, one function."""

import ast
from collections import defaultdict
from pathlib import Path

import optimizers

COMMON = Path(optimizers.__file__).parent / "_common"


def test_no_two_helpers_have_one_name() -> None:
    homes = defaultdict(list)
    for path in sorted(COMMON.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                homes[node.name].append(path.stem)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}
