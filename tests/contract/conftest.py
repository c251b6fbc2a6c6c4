"""The optimizers under the contract: everything public, and some of its variants."""

from typing import Any

import pytest

import optimizers
from optimizers import catalog
from optimizers.catalog import Kind
from optimizers.testing import Case, Rule, conformance_rules

# Arguments of further cases, where one argument chooses another method.
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "adam": ({"nesterov": True}, {"mu_dtype": "bfloat16"}, {"nu_dtype": "bfloat16"}),
    "adamax": ({"variant": "keras"},),
    "amsgrad": ({"variant": "torch"}, {"variant": "paper"}),
    "ademamix": ({"warmup_steps": 4},),
    "lookahead": ({"sync_period": 1}, {"sync_period": 2, "inner_state": "reset"}),
    "optimistic_amsgrad": ({"second_moment": "prediction_error"},),
}

# Rules that a case may break: case name -> rule name -> reason. An exemption that is
# no longer needed fails.
EXEMPTIONS: dict[str, dict[str, str]] = {}


def _make_cases() -> list[Case]:
    factories = catalog.functions(
        optimizers,
        Kind.OPTIMIZER,
        Kind.PRIMITIVE,
        Kind.WRAPPER,
        Kind.GRADIENT_TRANSFORMATION,
    )
    cases = []
    for name, factory in factories.items():
        variants = (catalog.required_arguments(factory), *VARIANTS.get(name, ()))
        cases.extend(Case(factory, kwargs) for kwargs in variants)
    return cases


# Made once: the rules share what a case has computed.
CASES = _make_cases()


def is_part(case: Case) -> bool:
    """Whether it is a part of another public function, and runs wherever that does."""
    return catalog.part_of(case.base_name, optimizers.__all__) is not None


def _rules(case: Case) -> list[Rule]:
    """Returns all rules; for a part of another function those on calls."""
    rules = list(conformance_rules())
    if is_part(case):
        on_calls = ("grammar", "interface")
        rules = [rule for rule in rules if rule.check.__module__.endswith(on_calls)]
    return rules


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test for every case, or for one `alias` each, which costs less."""
    if {"case", "rule"} <= set(metafunc.fixturenames):
        pairs = [
            pytest.param(case, rule, id=f"{case.name}-{rule.name}")
            for case in CASES
            for rule in _rules(case)
        ]
        metafunc.parametrize(("case", "rule"), pairs)
        return
    aliases = [case for case in CASES if case.descends and not case.kwargs]
    for name, values in (("case", CASES), ("alias", aliases)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values, ids=[case.name for case in values])


@pytest.fixture(scope="session")
def cases() -> list[Case]:
    return CASES


@pytest.fixture(scope="session")
def wholes() -> list[Case]:
    """One case of everything but parts, which shard as the function around them."""
    first = {case.base_name: case for case in reversed(CASES) if not is_part(case)}
    return list(first.values())


@pytest.fixture(scope="session")
def exemptions() -> dict[str, dict[str, str]]:
    return EXEMPTIONS


@pytest.fixture(scope="session")
def variants() -> dict[str, Any]:
    return VARIANTS
