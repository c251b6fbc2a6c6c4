"""Each assertion passes an optimizer with the property and fails one without it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import testing

WITHOUT_EPS = optimizers.adam(0.1, eps=0.0)
TINY_EPS = optax.adam(0.1, eps=1e-30)
ADAM = optax.adam(0.1)
LAMB = optax.lamb(0.1)
MUON = optax.contrib.muon(0.1)
COOLED = optax.inject_hyperparams(optax.sgd)(lambda count: 0.1 / (1.0 + count))


def by_leaf(transform: Any) -> optax.GradientTransformation:
    """Applies a function of a leaf's gradient."""
    return optax.stateless(lambda grads, _: jax.tree.map(transform, grads))


def test_adam_without_eps_is_scale_invariant() -> None:
    testing.assert_scale_invariant(WITHOUT_EPS)
    testing.assert_scale_invariant(optimizers.adam_atan2(0.1))


def test_an_eps_of_1e_30_breaks_scale_invariance() -> None:
    testing.assert_scale_invariant(TINY_EPS, powers=[-20, 20])
    with pytest.raises(AssertionError) as error:
        testing.assert_scale_invariant(TINY_EPS)
    headline, first, *_, hint = str(error.value).splitlines()
    assert headline == "not scale invariant: with gradients times 2**-100"
    assert first.startswith("  step 1: updates['bias'][")
    assert "eps" in hint


def test_rounding_errors_fail_by_default() -> None:
    """A cube root is invariant in theory and not under rounding."""
    rounding = by_leaf(lambda g: g / jnp.cbrt(jnp.abs(g) ** 3 * 3 + 1e-300))
    with pytest.raises(AssertionError, match=r"relative error \d(\.\d)?e-1[56]"):
        testing.assert_scale_invariant(rounding, powers=range(-5, 5))
    testing.assert_scale_invariant(rounding, powers=range(-5, 5), rtol=1e-14)


def test_scale_invariance_in_32_bits() -> None:
    single = jax.tree.map(
        lambda x: np.asarray(x, np.float32), testing.random_sequence(5)
    )
    testing.assert_scale_invariant(WITHOUT_EPS, powers=[-20, 20], sequence=single)
    with pytest.raises(AssertionError, match=r"2\*\*-100"):
        testing.assert_scale_invariant(WITHOUT_EPS, powers=[-100], sequence=single)


def test_decay_and_trust_ratios_break_translation_invariance() -> None:
    testing.assert_translation_invariant(ADAM)
    testing.assert_translation_invariant(optax.adamw(0.1, weight_decay=0.0))
    with pytest.raises(AssertionError, match=r"moved by 8\n  step 1: updates"):
        testing.assert_translation_invariant(optax.adamw(0.1, weight_decay=1e-6))
    with pytest.raises(AssertionError, match="not translation invariant"):
        testing.assert_translation_invariant(LAMB)


def test_methods_that_store_the_start_are_translation_invariant() -> None:
    testing.assert_translation_invariant(optimizers.prodigy(d0=0.1))


def test_norms_are_permutation_equivariant_but_muon_is_not() -> None:
    testing.assert_permutation_equivariant(ADAM)
    testing.assert_permutation_equivariant(LAMB)
    # Vectors and scalars go to Adam: only the matrix is orthogonalized.
    with pytest.raises(
        AssertionError, match=r"step 1: updates\['layers'\]\[0\]\["
    ) as e:
        testing.assert_permutation_equivariant(MUON)
    assert "['bias']" not in str(e.value)


def test_sequences_of_numbers_and_jax_arrays() -> None:
    gradients = [jnp.array([1.0, -3.0]), jnp.array([4.0, 0.0])]
    sequence = testing.Sequence([1.0, 2.0], gradients)
    for assertion in (
        testing.assert_permutation_equivariant,
        testing.assert_elementwise,
        testing.assert_translation_invariant,
    ):
        assertion(ADAM, sequence=sequence, rtol=1e-6)


def test_a_dependence_on_the_order_of_leaves_fails() -> None:
    def first_is_faster(grads: Any, _: Any) -> Any:
        leaves, structure = jax.tree.flatten(grads)
        return structure.unflatten([leaves[0] * 2, *leaves[1:]])

    with pytest.raises(AssertionError, match=r"'bias'\](.*\n)*.*'scale'\]"):
        testing.assert_permutation_equivariant(optax.stateless(first_is_faster))


@pytest.mark.parametrize("tx", [ADAM, optax.adamw(0.1), optimizers.adamax(0.1)])
def test_elementwise_methods_pass(tx: Any) -> None:
    testing.assert_elementwise(tx)


@pytest.mark.parametrize(
    "tx",
    [
        LAMB,
        MUON,
        optimizers.dadapt_adam(),
        optimizers.prodigy(),
        optimizers.adam_cm(0.1),
        optax.chain(optax.clip_by_global_norm(1.0), optax.scale(-0.1)),
        by_leaf(lambda g: g - jnp.mean(g)),
    ],
    ids=["lamb", "muon", "dadapt_adam", "prodigy", "adam_cm", "clip", "centered"],
)
def test_sums_over_entries_are_not_elementwise(tx: Any) -> None:
    with pytest.raises(AssertionError, match="when other entries get other gradients"):
        testing.assert_elementwise(tx)


