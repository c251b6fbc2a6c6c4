"""A rule: one named, documented check on an optimizer."""

import contextlib
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import jax

from optimizers.testing._conformance.case import Case

# From the most to the least serious; reports show the failures in this order.
Severity = Literal["promise", "numerics", "polish"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

_TESTING = Path(__file__).parents[1]


class NotApplicable(Exception):
    """Raised by a rule that does not apply to this optimizer or machine."""


def applies_if(condition: bool, otherwise: str) -> None:
    """Raises `NotApplicable` with the reason `otherwise` if the condition is false."""
    if not condition:
        raise NotApplicable(otherwise)


@dataclass(frozen=True)
class Rule:
    """One rule of optax's contract.

    Attributes:
        name: Identifier, unique among the rules.
        severity: What an optimizer loses that breaks it. "promise": code that works
            with optax's optimizers does not work with this one. "numerics": a training
            run may be lost to NaN, stall, or make wrong steps. "polish": training
            works, but messages, names, strict modes of JAX or unusual trees do not.
        sections: The numbered rules of optax's contract that it checks.
        summary: What the rule requires, in one sentence.
        why: What goes wrong if an optimizer breaks it.
        fix: How to fix an optimizer that breaks it.
        check: Function of a `Case` that raises if the optimizer breaks the rule, and
            `NotApplicable` if the rule does not apply.
    """

    name: str
    severity: Severity
    sections: tuple[int, ...]
    summary: str
    why: str
    fix: str
    check: Callable[[Case], None]

    @property
    def topic(self) -> str:
        """The subject of the rule and its neighbors, such as "The step counter."."""
        module = sys.modules[self.check.__module__]
        return (module.__doc__ or "").partition("\n")[0]

    def run(self, case: Case) -> None:
        """Checks the case.

        Raises:
            AssertionError: The optimizer breaks the rule. The message has the failure,
                with the value and the path of the leaf. An exception of the optimizer
                itself is chained.
            NotApplicable: The rule does not apply to this case.
        """
        try:
            self.check(case)
        except NotApplicable:
            raise
        except AssertionError as error:
            # pytest appends the values in the assert statement, which the message has
            # already.
            text = str(error).partition("\nassert ")[0]
            hidden = error.__suppress_context__
            cause = error.__cause__ or (None if hidden else error.__context__)
            error.args = (_shorten(text) + _place(cause, case),)
            raise
        except (Exception, SystemExit) as error:
            raise AssertionError(describe(error, case)) from error


def describe(error: BaseException, case: Case) -> str:
    """Returns what the optimizer raised, and where in its own files."""
    text = str(error)
    if isinstance(error, jax.errors.ConcretizationTypeError):
        # The dtype and the program around it differ between rules.
        text = text.partition("\n")[0].partition(" with shape ")[0].rstrip(".")
        text += "; use jax.numpy instead of float(), int(), if or math"
    what = f"{case.name} raised {type(error).__name__}: {_shorten(text)}"
    return what + _place(error, case)


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 500 else f"{text[:500]} …"


def _place(error: BaseException | None, case: Case) -> str:
    """Returns the innermost line of the optimizer's own files in a traceback."""
    folder = None
    for source in (
        type(case.function),
        case.function,
    ):  # a callable object has no source
        with contextlib.suppress(TypeError, OSError):
            folder = Path(inspect.getsourcefile(source) or "").parent
    if folder is None:
        return ""
    frames = traceback.extract_tb(None if error is None else error.__traceback__)
    for frame in reversed(frames):
        path = Path(frame.filename)
        if not path.is_relative_to(folder) or path.is_relative_to(_TESTING):
            continue
        # A virtual environment in this folder holds the files of other packages.
        others = "site-packages" in (folder.name, *path.relative_to(folder).parts)
        if path.parent == folder or not others:
            return f" ({path.name}, line {frame.lineno})"
    return ""


def rule(
    check: Callable[[Case], None],
    severity: Severity,
    sections: tuple[int, ...],
    fix: str,
) -> Rule:
    """Returns the rule of a check; its docstring is the summary and the why."""
    summary, _, why = inspect.cleandoc(check.__doc__ or "").partition("\n\n")
    why = " ".join(why.split())
    return Rule(check.__name__, severity, sections, summary, why, fix, check)
