"""Runs the rules on a factory and reports."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optimizers.testing._case import Case, ExtraArgs
from optimizers.testing._jit import equal_programs_compile_once
from optimizers.testing._rule import NotApplicable, Rule, describe
from optimizers.testing._rules import ALL

Outcome = Literal["passed", "failed", "exempt", "skipped"]

_ONE_CAUSE = "One cause stops all of these rules; mend it first, then check again."


@dataclass(frozen=True)
class Result:
    """What one rule said.

    Attributes:
        rule: The rule's name.
        outcome: `passed`, `failed`, `exempt` (broken, with an exemption) or `skipped`
            (the rule says nothing about this optimizer or machine).
        reason: Why it failed, was exempt or was skipped; empty when it passed.
        mend: How to repair a failure; empty otherwise.
    """

    rule: str
    outcome: Outcome
    reason: str = ""
    mend: str = ""


@dataclass(frozen=True)
class Report:
    """What all rules said about one optimizer.

    Attributes:
        name: The factory and its arguments.
        results: One per rule, in the order of the rules.
    """

    name: str
    results: tuple[Result, ...]

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results that failed."""
        return tuple(result for result in self.results if result.outcome == "failed")

    def __str__(self) -> str:
        """Returns one line of counts, then each failure with how to mend it."""
        counts = []
        for outcome in ("passed", "failed", "exempt", "skipped"):
            number = sum(result.outcome == outcome for result in self.results)
            if number:
                counts.append(f"{number} {outcome}")
        lines = [f"{self.name}: {', '.join(counts)}"]
        for rules, reason, mend in self.causes:
            if len(rules) == 1:
                lines.append(f"  {rules[0]}: {reason}")
            else:
                lines.append(f"  {len(rules)} rules: {reason}")
                lines.append(f"    rules: {', '.join(rules)}")
            lines.append(f"    mend: {mend}")
        return "\n".join(lines)

    @property
    def causes(self) -> tuple[tuple[tuple[str, ...], str, str], ...]:
        """The failures as rules, reason and mend; those with one reason are one."""
        alike: dict[str, list[Result]] = {}
        for result in self.failures:
            alike.setdefault(result.reason, []).append(result)
        causes = []
        for reason, results in alike.items():
            mends = dict.fromkeys(result.mend for result in results)
            mend = " ".join(mends) if len(mends) <= 2 else _ONE_CAUSE
            causes.append((tuple(result.rule for result in results), reason, mend))
        return tuple(causes)


def conformance_rules() -> tuple[Rule, ...]:
    """Returns every rule, for `pytest.mark.parametrize`."""
    return ALL


def check(
    factory: Callable[..., Any],
    *,
    exemptions: Mapping[str, str] | None = None,
    rules: Iterable[Rule] | None = None,
    extra_args: ExtraArgs | None = None,
    **kwargs: Any,
) -> Report:
    """Runs the rules on an optimizer.

    Args:
        factory: Makes the transformation: `factory(learning_rate, **kwargs)`, a
            primitive `factory(**kwargs)` or a wrapper `factory(optimizer, **kwargs)`.
            The signature tells which.
        exemptions: Reasons by rule name for rules that may be broken. An exemption
            from a rule that is not broken fails.
        rules: The rules to run; all of them when None.
        extra_args: Makes the extra arguments of an update that the rules do not know
            (they know those of optax and of this library), as a dict, from the
            gradients and params of that update. It is called with any trees: bare
            arrays, empty trees, such as hold `optax.MaskedNode`.
        **kwargs: Keyword arguments of every call of the factory.

    Returns:
        One result per rule, or only that of `returns_transformation` when the factory
        cannot be called with these arguments or makes no transformation.
        No exception of the optimizer escapes.

    Raises:
        TypeError: The learning rate is a schedule, or `extra_args` makes no dict.
        ValueError: An exemption names no rule.
    """
    exemptions = dict(exemptions or {})
    unknown = exemptions.keys() - {rule.name for rule in ALL}
    if unknown:
        msg = f"exemptions name no rule: {sorted(unknown)}; see conformance_rules()."
        raise ValueError(msg)
    case = Case(factory, kwargs, extra_args)
    # A factory that cannot be called is one failure, not one per rule.
    broken = _broken_factory(case)
    if broken is not None:
        return Report(case.name, (broken,))
    _require_usable(case)
    chosen = ALL if rules is None else tuple(rules)
    with equal_programs_compile_once():
        results = tuple(
            _result(rule, case, exemptions.get(rule.name)) for rule in chosen
        )
    return Report(case.name, results)


def assert_conforms(
    factory: Callable[..., Any],
    *,
    exemptions: Mapping[str, str] | None = None,
    rules: Iterable[Rule] | None = None,
    extra_args: ExtraArgs | None = None,
    **kwargs: Any,
) -> None:
    """Asserts that an optimizer breaks no rule; arguments as for `check`.

    Raises:
        AssertionError: Rules are broken; the message lists each with its reason and
            how to mend it.
        TypeError: As for `check`.
        ValueError: As for `check`.
    """
    __tracebackhide__ = True  # pytest shows the message alone
    report = check(
        factory,
        exemptions=exemptions,
        rules=rules,
        extra_args=extra_args,
        **kwargs,
    )
    if report.failures:
        raise AssertionError(str(report))


def _require_usable(case: Case) -> None:
    """Refuses what would be taken for faults of the optimizer."""
    rate = case.given.get(case.rate_name or "")
    if callable(rate):
        msg = (
            f"{case.rate_name} is a schedule: give a number, the rules try schedules "
            "by themselves; or bind it with a lambda around the factory."
        )
        raise TypeError(msg)
    try:
        own = case.own_extras(case.stream[0], case.params)
    except Exception as error:
        msg = (
            "extra_args must be a function of gradients and params that returns a "
            f"dict; {case.extra_args!r} raised {type(error).__name__}: {error}"
        )
        raise TypeError(msg) from error
    if not all(isinstance(name, str) for name in own):
        msg = f"extra_args must give arguments by name, got {list(own)}."
        raise TypeError(msg)


def _broken_factory(case: Case) -> Result | None:
    first = ALL[0]
    if not callable(case.factory):
        reason = f"{case.name} is no factory: give what makes it, such as optax.adam"
        return Result(first.name, "failed", reason, first.mend)
    try:
        tx = case.build()
    except (Exception, SystemExit) as error:
        reason = describe(error, case)
    else:
        if all(callable(getattr(tx, name, None)) for name in ("init", "update")):
            return None
        kind = type(tx).__name__
        reason = f"{case.name} returned a {kind}, which has no init and update"
    return Result(first.name, "failed", reason, first.mend)


def _result(rule: Rule, case: Case, exemption: str | None) -> Result:
    try:
        rule.run(case)
    except NotApplicable as why:
        return Result(rule.name, "skipped", str(why))
    except AssertionError as error:
        if exemption is not None:
            return Result(rule.name, "exempt", exemption)
        return Result(rule.name, "failed", str(error), rule.mend)
    if exemption is not None:
        reason = f"the exemption is no longer needed: {exemption}"
        return Result(rule.name, "failed", reason, "Remove the exemption.")
    return Result(rule.name, "passed")
