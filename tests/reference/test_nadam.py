"""NAdam against NumPy, optax and recorded steps of PyTorch and Keras."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import testing
from tests.reference import support
from tests.reference.support import assert_close, run


def reference(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    learning_rate: float,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    momentum_decay: float | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Dozat, Algorithm 2, with the schedule of the momentum of its Section 3."""
    x, m, v = start, np.zeros_like(start), np.zeros_like(start)
    steps = np.arange(1, len(gradients) + 2)
    momentum = np.full(len(steps), b1)
    if momentum_decay is not None:
        momentum = b1 * (1 - 0.5 * 0.96 ** (steps * momentum_decay))
    products = np.cumprod(momentum)
    trajectory = []
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat = momentum[t] * m / (1 - products[t])
        m_hat = m_hat + (1 - momentum[t - 1]) * g / (1 - products[t - 1])
        v_hat = v / (1 - b2**t)
        x = x - learning_rate * m_hat / (np.sqrt(v_hat + eps_root) + eps)
        trajectory.append(x)
    return np.stack(trajectory), {"mu": m, "nu": v}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum_decay": 0.004},
        {"momentum_decay": 1.0, "eps": 1e-7},
        {"momentum_decay": 0.0, "b1": 0.5, "b2": 0.7, "eps": 1e-3, "eps_root": 1e-4},
    ],
    ids=str,
)
def test_follows_the_equations(options: dict[str, float]) -> None:
    testing.assert_matches_reference(
        optimizers.nadam(0.1, **options),
        lambda x, g: reference(x, g, learning_rate=0.1, **options)[0],
    )


def test_state(x64: None) -> None:
    sequence = support.random_sequence(60, seed=4)
    _, state = run(optimizers.scale_by_nadam(momentum_decay=0.004), sequence)
    flat = support.Sequence(
        support.flat(sequence.start), support.flat(sequence.gradients, 1)
    )
    _, expected = reference(*flat, learning_rate=0.0)
    np.testing.assert_allclose(support.flat(state.mu), expected["mu"], rtol=1e-12)
    np.testing.assert_allclose(support.flat(state.nu), expected["nu"], rtol=1e-12)
    momentum = 0.9 * (1 - 0.5 * 0.96 ** (np.arange(1, 61) / 250))
    np.testing.assert_allclose(state.momentum_product, np.prod(momentum), rtol=1e-12)
    assert state.count == 60


def test_without_warmup_equals_optax(x64: None) -> None:
    sequence = support.random_sequence(60, seed=4)
    params, _ = run(optimizers.nadam(0.01), sequence)
    assert_close(params, support.run_optax(optax.nadam(0.01), sequence)[0], 1e-12)


def test_without_warmup_equals_optax_in_float32() -> None:
    sequence = support.cast(support.random_sequence(60, seed=4), jnp.float32)
    params, _ = run(optimizers.nadam(0.01), sequence)
    assert_close(params, support.run_optax(optax.nadam(0.01), sequence)[0], 1e-6)


GRADIENTS = np.array([1.0, -0.5, 0.0, 1e-12, 30.0, 0.25])
# Params after each of these gradients, from 1, in float64 on a CPU. PyTorch keeps the
# product of the momentum in float32, and Keras the learning rate.
PYTORCH = [  # torch 2.13.0, torch.optim.NAdam(params, lr=0.01)
    0.9894354821922973,
    0.9935465794480819,
    0.9932845847394749,
    0.993018464337888,
    0.9794940162695687,
    0.978366720508555,
]
KERAS = [  # keras 3.15.1 on jax 0.10.2, keras.optimizers.Nadam(0.01)
    0.9893721230297,
    0.9932980751359034,
    0.9929910614643055,
    0.9926718489963446,
    0.9806540293209102,
    0.9792876487667008,
]


@pytest.mark.parametrize(
    ("options", "recorded", "tolerance"),
    [
        ({"momentum_decay": 0.004}, PYTORCH, 1e-9),
        ({"momentum_decay": 1.0, "eps": 1e-7}, KERAS, 1e-8),
    ],
    ids=["pytorch", "keras"],
)
def test_equals_other_frameworks(
    x64: None, options: dict[str, float], recorded: list[float], tolerance: float
) -> None:
    sequence = support.Sequence(np.ones(1), GRADIENTS[:, None])
    params, _ = run(optimizers.nadam(0.01, **options), sequence)
    np.testing.assert_allclose(params[:, 0], recorded, rtol=tolerance)


def test_a_long_run_stays_finite() -> None:
    """The product of the momentum underflows after a few hundred steps."""
    sequence = support.Sequence(np.zeros(2), np.ones((1500, 2)))
    params, state = run(optimizers.nadam(0.01, momentum_decay=0.004), sequence)
    assert state[0].momentum_product == 0.0
    np.testing.assert_allclose(params[-1] - params[-2], -0.01, rtol=1e-3)
