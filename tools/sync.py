"""Regenerate the generated files: `python -m tools.sync`, or `make sync`."""

import re
from pathlib import Path

from tools import package_init

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "optimizers" / "__init__.py"
README = ROOT / "README.md"
API = ROOT / "tests" / "public_api.txt"
CONFORMANCE = ROOT / "docs" / "conformance.md"
MIGRATING = ROOT / "docs" / "migrating.md"


def api() -> str:
    """What `API` should hold. This and the others import the package."""
    from tools import public_api

    return public_api.render()


def readme() -> str:
    """What `README` should hold."""
    from tools import optimizer_table

    text = README.read_text()
    for name, factories in (
        ("optimizers", optimizer_table.aliases()),
        ("methods", optimizer_table.methods()),
    ):
        text = _with_section(text, name, optimizer_table.render(factories))
    return text


def conformance() -> str:
    """What `CONFORMANCE` should hold."""
    from tools import rule_table

    return _with_section(CONFORMANCE.read_text(), "rules", rule_table.render())


def migrating() -> str:
    """What `MIGRATING` should hold."""
    from tools import dialect_tables

    return _with_section(MIGRATING.read_text(), "dialects", dialect_tables.render())


def _with_section(text: str, name: str, content: str) -> str:
    """The text with what stands between the two comments of a section replaced."""
    begin, end = f"<!-- {name}: make sync -->\n", "<!-- end -->"
    section = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    return section.sub(lambda _: f"{begin}{content}{end}", text)


def _write(path: Path, text: str) -> None:
    changed = path.read_text() != text
    path.write_text(text)
    print(f"{'wrote' if changed else 'up to date:'} {path.relative_to(ROOT)}")


if __name__ == "__main__":
    _write(PACKAGE, package_init.render())
    # After the package, which they import.
    _write(API, api())
    _write(README, readme())
    _write(CONFORMANCE, conformance())
    _write(MIGRATING, migrating())
