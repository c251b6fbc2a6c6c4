"""The Adam family against what PyTorch's, the authors' and others' code did.

Their trajectories are in `recorded`, with the script that made them. A function for
each released class takes the arguments of the release and says what they are here.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from tests.reference.recorded import sequence
from tests.reference.support import PyTree

Rate = float | Callable[[jax.Array], jax.Array]
Betas = tuple[float, float]


def adam(
    lr: Rate,
    *,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
) -> optax.GradientTransformation:
    if amsgrad:
        method = optimizers.amsgrad(lr, *betas, eps, variant="torch")
    else:
        method = optimizers.adam(lr, *betas, eps)
    return coupled(weight_decay, method)


def adamw(
    lr: Rate,
    *,
    betas: Betas = (0.9, 0.999),
    weight_decay: float = 0.01,
    amsgrad: bool = False,
) -> optax.GradientTransformation:
    if amsgrad:
        return optimizers.amsgrad(
            lr, *betas, variant="torch", weight_decay=weight_decay
        )
    return optimizers.adamw(lr, *betas, weight_decay=weight_decay)


def adamax(
    lr: Rate,
    *,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    return coupled(weight_decay, optimizers.adamax(lr, *betas, eps))


def adabound(
    lr: Rate,
    *,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    final_lr: float = 0.1,
    gamma: float = 1e-3,
    weight_decay: float = 0.0,
    amsbound: bool = False,
) -> optax.GradientTransformation:
    method = (optimizers.amsbound if amsbound else optimizers.adabound)(
        lr,
        *betas,
        eps,
        final_learning_rate=final_lr,
        gamma=gamma,
        base_learning_rate=first(lr),
    )
    return coupled(weight_decay, method)


def adam_atan2(
    lr: Rate,
    *,
    betas: Betas = (0.9, 0.99),
    a: float = 1.27,
    b: float = 1.0,
    weight_decay: float = 0.0,
    decoupled_wd: bool = False,
) -> optax.GradientTransformation:
    if decoupled_wd:
        weight_decay /= first(lr)
    return optimizers.adam_atan2(lr, *betas, a=a, b=b, weight_decay=weight_decay)


def dadapt_sgd(lr: Rate = 1.0, **options: float) -> optax.GradientTransformation:
    return optimizers.dadapt_sgd(lr, **options)


def dadapt_adagrad(
    lr: Rate = 1.0,
    *,
    weight_decay: float = 0.0,
    **options: float,
) -> optax.GradientTransformation:
    return coupled(weight_decay, optimizers.dadapt_adagrad(lr, **options))


def dadapt_adam(
    lr: Rate = 1.0,
    *,
    betas: Betas = (0.9, 0.999),
    weight_decay: float = 0.0,
    decouple: bool = False,
    use_bias_correction: bool = False,
    **options: float,
) -> optax.GradientTransformation:
    method = optimizers.dadapt_adam(
        lr,
        *betas,
        bias_correction=use_bias_correction,
        weight_decay=weight_decay if decouple else 0.0,
        **options,
    )
    return coupled(0.0 if decouple else weight_decay, method)


def prodigy(
    lr: Rate = 1.0,
    *,
    betas: Betas = (0.9, 0.999),
    beta3: float | None = None,
    weight_decay: float = 0.0,
    decouple: bool = True,
    use_bias_correction: bool = False,
    **options: Any,
) -> optax.GradientTransformation:
    method = optimizers.prodigy(
        lr,
        *betas,
        beta3,
        bias_correction=use_bias_correction,
        weight_decay=weight_decay if decouple else 0.0,
        **options,
    )
    return coupled(0.0 if decouple else weight_decay, method)


def ademamix(
    lr: Rate,
    *,
    betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
    alpha: float = 5.0,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    weight_decouple: bool = False,
    t_alpha_beta3: int | None = None,
) -> optax.GradientTransformation:
    assert weight_decouple or not weight_decay
    return optimizers.ademamix(
        lr, *betas, alpha, eps, weight_decay=weight_decay, warmup_steps=t_alpha_beta3
    )


def first(rate: Rate) -> Any:
    return rate(jnp.array(0)) if callable(rate) else rate


def coupled(
    weight_decay: float, method: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Decay as a part of the gradients."""
    if not weight_decay:
        return method
    return optax.chain(optax.add_decayed_weights(weight_decay), method)


HERE: dict[str, Callable[..., optax.GradientTransformation]] = {
    "Adam": adam,
    "AdamW": adamw,
    "Adamax": adamax,
    "AdaBound": adabound,
    "AdamAtan2": adam_atan2,
    "DAdaptSGD": dadapt_sgd,
    "DAdaptAdaGrad": dadapt_adagrad,
    "DAdaptAdam": dadapt_adam,
    "Prodigy": prodigy,
    "AdEMAMix": ademamix,
}
RECORD = json.loads((Path(__file__).parent / "recorded" / "released.json").read_text())


def trajectory(
    optimizer: optax.GradientTransformation, gradients: PyTree
) -> tuple[PyTree, list[jax.Array]]:
    """Parameters and all estimates of the distance after each step."""
    start = jax.tree.map(
        jnp.asarray, {k: np.array(x) for k, x in sequence.START.items()}
    )

    def step(carry: PyTree, g: PyTree) -> tuple[PyTree, PyTree]:
        params, state = carry
        updates, state = optimizer.update(g, state, params)
        params = optax.apply_updates(params, updates)
        distances = list(optimizers.distance_estimates(state).values())
        return (params, state), (params, distances)

    carry = (start, optimizer.init(start))
    return jax.jit(lambda c, g: jax.lax.scan(step, c, g)[1])(carry, gradients)


@pytest.mark.parametrize(
    "run", RECORD["runs"], ids=lambda run: f"{run['method']}-{run['options']}"
)
def test_equals_the_release(run: dict[str, Any], x64: None) -> None:
    options = run["options"].copy()
    if run["decaying"]:
        rates = options.pop("lr", 1.0) * np.array(sequence.rate_factors(decaying=True))
        options["lr"] = lambda count: jnp.asarray(rates)[count]
    gradients = {k: np.array(g) for k, g in sequence.gradients(run["drift"]).items()}
    params, distances = trajectory(HERE[run["method"]](**options), gradients)
    for name, recorded in run["params"].items():
        expected = np.array(recorded)
        np.testing.assert_allclose(
            params[name], expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max()
        )
    if run["distances"] is not None:
        np.testing.assert_allclose(distances[0], run["distances"], rtol=1e-12)
