"""Check an optimizer from the command line: `python -m optimizers.testing check`."""

import argparse
import ast
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

try:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
except ImportError:  # without the extra
    sys.exit(
        "error: the command line needs rich; install verbatim-optimizers[testing]."
    )

from optimizers.testing._conformance.check import check, conformance_rules
from optimizers.testing._conformance.report import Report

_STYLES = {"passed": "green", "failed": "bold red", "exempt": "yellow"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0 if no rule fails, 1 if some do, 2 on bad input."""
    options = _parser().parse_args(arguments)
    console = Console()
    if options.command == "rules":
        _print_rules(console)
        return 0
    try:
        factory = _find(options.factory)
        kwargs = dict(_split(text, "--arg") for text in options.arg)
        exemptions = dict(_split(text, "--exempt") for text in options.exempt)
        values = {name: _value(text) for name, text in kwargs.items()}
        _require_arguments(factory, values, options.factory)
        report = check(factory, exemptions=exemptions, **values)
    except (ValueError, TypeError) as error:
        Console(stderr=True, highlight=False).print(
            f"error: {error}", markup=False, soft_wrap=True
        )
        return 2
    _print_report(console, report, everything=options.all)
    return 1 if report.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m optimizers.testing",
        description="Check an optax optimizer against the rules of optax's contract.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("rules", help="list the rules", description="List the rules.")
    command = commands.add_parser(
        "check",
        help="check an optimizer against the rules",
        description="Check an optimizer against the rules, and show which fail, why "
        "and how to fix them. Exits with 0 if no rule fails, 1 if some do, 2 on bad "
        "input.",
    )
    command.add_argument(
        "factory",
        help="the function that makes the optimizer, as module:function, for example "
        "optax:adam",
    )
    command.add_argument(
        "--arg",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="keyword argument of the factory, in Python syntax, such as b1=0.95; may "
        "be repeated",
    )
    command.add_argument(
        "--exempt",
        action="append",
        default=[],
        metavar="RULE=REASON",
        help="rule that may fail, and why; may be repeated",
    )
    command.add_argument(
        "--all",
        action="store_true",
        help="also show the rules that passed or were skipped",
    )
    return parser


def _find(target: str) -> Callable[..., Any]:
    module_name, _, path = target.partition(":")
    if not (module_name and path):
        msg = f"{target!r} is not module:function, for example optax:adam."
        raise ValueError(msg)
    try:
        thing: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        # A module of the user may raise anything while it loads.
        kind = type(error).__name__
        msg = f"cannot import {module_name!r}: {kind}: {error}"
        raise ValueError(msg) from error
    for name in path.split("."):
        if not hasattr(thing, name):
            msg = f"{module_name!r} has no attribute {path!r}."
            raise ValueError(msg)
        thing = getattr(thing, name)
    if not callable(thing):
        msg = f"{target} is a {type(thing).__name__}, expected a function."
        raise TypeError(msg)
    return thing


def _require_arguments(
    factory: Callable[..., Any], values: dict[str, Any], target: str
) -> None:
    try:
        inspect.signature(factory).bind_partial(**values)
    except TypeError as error:
        msg = f"{target}: {error}."
        raise ValueError(msg) from error


def _split(text: str, option: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not (name and found and value):
        msg = f"{option} {text!r} is not name=value."
        raise ValueError(msg)
    return name, value


def _value(text: str) -> Any:
    """Reads a Python literal; any other text is a string."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _print_rules(console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("rule", no_wrap=True)
    table.add_column("what it requires")
    table.add_column("§")
    for rule in conformance_rules():
        sections = ", ".join(map(str, rule.sections))
        table.add_row(rule.name, rule.summary, sections)
    console.print(table)


def _print_report(console: Console, report: Report, *, everything: bool) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_lines=True)
    table.add_column("rule", no_wrap=True)
    table.add_column("outcome")
    table.add_column("reason → fix", overflow="fold")
    for rules, reason, fix in report.causes:
        outcome = Text("failed", _STYLES["failed"])
        table.add_row("\n".join(rules), outcome, Text(f"{reason}\n→ {fix}"))
    for result in report.results:
        if result.outcome == "exempt" or (everything and result.outcome != "failed"):
            outcome = Text(result.outcome, _STYLES.get(result.outcome, "dim"))
            table.add_row(result.rule, outcome, Text(result.reason))
    if table.row_count:
        console.print(table)
    console.print(report.summary, markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
