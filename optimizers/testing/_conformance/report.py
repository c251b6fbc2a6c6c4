"""The report of a check: one result per rule, and failures grouped by cause."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from optimizers.testing._conformance.rule import SEVERITIES, Severity

Outcome = Literal["passed", "failed", "shared", "exempt", "skipped"]

_TITLES: dict[Severity, str] = {
    "promise": "promises of optax and JAX",
    "numerics": "numerics that can lose a training run",
    "polish": "polish",
}
_SAME_REASON = (
    "Fix this first, since all these rules fail for the same reason; then check again."
)
# An optimizer that breaks one of these breaks many others by it.
_FIRST = ("is_pure", "trajectory_is_finite")


@dataclass(frozen=True)
class Result:
    """The outcome of one rule.

    Attributes:
        rule: The rule's name.
        severity: The rule's severity.
        outcome: `passed`, `failed`, `shared` (broken, but by the baseline too),
            `exempt` (broken, with an exemption) or `skipped` (the rule does not apply
            to this optimizer or machine).
        reason: Why the rule failed, was exempt or was skipped; empty if it passed.
        fix: How to fix a failure; empty otherwise.
    """

    rule: str
    severity: Severity
    outcome: Outcome
    reason: str = ""
    fix: str = ""


class Cause(NamedTuple):
    """Failures with the same reason.

    Attributes:
        severity: The highest severity of the rules.
        rules: The names of the rules.
        reason: Why they failed.
        fix: How to fix them.
    """

    severity: Severity
    rules: tuple[str, ...]
    reason: str
    fix: str


@dataclass(frozen=True)
class Report:
    """The outcomes of all rules for one optimizer.

    Attributes:
        name: The factory and its arguments.
        results: One result per rule, in the order of the rules.
        baseline: The name of the baseline; empty if there is none.
    """

    name: str
    results: tuple[Result, ...]
    baseline: str = ""

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results that failed."""
        return self._with("failed")

    def _with(self, outcome: Outcome) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.outcome == outcome)

    @property
    def summary(self) -> str:
        """The name and the number of rules with each outcome, in one line."""
        words = {
            "passed": "passed",
            "failed": "failed",
            "shared": f"failed as in {self.baseline}",
            "exempt": "exempt",
            "skipped": "skipped",
        }
        outcomes = [result.outcome for result in self.results]
        counts = [
            f"{outcomes.count(outcome)} {text}"
            for outcome, text in words.items()
            if outcome in outcomes
        ]
        return f"{self.name}: {', '.join(counts)}"

    def __str__(self) -> str:
        """Returns the summary, then the failures by severity with reason and fix.

        If one failure explains most others, such as `is_pure`, only this one.
        """
        lines = [self.summary]
        for title, causes in self.sections():
            lines.append(f"{title}:")
            for cause in causes:
                rules = ", ".join(cause.rules)
                if len(cause.rules) == 1:
                    lines.append(f"  {rules}: {cause.reason}")
                else:
                    lines.append(f"  {len(cause.rules)} rules: {cause.reason}")
                    lines.append(f"    rules: {rules}")
                lines.append(f"    fix: {cause.fix}")
        return "\n".join([*lines, *self.notes()])

    def sections(
        self, *, everything: bool = False
    ) -> list[tuple[str, Sequence[Cause]]]:
        """Returns the failures to be read, under titles.

        Args:
            everything: Whether to return all causes, even if one explains most others.
        """
        if self.first_cause and not everything:
            return [("fix this first", (self.first_cause,))]
        sections = []
        for severity in SEVERITIES:
            causes = [cause for cause in self.causes if cause.severity == severity]
            if causes:
                count = sum(len(cause.rules) for cause in causes)
                rules = "1 rule" if count == 1 else f"{count} rules"
                sections.append((f"{_TITLES[severity]}, {rules}", causes))
        return sections

    def notes(self, *, everything: bool = False) -> list[str]:
        """Returns, in sentences, what `sections` leaves out."""
        notes = []
        others = len(self.failures) - 1
        if self.first_cause and others and not everything:
            rules = "1 more rule" if others == 1 else f"{others} more rules"
            notes.append(
                f"{rules} failed, probably for this reason: check again after the fix."
            )
        shared = [result.rule for result in self._with("shared")]
        if shared:
            notes.append(f"{self.baseline} also breaks {', '.join(shared)}.")
        return notes

    @property
    def first_cause(self) -> Cause | None:
        """The failure to fix first, since most others follow from it; None if none."""
        for name in _FIRST:
            for cause in self.causes:
                # Together with other rules, the failure has a cause of its own.
                if cause.rules == (name,):
                    return cause
        return None

    @property
    def causes(self) -> tuple[Cause, ...]:
        """The failures by reason; the highest severity first, then most rules."""
        alike: dict[str, list[Result]] = {}
        for result in self.failures:
            alike.setdefault(result.reason, []).append(result)
        causes = []
        for reason, results in alike.items():
            fixes = dict.fromkeys(result.fix for result in results)
            fix = " ".join(fixes) if len(fixes) <= 2 else _SAME_REASON
            ranks = [SEVERITIES.index(result.severity) for result in results]
            severity = SEVERITIES[min(ranks)]
            rules = tuple(result.rule for result in results)
            causes.append(Cause(severity, rules, reason, fix))

        def order(cause: Cause) -> tuple[int, int]:
            return SEVERITIES.index(cause.severity), -len(cause.rules)

        return tuple(sorted(causes, key=order))
