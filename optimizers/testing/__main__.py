"""Check an optimizer from the command line: `python -m optimizers.testing check`."""

import argparse
import ast
import difflib
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

try:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text
except ImportError:  # without the extra
    sys.exit(
        "error: the command line needs rich; run `pip install '.[testing]'` in a "
        "checkout of verbatim-optimizers."
    )

from optimizers.testing._conformance.check import check, conformance_rules
from optimizers.testing._conformance.report import Report
from optimizers.testing._conformance.rule import SEVERITIES

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
        baseline = options.baseline and _find(options.baseline)
        rules = conformance_rules(options.only)
        start = time.monotonic()
        with console.status(f"checking {options.factory}"):  # only on a terminal
            report = check(
                factory, exemptions=exemptions, rules=rules, baseline=baseline, **values
            )
        seconds = time.monotonic() - start
    except (ValueError, TypeError) as error:
        Console(stderr=True, highlight=False).print(
            f"error: {error}", markup=False, soft_wrap=True
        )
        return 2
    _print_report(console, report, everything=options.all)
    console.print(f"checked in {seconds:.0f} s", highlight=False)
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
        help="the function that returns the optimizer, as module:function or "
        "path/to/file.py:function, for example optax:adam",
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
        "--only",
        choices=SEVERITIES,
        help="check only the rules of this severity; `promise` is what code that works "
        "with optax's optimizers relies on",
    )
    command.add_argument(
        "--baseline",
        metavar="FACTORY",
        help="another optimizer, such as optax:adam; rules that it breaks too are only "
        "named",
    )
    command.add_argument(
        "--all",
        action="store_true",
        help="show every result: rules that passed or were skipped, and failures that "
        "probably follow from another one",
    )
    return parser


def _find(target: str) -> Callable[..., Any]:
    module_name, _, path = target.partition(":")
    if not (module_name and path):
        msg = (
            f"{target!r} is neither module:function, for example optax:adam, nor "
            "path/to/file.py:function."
        )
        raise ValueError(msg)
    file = Path(module_name).resolve() if module_name.endswith(".py") else None
    if file is not None:
        if not file.is_file():
            msg = f"{target!r}: there is no file {str(file)!r}."
            raise ValueError(msg)
        # As for a script, so that the file can import its neighbors.
        sys.path.insert(0, str(file.parent))
        module_name = file.stem
    try:
        thing: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        # A module of the user may raise anything while it loads.
        kind = type(error).__name__
        msg = f"cannot import {module_name!r}: {kind}: {error}"
        raise ValueError(msg) from error
    found = getattr(thing, "__file__", None)
    if file is not None and Path(found or "").resolve() != file:
        msg = (
            f"{target!r}: a module {module_name!r} exists already, at {found}; rename "
            "the file."
        )
        raise ValueError(msg)
    for name in path.split("."):
        if not hasattr(thing, name):
            close = difflib.get_close_matches(name, dir(thing), 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            msg = f"{module_name!r} has no attribute {path!r}.{hint}"
            raise ValueError(msg)
        thing = getattr(thing, name)
    if not callable(thing):
        msg = (
            f"{target} is a {type(thing).__name__}, expected a function that returns "
            "the optimizer, such as def my_optimizer(learning_rate)."
        )
        raise TypeError(msg)
    return thing


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
    for topic, rules in groupby(conformance_rules(), lambda rule: rule.topic):
        console.print(Text(f"\n{topic}", "bold"))
        for rule in rules:
            title = Text.assemble(rule.name, (f" ({rule.severity})", "dim"))
            _print_block(console, title, [rule.summary])


def _print_report(console: Console, report: Report, *, everything: bool) -> None:
    for title, causes in report.sections(everything=everything):
        console.print(Text(title, "bold"))
        for cause in causes:
            lines = [cause.reason, f"fix: {cause.fix}"]
            name = cause.rules[0]
            if len(cause.rules) > 1:
                name = f"{len(cause.rules)} rules"
                lines.append(f"rules: {', '.join(cause.rules)}")
            _print_block(console, _title("failed", name), lines)
    for note in report.notes(everything=everything):
        console.print(Text(note))
    for result in report.results:
        if result.outcome == "exempt" or (everything and result.outcome != "failed"):
            lines = [result.reason] if result.reason else []
            _print_block(console, _title(result.outcome, result.rule), lines)
    console.print(report.summary, markup=False, highlight=False)


def _title(outcome: str, name: str) -> Text:
    return Text.assemble((outcome, _STYLES.get(outcome, "dim")), f": {name}")


def _print_block(console: Console, title: Text, lines: Sequence[str]) -> None:
    """Prints a title, and indented below it each line, wrapped."""
    console.print(title, highlight=False)
    for line in lines:
        console.print(Padding(Text(line), (0, 0, 0, 4), expand=False), highlight=False)


if __name__ == "__main__":
    sys.exit(main())
