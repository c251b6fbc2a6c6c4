"""The optimizers under the contract: everything public, and some of its variants."""

import inspect
from typing import Any

import pytest

import optimizers
from optimizers.testing import Case, Rule, conformance_rules

# Public functions that make no transformation, with what they are instead.
NOT_FACTORIES: dict[str, str] = {
    "ademamix_alpha_schedule": "a schedule",
    "ademamix_b3_schedule": "a schedule",
    "distance_estimates": "reads a state",
    "gsam_rho_schedule": "a schedule",
    "last_gradient_predictor": "a predictor",
    "lookahead_params": "reads a state",
    "rmpe_predictor": "a predictor",
    "sam_value_and_grad": "a function from a loss",
    "zero_predictor": "a predictor",
}

# Arguments of the one case of a factory that cannot be called without.
REQUIRED: dict[str, dict[str, Any]] = {
    "adaptive_grad_clip": {"clipping": 0.1},
    "bloop": {"aux_weight": 0.1},
    "clip_by_global_norm": {"max_norm": 1.0},
    "dynamic_barrier": {"aux_weight": 0.1},
    "mixed_gradients": {"aux_weight": 0.1},
    "pcgrad": {"aux_weight": 0.1},
    "width_scaled_learning_rate": {"labels": "hidden", "width_ratio": 4.0},
}

# Arguments of further cases, where one argument chooses another method.
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "adam": ({"nesterov": True}, {"mu_dtype": "bfloat16"}, {"nu_dtype": "bfloat16"}),
    "amsgrad": ({"variant": "torch"}, {"variant": "paper"}),
    "ademamix": ({"warmup_steps": 4},),
    "lookahead": ({"sync_period": 1}, {"sync_period": 2, "inner_state": "reset"}),
    "optimistic_amsgrad": ({"second_moment": "prediction_error"},),
}

# Links of an alias; those that are called scale_by_ and its name need no entry.
PARTS = (
    "friendly_sam_gradient",
    "gsam_gradient",
    "imbsam_gradient",
    "looksam_gradient",
)

# Rules that a case may break: case name -> rule name -> reason. An exemption that is
# no longer needed fails.
EXEMPTIONS: dict[str, dict[str, str]] = {}


def public_factories() -> list[str]:
    """Returns the public functions that make transformations."""
    functions = [
        name
        for name in optimizers.__all__
        if inspect.isfunction(getattr(optimizers, name))
    ]
    return [name for name in functions if name not in NOT_FACTORIES]


def _make_cases() -> list[Case]:
    cases = []
    for name in public_factories():
        factory = getattr(optimizers, name)
        variants = (REQUIRED.get(name, {}), *VARIANTS.get(name, ()))
        cases.extend(Case(factory, kwargs) for kwargs in variants)
    return cases


# Made once: the rules share what a case has computed.
CASES = _make_cases()


def is_part(case: Case) -> bool:
    """Whether it is a link of a public alias, and so runs wherever the alias does."""
    aliases = {other.base_name for other in CASES}
    return case.base_name in PARTS or (
        case.base_name.removeprefix("scale_by_") in aliases - {case.base_name}
    )


def _rules(case: Case) -> list[Rule]:
    """Returns all rules; for the links of an alias those on how they are called."""
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
    """One case of everything but links, which shard as the alias around them."""
    first = {case.base_name: case for case in reversed(CASES) if not is_part(case)}
    return list(first.values())


@pytest.fixture(scope="session")
def exemptions() -> dict[str, dict[str, str]]:
    return EXEMPTIONS


@pytest.fixture(scope="session")
def tables() -> dict[str, Any]:
    return {"not_factories": NOT_FACTORIES, "variants": VARIANTS}
