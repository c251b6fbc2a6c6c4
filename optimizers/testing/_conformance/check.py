"""Checks an optimizer against the rules."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from optimizers.testing import _factory
from optimizers.testing._conformance.case import Case
from optimizers.testing._conformance.report import Report, Result
from optimizers.testing._conformance.rule import (
    SEVERITIES,
    NotApplicable,
    Rule,
    Severity,
    describe,
)
from optimizers.testing._conformance.rules import ALL
from optimizers.testing._inputs import ExtraArgs
from optimizers.testing._jit import equal_programs_compile_once


def conformance_rules(severity: Severity | None = None) -> tuple[Rule, ...]:
    """Returns the rules, for `check` or `pytest.mark.parametrize`.

    Args:
        severity: Return only the rules of this severity: "promise", "numerics" or
            "polish", as explained in `Rule`. All rules if None.

    Returns:
        The rules, neighbors by topic.

    Raises:
        ValueError: There is no such severity.
    """
    if severity is None:
        return ALL
    if severity not in SEVERITIES:
        msg = (
            f"conformance_rules: severity must be one of {', '.join(SEVERITIES)}, got "
            f"{severity!r}."
        )
        raise ValueError(msg)
    return tuple(rule for rule in ALL if rule.severity == severity)


def check(
    factory: Callable[..., Any],
    *,
    exemptions: Mapping[str, str] | None = None,
    rules: Iterable[Rule] | None = None,
    baseline: Callable[..., Any] | None = None,
    extra_args: ExtraArgs | None = None,
    **kwargs: Any,
) -> Report:
    """Checks an optimizer against the rules of optax's contract.

    Args:
        factory: Makes the transformation. The signature decides whether it is called
            as `factory(learning_rate, **kwargs)`, as a wrapper
            `factory(optimizer, **kwargs)` or as a gradient transformation
            `factory(**kwargs)`.
        exemptions: Rules that may fail, as a dict from their names to your reasons. An
            exemption from a rule that holds is itself a failure.
        rules: The rules to check, such as `conformance_rules("promise")`; all if None.
        baseline: Another factory, such as `optax.adam`. A rule that it breaks too,
            even if for another reason, is not a failure but `shared`.
        extra_args: Function of the gradients and params of an update that returns, as
            a dict, extra arguments that only this optimizer needs; those of optax and
            of this library are always passed. It must accept any tree: bare arrays,
            empty trees and trees with `optax.MaskedNode`.
        **kwargs: Keyword arguments of every call of the factory.

    Returns:
        A report with one result per rule. If the factory raises or does not return a
        transformation, the only result is that of `returns_transformation`. Exceptions
        of the optimizer are reported, not raised.

    Raises:
        TypeError: The factory has no argument of that name or needs another one, the
            learning rate is a schedule, `baseline` does not return a transformation,
            `extra_args` does not return a dict, `rules` holds something else, or
            `exemptions` is no dict.
        ValueError: An exemption does not name a rule, or has no reason.
    """
    chosen = ALL if rules is None else tuple(rules)
    if wrong := [rule for rule in chosen if not isinstance(rule, Rule)]:
        msg = (
            f"rules must be rules, such as conformance_rules('promise'), got "
            f"{wrong[0]!r}. For some of them: "
            "[rule for rule in conformance_rules() if rule.name == ...]."
        )
        raise TypeError(msg)
    if not isinstance(exemptions or {}, Mapping):
        msg = (
            "exemptions must be a dict from names of rules to your reasons, got a "
            f"{type(exemptions).__name__}."
        )
        raise TypeError(msg)
    exemptions = dict(exemptions or {})
    if silent := [name for name, reason in exemptions.items() if not reason]:
        msg = f"exemptions[{silent[0]!r}] needs a reason, got an empty one."
        raise ValueError(msg)
    unknown = exemptions.keys() - {rule.name for rule in ALL}
    if unknown:
        msg = (
            f"exemptions has unknown rules: {sorted(unknown)}; see conformance_rules()."
        )
        raise ValueError(msg)
    case = Case(factory, kwargs, extra_args)
    other = None if baseline is None else _baseline(baseline)
    _factory.require_arguments(factory, kwargs, _OPTIONS)
    # A factory that raises is one failure, not one per rule.
    broken = _broken_factory(case)
    if broken is not None:
        return Report(case.name, (broken,))
    _require_usable(case)
    with equal_programs_compile_once():
        results = tuple(
            _result(rule, case, exemptions.get(rule.name), other) for rule in chosen
        )
    return Report(case.name, results, "" if other is None else other.name)


def assert_conforms(
    factory: Callable[..., Any],
    *,
    exemptions: Mapping[str, str] | None = None,
    rules: Iterable[Rule] | None = None,
    baseline: Callable[..., Any] | None = None,
    extra_args: ExtraArgs | None = None,
    **kwargs: Any,
) -> None:
    """Asserts that an optimizer follows all rules; arguments as for `check`.

    Raises:
        AssertionError: The optimizer breaks rules; the message lists each with the
            reason and a fix.
        TypeError: As for `check`.
        ValueError: As for `check`.
    """
    __tracebackhide__ = True  # pytest shows the message alone
    report = check(
        factory,
        exemptions=exemptions,
        rules=rules,
        baseline=baseline,
        extra_args=extra_args,
        **kwargs,
    )
    if report.failures:
        raise AssertionError(str(report))


def _require_usable(case: Case) -> None:
    """Raises on bad arguments, which would look like faults of the optimizer."""
    rate = case.given.get(case.learning_rate_name or "")
    if callable(rate):
        msg = (
            f"{case.learning_rate_name} is a schedule, expected a number; the rules "
            "try schedules themselves. To check one schedule, bind it with a lambda "
            "around the factory."
        )
        raise TypeError(msg)
    try:
        own = case.own_extras(case.stream[0], case.params)
    except Exception as error:
        msg = (
            "extra_args must be a function of gradients and params that returns a "
            f"dict, but {case.extra_args!r} raised {type(error).__name__}: {error}"
        )
        raise TypeError(msg) from error
    if not all(isinstance(name, str) for name in own):
        msg = f"extra_args must return a dict with names as keys, got {list(own)}."
        raise TypeError(msg)


def _baseline(factory: Callable[..., Any]) -> Case:
    case = Case(factory)
    broken = _broken_factory(case)
    if broken is not None:
        msg = (
            "baseline must be a function that returns a transformation, such as "
            f"optax.adam, but {broken.reason}."
        )
        raise TypeError(msg)
    return case


def _broken_factory(case: Case) -> Result | None:
    first = ALL[0]
    fix = first.fix
    if not callable(case.factory):
        reason = (
            f"{case.name} is not a factory; pass a function that returns a "
            "transformation, such as optax.adam"
        )
        fix = "Pass the function itself, and its arguments by keyword."
        return Result(first.name, first.severity, "failed", reason, fix)
    try:
        tx = case.build()
    except (Exception, SystemExit) as error:
        reason = describe(error, case)
        fix = "Make this call of the factory work first; then check again."
    else:
        if all(callable(getattr(tx, name, None)) for name in ("init", "update")):
            return None
        kind = type(tx).__name__
        reason = (
            f"{case.name} returned a {kind}, which has no functions init and update"
        )
    return Result(first.name, first.severity, "failed", reason, fix)


def _result(
    rule: Rule, case: Case, exemption: str | None, baseline: Case | None
) -> Result:
    reason = ""
    try:
        rule.run(case)
    except NotApplicable as why:
        return Result(rule.name, rule.severity, "skipped", str(why))
    except AssertionError as error:
        reason = str(error)
    if exemption is None:
        if not reason:
            return Result(rule.name, rule.severity, "passed")
        shared = baseline is not None and _breaks(baseline, rule)
        outcome = "shared" if shared else "failed"
        return Result(rule.name, rule.severity, outcome, reason, rule.fix)
    if reason:
        return Result(rule.name, rule.severity, "exempt", exemption)
    reason = f"the exemption is no longer needed: {exemption}"
    return Result(rule.name, rule.severity, "failed", reason, "Remove the exemption.")


def _breaks(case: Case, rule: Rule) -> bool:
    try:
        rule.run(case)
    except NotApplicable:
        return False
    except AssertionError:
        return True
    return False


_OPTIONS = [
    name
    for name, parameter in inspect.signature(check).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
]
