"""Temporary memory of one step: XLA must update donated state in place."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import optimizers
from optimizers import catalog
from optimizers.catalog import Kind

SIZE = 1_000_000

# Temporary bytes per float32 parameter of a step with params and state donated. A
# method that is not listed needs none.
TEMPORARY_BYTES = {
    # A global norm is needed before gradients can be scaled.
    "clip_by_global_norm": 4,
    # The gradient and the average are compared before one of them is kept.
    "adam_cm": 4,
    "scale_by_adam_cm": 4,
    # The gradient is evaluated at perturbed params; the variants combine it with the
    # gradient at the params, after inner products over the whole tree.
    "asam": 4,
    "sam": 4,
    "sharpness_aware": 4,
    "imbsam": 4,
    "imbsam_gradient": 4,
    "friendly_sam": 8,
    "friendly_sam_gradient": 8,
    "gsam": 12,
    "gsam_gradient": 12,
    "looksam": 12,
    "looksam_gradient": 12,
    # Directions wait for inner products with other directions.
    "dynamic_barrier": 8,
    "gradvac": 8,
    "bloop": 12,
    "mgda": 12,
    "pcgrad": 12,
    "cagrad": 16,
}
METHODS = catalog.functions(
    optimizers,
    Kind.OPTIMIZER,
    Kind.PRIMITIVE,
    Kind.WRAPPER,
    Kind.GRADIENT_TRANSFORMATION,
)


def temporary_bytes(method: optax.GradientTransformationExtraArgs) -> float:
    """Temporary bytes per parameter of a compiled step."""
    params = jax.ShapeDtypeStruct((SIZE,), jnp.float32)
    state = jax.eval_shape(method.init, params)

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = method.update(
            grads,
            state,
            params,
            aux_grads=grads * grads,
            grad_fn=lambda x: 2.0 * x,
            tail_grad_fn=lambda x: 2.0 * x,
        )
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params)
    analysis = compiled.compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes / SIZE


@pytest.mark.parametrize("name", METHODS)
def test_temporary_bytes_per_parameter(name: str) -> None:
    method = catalog.example(METHODS[name])
    if name.startswith("scale_by_"):
        method = optax.chain(method, optax.scale(-1.0))
    found, bound = temporary_bytes(method), TEMPORARY_BYTES.get(name, 0)
    # Scalars and padding take less than a hundredth of a byte per parameter.
    assert found <= bound + 0.01, (
        f"{name} needs {found:.2f} temporary bytes per parameter, not {bound}. Avoid "
        "reading an old state array after its successor is computed, as in "
        "optimizers/_common/donation.py, or give the bound a reason in TEMPORARY_BYTES."
    )


# Arguments that choose another program.
VARIANTS: list[tuple[str, dict[str, Any], int]] = [
    ("dadapt_adagrad", {"momentum": 0.9}, 0),
    ("dadapt_adam", {"weight_decay": 0.1}, 0),
    ("dadapt_sgd", {"momentum": 0.9, "weight_decay": 0.1}, 0),
    ("lookahead", {"optimizer": optimizers.adam(1e-3)}, 0),
    ("lookahead", {"inner_state": "pullback", "optimizer": optimizers.adam(1e-3)}, 0),
    ("optimistic_amsgrad", {"second_moment": "prediction_error"}, 0),
    ("optimistic_amsgrad", {"predictor": optimizers.rmpe_predictor()}, 4),
    ("prodigy", {"growth_rate": 1.02}, 0),
    ("sharpness_aware", {"p": 3}, 8),
    ("sharpness_aware", {"ascent_steps": 2}, 12),
]


@pytest.mark.parametrize(("name", "arguments", "allowed"), VARIANTS)
def test_temporary_bytes_of_variants(
    name: str, arguments: dict[str, Any], allowed: int
) -> None:
    assert (
        temporary_bytes(catalog.example(METHODS[name], **arguments)) <= allowed + 0.01
    )


def test_every_bound_belongs_to_a_method() -> None:
    assert TEMPORARY_BYTES.keys() <= METHODS.keys()
