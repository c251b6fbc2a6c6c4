"""The catalogue tells the kind of any function and knows what each public one needs."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import optax
import optax.contrib
import pytest

import optimizers
from optimizers import catalog
from optimizers.catalog import Kind

TRANSFORMATIONS = (
    Kind.OPTIMIZER,
    Kind.PRIMITIVE,
    Kind.WRAPPER,
    Kind.GRADIENT_TRANSFORMATION,
)
OURS = {
    Kind.OPTIMIZER: ("adam", "adamw", "dadapt_sgd", "prodigy"),
    Kind.PRIMITIVE: ("scale_by_adam", "scale_by_prodigy"),
    Kind.WRAPPER: ("asam", "friendly_sam", "gsam", "imbsam", "lookahead", "looksam"),
    Kind.GRADIENT_TRANSFORMATION: (
        *("bloop", "cagrad", "clip_by_global_norm", "mgda", "sharpness_aware"),
        "width_scaled_learning_rate",
    ),
    Kind.SCHEDULE: (
        *("ademamix_alpha_schedule", "ademamix_b3_schedule", "gsam_rho_schedule"),
        *("epsilon_hat", "no_bias_correction"),
    ),
    Kind.OTHER: (
        *("distance_estimates", "lookahead_params", "rmpe_predictor"),
        *("sam_value_and_grad", "state_shardings", "zero_predictor", "Predictor"),
        "LookaheadState",
    ),
}
OPTAX = {
    Kind.OPTIMIZER: (
        *("adam", "adadelta", "lbfgs", "noisy_sgd", "polyak_sgd", "rprop", "sgd"),
        *("contrib.dog", "contrib.dpsgd", "contrib.muon", "contrib.schedule_free_sgd"),
    ),
    Kind.PRIMITIVE: (
        *("scale_by_adam", "scale_by_factored_rms", "scale_by_learning_rate"),
        *("scale_by_schedule", "contrib.scale_by_madgrad", "contrib.scale_by_muon"),
    ),
    Kind.WRAPPER: (
        *("MultiSteps", "apply_if_finite", "conditionally_mask", "flatten"),
        *("conditionally_transform", "lookahead", "masked", "selective_transform"),
        *("with_extra_args_support", "contrib.mechanize", "contrib.sam"),
        *("contrib.schedule_free", "contrib.split_real_and_imaginary"),
    ),
    Kind.GRADIENT_TRANSFORMATION: (
        *("adaptive_grad_clip", "add_decayed_weights", "apply_every", "centralize"),
        *("clip", "ema", "freeze", "identity", "scale", "stateless", "trace"),
        *("contrib.differentially_private_aggregate", "contrib.normalize"),
        *("contrib.hutchinson_estimator_diag_hessian", "contrib.reduce_on_plateau"),
    ),
    Kind.SCHEDULE: (
        *("constant_schedule", "cosine_decay_schedule", "exponential_decay"),
        *("join_schedules", "sgdr_schedule"),
    ),
    Kind.OTHER: (
        *("AddNoiseState", "MaskedNode", "OptState", "Schedule", "apply_updates"),
        *("chain", "named_chain", "partition", "inject_hyperparams", "l2_loss"),
        *("global_norm", "monitor", "nnls", "value_and_grad_from_state"),
    ),
}


def _pairs(table: dict[Kind, tuple[str, ...]]) -> list[Any]:
    return [
        pytest.param(name, expected, id=name)
        for expected, names in table.items()
        for name in names
    ]


@pytest.mark.parametrize(("name", "expected"), _pairs(OURS))
def test_kind_of_our_functions(name: str, expected: Kind) -> None:
    assert catalog.kind(getattr(optimizers, name)) is expected


@pytest.mark.parametrize(("name", "expected"), _pairs(OPTAX))
def test_kind_of_functions_of_optax(name: str, expected: Kind) -> None:
    module = optax.contrib if name.startswith("contrib.") else optax
    function = getattr(module, name.removeprefix("contrib."), None)
    if function is None:
        pytest.skip(f"optax {optax.__version__} does not have it")
    assert catalog.kind(function) is expected


def _annotated(learning_rate: float) -> optax.GradientTransformation:
    return optax.sgd(learning_rate)


def _in_quotes(learning_rate: float) -> "optax.GradientTransformation":
    return optax.sgd(learning_rate)


def _unknown_in_quotes(rho: "Missing") -> "Missing":  # noqa: F821
    return optax.scale(rho)


def _optional(rho: float) -> optax.GradientTransformation | None:
    return optax.scale(rho) if rho else None


def _of_any_kind(optimizer: Any, rho: float) -> Any:
    return optax.chain(optax.scale(rho), optimizer)


def _named(heads: Mapping[str, optax.GradientTransformation]) -> Any:
    return optax.partition(heads, "head")


def _annotated_inside(around: optax.GradientTransformationExtraArgs, rho: float) -> Any:
    return optax.chain(optax.scale(rho), around)


def _reader(state: Any) -> Any:
    return state


USERS = [
    (_annotated, Kind.OPTIMIZER),
    (_in_quotes, Kind.OPTIMIZER),
    (_unknown_in_quotes, Kind.GRADIENT_TRANSFORMATION),
    (_optional, Kind.OTHER),
    (_of_any_kind, Kind.WRAPPER),
    (_named, Kind.OTHER),
    (_annotated_inside, Kind.WRAPPER),
    (_reader, Kind.OTHER),
    (lambda lr: optax.sgd(lr), Kind.OPTIMIZER),
    (lambda max_lr: optax.sgd(max_lr), Kind.OPTIMIZER),
    (lambda inner_optimizer: inner_optimizer, Kind.WRAPPER),
    (lambda factor: optax.scale(factor), Kind.GRADIENT_TRANSFORMATION),
    (lambda *parts: optax.chain(*parts), Kind.OTHER),
    (lambda: optax.identity(), Kind.GRADIENT_TRANSFORMATION),
    (functools.partial(optax.sgd, momentum=0.9), Kind.OPTIMIZER),
    (functools.partial(optax.contrib.sam, adv_optimizer=None), Kind.WRAPPER),
    (functools.partial(optax.scale_by_adam, b1=0.5), Kind.PRIMITIVE),
    (print, Kind.OTHER),
    (dict, Kind.OTHER),
    (optax.sgd(0.1), Kind.OTHER),
]


@pytest.mark.parametrize(("function", "expected"), USERS)
def test_kind_of_functions_of_users(
    function: Callable[..., Any], expected: Kind
) -> None:
    assert catalog.kind(function) is expected


@pytest.mark.parametrize("name", catalog.functions(optimizers, *TRANSFORMATIONS))
def test_every_factory_can_be_called_with_the_least_arguments(name: str) -> None:
    made = catalog.example(getattr(optimizers, name))
    assert isinstance(made, optax.GradientTransformationExtraArgs)


def test_functions_are_the_public_ones_in_order() -> None:
    every = catalog.functions(optimizers)
    public = [n for n in optimizers.__all__ if inspect.isfunction(vars(optimizers)[n])]
    assert list(every) == public
    assert "scale_by_adam" in catalog.functions(optax, Kind.PRIMITIVE)
    assert "nadam" in catalog.functions(optax, Kind.OPTIMIZER)  # functools.partial
    assert not any(name.startswith("_") for name in catalog.functions(optax))


def test_a_missing_value_tells_where_to_add_it() -> None:
    def not_listed(factor: float) -> optax.GradientTransformation:
        return optax.scale(factor)

    words = r"not_listed: .* argument 'factor': add a line .* optimizers/catalog\.py"
    with pytest.raises(ValueError, match=words):
        catalog.required_arguments(not_listed)


def test_no_value_is_left_over() -> None:
    for name, values in catalog._ARGUMENTS.items():
        needed = catalog.required_arguments(getattr(optimizers, name))
        assert needed == values, f"optimizers/catalog.py: {name} does not need all"


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("scale_by_adam", "adam"),
        ("looksam_gradient", "looksam"),
        ("scale_by_novel", None),
        ("novel_gradient", None),
        ("adam", None),
        ("sharpness_aware", None),
        ("mixed_gradients", None),
    ],
)
def test_parts_are_known_by_their_names(name: str, whole: str | None) -> None:
    assert catalog.part_of(name, {"adam", "looksam", "mixed", "sam"}) == whole
