"""A rule: one named, documented check on an optimizer."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass

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
            error.args = (str(error).partition("\nassert ")[0],)
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:400]
            msg = f"{case.name} raised {type(error).__name__}: {text}"
            raise AssertionError(msg) from error


def rule(check: Callable[[Case], None], sections: tuple[int, ...], mend: str) -> Rule:
    """Returns the rule of a check whose docstring has a summary and, below, a why."""
    summary, _, why = inspect.cleandoc(check.__doc__ or "").partition("\n\n")
    return Rule(check.__name__, sections, summary, " ".join(why.split()), mend, check)