def test_a_dependence_on_shapes_is_not_elementwise() -> None:
    with pytest.raises(AssertionError, match="with all leaves in one vector"):
        testing.assert_elementwise(by_leaf(lambda g: g / g.size))


def test_optimizers_descend() -> None:
    testing.assert_descends(optax.sgd(0.1))
    testing.assert_descends(ADAM)
    testing.assert_descends(optimizers.prodigy())


def test_primitives_point_uphill() -> None:
    with pytest.raises(AssertionError, match="100 updates point uphill"):
        testing.assert_descends(optax.scale_by_adam())


def test_a_learning_rate_of_zero_does_not_descend() -> None:
    with pytest.raises(AssertionError, match=r"went from 8.17\d+ to 8.17") as error:
        testing.assert_descends(optax.sgd(0.0))
    assert "uphill" not in str(error.value)


def test_an_infinite_loss_is_reported_with_its_step() -> None:
    with pytest.raises(AssertionError, match="the loss is inf after step"):
        testing.assert_descends(optax.sgd(1e6), steps=1000)
    with pytest.raises(AssertionError, match="the loss is nan after step 1"):
        testing.assert_descends(by_leaf(lambda g: g * jnp.nan))


def test_descent_on_a_custom_loss() -> None:
    start = {"x": np.array([-1.2, 1.0])}

    def rosenbrock(params: Any) -> jax.Array:
        x, y = params["x"]
        return (1 - x) ** 2 + 100 * (y - x**2) ** 2

    testing.assert_descends(optax.adam(0.02), rosenbrock, start, steps=300, ratio=0.2)
    with pytest.raises(ValueError, match="a loss needs a start"):
        testing.assert_descends(ADAM, rosenbrock)


def test_descent_supplies_extra_arguments() -> None:
    def update(grads: Any, state: Any, params: Any, **extra: Any) -> Any:
        names = {"value", "grad", "value_fn", "grad_fn", "aux_grads"}
        assert names == set(extra)
        ahead = extra["grad_fn"](params)
        return jax.tree.map(lambda g: -0.1 * g, ahead), state

    init = optax.identity().init
    testing.assert_descends(optax.GradientTransformationExtraArgs(init, update))


def test_nu_max_is_monotone_and_nu_is_not() -> None:
    testing.assert_monotone(optimizers.amsgrad(0.1), "nu_max")
    testing.assert_monotone(ADAM, "count")
    with pytest.raises(AssertionError) as error:
        testing.assert_monotone(optimizers.amsgrad(0.1), "nu")
    assert str(error.value).startswith("not increasing: nu['bias'][")
    assert "of state[0].nu went from" in str(error.value)


def test_fields_are_found_in_wrappers() -> None:
    wrapped = optax.chain(optax.clip(1.0), optax.masked(optimizers.amsgrad(0.1), True))
    testing.assert_monotone(wrapped, "nu_max")
    with pytest.raises(AssertionError, match=r"of state\[1\]\.inner_state\[0\]\.nu "):
        testing.assert_monotone(wrapped, "nu")


def test_all_fields_of_a_name_are_checked() -> None:
    warmed = optax.inject_hyperparams(optax.sgd)(lambda count: 0.1 * count)
    testing.assert_monotone(warmed, "learning_rate")
    testing.assert_monotone(COOLED, "learning_rate", "decreasing")
    with pytest.raises(AssertionError, match=r"of state\[1\]\.hyperparams\['lea"):
        testing.assert_monotone(optax.chain(warmed, COOLED), "learning_rate")


def test_both_directions() -> None:
    with pytest.raises(AssertionError, match=r"not decreasing: count .* from 0 to 1"):
        testing.assert_monotone(ADAM, "count", "decreasing")
    testing.assert_monotone(COOLED, "learning_rate", "decreasing")
    with pytest.raises(AssertionError, match="not increasing: learning_rate"):
        testing.assert_monotone(COOLED, "learning_rate")


def test_a_param_with_the_name_is_not_a_field() -> None:
    """The moments of a parameter `nu_max` are in dictionaries with its name."""
    sequence = testing.Sequence({"nu_max": 1.0}, {"nu_max": np.array([1.0, 0.0, 0.0])})
    testing.assert_monotone(optimizers.amsgrad(0.1), "nu_max", sequence=sequence)
    with pytest.raises(AssertionError, match=r"nu\['nu_max'\] of state\[0\]\.nu went"):
        testing.assert_monotone(optimizers.amsgrad(0.1), "nu", sequence=sequence)


def test_bad_arguments_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"no field 'nu_max'.*: count, mu, nu\."):
        testing.assert_monotone(ADAM, "nu_max")
    with pytest.raises(ValueError, match="or 'decreasing', got 'up'"):
        testing.assert_monotone(ADAM, "count", "up")  # pyright: ignore[reportArgumentType]
    bad = testing.Sequence([1.0], [np.ones(0)])
    for assertion in (
        testing.assert_scale_invariant,
        testing.assert_translation_invariant,
        testing.assert_permutation_equivariant,
        testing.assert_elementwise,
    ):
        with pytest.raises(ValueError, match="sequence: every leaf"):
            assertion(ADAM, sequence=bad)
