"""The tables of rules in `docs/conformance.md`, made from the rules."""

from itertools import groupby

from optimizers import testing


def render() -> str:
    """Returns one table for each module of rules, under the module's docstring."""
    return "\n".join(
        f"### {title}\n\n{_HEADER}{''.join(map(_row, rules))}"
        for title, rules in groupby(testing.conformance_rules(), _title)
    )


_HEADER = (
    "| rule | severity | what it requires | why | how to fix it | § |\n"
    "|---|---|---|---|---|---|\n"
)


def _title(rule: testing.Rule) -> str:
    return rule.topic.removesuffix(".")


def _row(rule: testing.Rule) -> str:
    sections = ", ".join(map(str, rule.sections))
    name = f"`{rule.name}`"
    cells = (name, rule.severity, rule.summary, rule.why, rule.fix, sections)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
