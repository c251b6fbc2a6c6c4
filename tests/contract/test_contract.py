"""Every rule, on every public optimizer."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import optimizers
from optimizers.testing import Case, NotApplicable, Rule, _compare, conformance_rules

RULES = conformance_rules()


def test_rule(
    case: Case,
    rule: Rule,
    exemptions: dict[str, dict[str, str]],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The rules allow for methods that amplify rounding errors; ours agree to 1e-5. This
    # is the error of 1 - b2 if b2 = 0.999 is injected, and hence rounded to float32.
    strict = functools.partial(_compare.assert_close, rtol=1e-5)
    monkeypatch.setattr(_compare, "assert_agree", strict)
    reason = exemptions.get(case.name, {}).get(rule.name)
    if reason is not None:
        mark = pytest.mark.xfail(reason=reason, raises=AssertionError, strict=True)
        request.applymarker(mark)
    try:
        rule.run(case)
    except NotApplicable as why:
        pytest.skip(str(why))


# Two rules of this library beyond optax's contract; optax's own Adam breaks both.


def test_second_moments_of_complex_leaves_are_real(alias: Case) -> None:
    params = {"w": jnp.ones(3, jnp.complex64)}
    state = jax.eval_shape(alias.tx.init, params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if any(getattr(key, "name", "").startswith("nu") for key in path):
            where = jax.tree_util.keystr(path)
            assert not jnp.iscomplexobj(leaf), f"state{where} is {leaf.dtype}"


def test_zero_gradients_are_safe_without_eps(alias: Case) -> None:
    if "eps" not in alias.parameters:
        pytest.skip("no eps")
    tx, zeros = alias.make(eps=0.0), jax.tree.map(jnp.zeros_like, alias.params)
    extras = {"value": jnp.zeros([]), "grad": zeros}
    updates, _ = tx.update(zeros, tx.init(alias.params), alias.params, **extras)
    for leaf in jax.tree.leaves(updates):
        assert jnp.all(jnp.isfinite(leaf))


def test_tables_name_what_exists(
    cases: list[Case],
    exemptions: dict[str, dict[str, str]],
    variants: dict[str, Any],
) -> None:
    public, rules = set(optimizers.__all__), {rule.name for rule in RULES}
    assert variants.keys() <= public
    assert exemptions.keys() <= {case.name for case in cases}
    for names in exemptions.values():
        assert names.keys() <= rules
