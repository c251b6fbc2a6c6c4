"""Regenerate the generated files: `python -m tools.sync`, or `make sync`."""

import re
from pathlib import Path

from tools import package_init

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "optimizers" / "__init__.py"
README = ROOT / "README.md"
API = ROOT / "tests" / "public_api.txt"
CONFORMANCE = ROOT / "docs" / "conformance.md"


def generated() -> dict[Path, str]:
    """What the generated files should hold, by path, beside `PACKAGE`."""
    # These import the package, which has to be written first.
    from tools import optimizer_table, public_api, rule_table

    readme = README.read_text()
    for name, factories in (
        ("optimizers", optimizer_table.aliases()),
        ("methods", optimizer_table.methods()),
    ):
        table = optimizer_table.render(factories)
        readme = _with_section(readme, name, table)
    rules = _with_section(CONFORMANCE.read_text(), "rules", rule_table.render())
    return {API: public_api.render(), README: readme, CONFORMANCE: rules}


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
    for path, text in generated().items():
        _write(path, text)
