"""What the documents show is what happens: their code runs, their tables are fresh."""

import re
import runpy
from pathlib import Path

import pytest

from tools import sync

EXAMPLES = sorted((sync.ROOT / "examples").glob("*.py"))
DOCUMENTS = [
    sync.README,
    sync.ROOT / "CONTRIBUTING.md",
    *sorted((sync.ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_code_blocks_run(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The Python blocks of one document share their names, as a reader's would."""
    names: dict[str, object] = {"__name__": document.stem}
    text = document.read_text()
    blocks = re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for block in blocks:
        lines_before = text[: block.start(1)].count("\n")
        code = "\n" * lines_before + block.group(1)  # tracebacks name the right line
        exec(compile(code, document, "exec"), names)
    capsys.readouterr()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out


def test_table_of_optimizers_is_fresh() -> None:
    assert sync.README.read_text() == sync.readme(), (
        "The table of optimizers in README.md is stale; run make sync."
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_and_targets_exist(document: Path) -> None:
    text = document.read_text()
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", text)
    assert not [link for link in links if not (document.parent / link).exists()]
    targets = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", (sync.ROOT / "Makefile").read_text(), re.M)
    assert phony
    assert targets <= set(phony.group(1).split())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_installs_from_a_checkout(document: Path) -> None:
    """No package index has the package, so that its name alone installs nothing."""
    commands = re.findall(r"pip install ([^`\n]*)", document.read_text())
    assert not [command for command in commands if "verbatim" in command]
