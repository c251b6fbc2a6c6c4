"""The report of a check: one result per rule, and failures grouped by cause."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "exempt", "skipped"]

_SAME_REASON = (
    "Fix this first, since all these rules fail for the same reason; then check again."
)


@dataclass(frozen=True)
class Result:
    """The outcome of one rule.

    Attributes:
        rule: The rule's name.
        outcome: `passed`, `failed`, `exempt` (broken, with an exemption) or `skipped`
            (the rule does not apply to this optimizer or machine).
        reason: Why the rule failed, was exempt or was skipped; empty if it passed.
        fix: How to fix a failure; empty otherwise.
    """

    rule: str
    outcome: Outcome
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Report:
    """The outcomes of all rules for one optimizer.

    Attributes:
        name: The factory and its arguments.
        results: One result per rule, in the order of the rules.
    """

    name: str
    results: tuple[Result, ...]

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results that failed."""
        return tuple(result for result in self.results if result.outcome == "failed")

    @property
    def summary(self) -> str:
        """The name and the number of rules with each outcome, in one line."""
        outcomes = [result.outcome for result in self.results]
        counts = [
            f"{outcomes.count(outcome)} {outcome}"
            for outcome in ("passed", "failed", "exempt", "skipped")
            if outcome in outcomes
        ]
        return f"{self.name}: {', '.join(counts)}"

    def __str__(self) -> str:
        """Returns the summary, then each failure with its reason and fix."""
        lines = [self.summary]
        for rules, reason, fix in self.causes:
            if len(rules) == 1:
                lines.append(f"  {rules[0]}: {reason}")
            else:
                lines.append(f"  {len(rules)} rules: {reason}")
                lines.append(f"    rules: {', '.join(rules)}")
            lines.append(f"    fix: {fix}")
        return "\n".join(lines)

    @property
    def causes(self) -> tuple[tuple[tuple[str, ...], str, str], ...]:
        """The failures as (rules, reason, fix) by reason, most rules first."""
        alike: dict[str, list[Result]] = {}
        for result in self.failures:
            alike.setdefault(result.reason, []).append(result)
        causes = []
        for reason, results in alike.items():
            fixes = dict.fromkeys(result.fix for result in results)
            fix = " ".join(fixes) if len(fixes) <= 2 else _SAME_REASON
            causes.append((tuple(result.rule for result in results), reason, fix))
        return tuple(sorted(causes, key=lambda cause: -len(cause[0])))
