"""A rule: one named, documented check on an optimizer."""

import contextlib
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax

from optimizers.testing._case import Case

_HERE = Path(__file__).parent


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
            text = str(error).partition("\nassert ")[0]
            hidden = error.__suppress_context__
            cause = error.__cause__ or (None if hidden else error.__context__)
            error.args = (_shorten(text) + _place(cause, case),)
            raise
        except (Exception, SystemExit) as error:
            raise AssertionError(describe(error, case)) from error


def describe(error: BaseException, case: Case) -> str:
    """Says what the optimizer raised, and where in its own files."""
    text = str(error)
    if isinstance(error, jax.errors.ConcretizationTypeError):
        # What follows is about the program around it, another in each rule.
        text = text.partition("\n")[0]
    what = f"{case.name} raised {type(error).__name__}: {_shorten(text)}"
    return what + _place(error, case)


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 500 else f"{text[:500]} …"


def _place(error: BaseException | None, case: Case) -> str:
    """The innermost line of the optimizer's own files that an error went through."""
    folder = None
    for source in (type(case.function), case.function):  # an object may be called, too
        with contextlib.suppress(TypeError, OSError):
            folder = Path(inspect.getsourcefile(source) or "").parent
    if folder is None:
        return ""
    frames = traceback.extract_tb(None if error is None else error.__traceback__)
    for frame in reversed(frames):
        path = Path(frame.filename)
        if not path.is_relative_to(folder) or path.is_relative_to(_HERE):
            continue
        # An environment below or around is full of others' files.
        others = "site-packages" in (folder.name, *path.relative_to(folder).parts)
        if path.parent == folder or not others:
            return f" ({path.name}, line {frame.lineno})"
    return ""


def rule(check: Callable[[Case], None], sections: tuple[int, ...], mend: str) -> Rule:
    """Returns the rule of a check whose docstring has a summary and, below, a why."""
    summary, _, why = inspect.cleandoc(check.__doc__ or "").partition("\n\n")
    return Rule(check.__name__, sections, summary, " ".join(why.split()), mend, check)
