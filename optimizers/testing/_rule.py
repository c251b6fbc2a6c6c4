"""A rule: one named, documented check on an optimizer."""

import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax

from optimizers.testing._case import Case


class NotApplicable(Exception):
    """Raised by a check that has nothing to say about this optimizer or machine."""


def applies_if(condition: bool, otherwise: str) -> None:
    """Raises `NotApplicable` with the reason `otherwise` unless the condition holds."""
    if not condition:
        raise NotApplicable(otherwise)


@dataclass(frozen=True)
class Rule:
    """One law that an optimizer must hold.

    Attributes:
        name: Identifier, unique among the rules.
        sections: The numbered rules of optax's contract that it checks.
        summary: What must hold, in one sentence.
        why: What goes wrong where it does not hold.
        mend: How to repair an optimizer that breaks it.
        check: Called with a `Case`; raises when the rule is broken and
            `NotApplicable` when it says nothing about the case.
    """

    name: str
    sections: tuple[int, ...]
    summary: str
    why: str
    mend: str
    check: Callable[[Case], None]

    @property
    def topic(self) -> str:
        """What the rules of one module have in common."""
        module = sys.modules[self.check.__module__]
        return (module.__doc__ or "").partition("\n")[0]

    def run(self, case: Case) -> None:
        """Checks the case.

        Raises:
            AssertionError: The rule is broken; the message says what failed, the
                value and, where there is one, the path of the leaf. An exception
                of the optimizer itself is chained.
            NotApplicable: The rule says nothing about this case.
        """
        try:
            self.check(case)
        except NotApplicable:
            raise
        except AssertionError as error:
            # pytest adds to the asserts of a package with a plugin what it saw in
            # them; the message has said it all.
            text = " ".join(str(error).partition("\nassert ")[0].split())
            error.args = (text + _place(error.__cause__, case),)
            raise
        except Exception as error:
            text = str(error)
            if isinstance(error, jax.errors.ConcretizationTypeError):
                # What follows is about the program around it, another in each rule.
                text = text.partition("\n")[0]
            text = " ".join(text.split())[:400]
            msg = f"{case.name} raised {type(error).__name__}: {text}"
            raise AssertionError(msg + _place(error, case)) from error


def _place(error: BaseException | None, case: Case) -> str:
    """The innermost line of the optimizer's own file that an exception went through."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(case.function))
    except TypeError:  # an object that is called
        return ""
    frames = traceback.extract_tb(None if error is None else error.__traceback__)
    for frame in reversed(frames):
        if file and frame.filename == file:
            return f" ({Path(file).name}, line {frame.lineno})"
    return ""


def rule(check: Callable[[Case], None], sections: tuple[int, ...], mend: str) -> Rule:
    """Returns the rule of a check whose docstring has a summary and, below, a why."""
    summary, _, why = inspect.cleandoc(check.__doc__ or "").partition("\n\n")
    return Rule(check.__name__, sections, summary, " ".join(why.split()), mend, check)
