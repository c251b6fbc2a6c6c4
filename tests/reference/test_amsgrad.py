"""AMSGrad's three published forms against NumPy, worked numbers, optax and theory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import testing
from tests.reference import support, test_adam
from tests.reference.support import (
    T5,
    PyTree,
    assert_close,
    assert_worked_numbers,
    run,
)

VARIANTS = ("optax", "torch", "paper")


def reference(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    variant: str,
    learning_rate: float | np.ndarray,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Reddi, Kale and Kumar, Algorithm 2, and where releases put the corrections."""
    rates = np.broadcast_to(learning_rate, len(gradients))
    x, m, v, v_max = start, *(np.zeros_like(start) for _ in range(3))
    trajectory = []
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        if variant == "paper":
            v_max = np.maximum(v_max, v)
            m_hat, v_hat = m, v_max
        elif variant == "optax":
            v_max = np.maximum(v_max, v / (1 - b2**t))
            m_hat, v_hat = m / (1 - b1**t), v_max
        else:
            v_max = np.maximum(v_max, v)
            m_hat, v_hat = m / (1 - b1**t), v_max / (1 - b2**t)
        x = x - rates[t - 1] * m_hat / (np.sqrt(v_hat + eps_root) + eps)
        trajectory.append(x)
    return np.stack(trajectory), {"mu": m, "nu": v, "nu_max": v_max}


def uncorrected_adam(
    start: np.ndarray, gradients: np.ndarray, learning_rate: float
) -> np.ndarray:
    x, m, v = start, np.zeros_like(start), np.zeros_like(start)
    trajectory = []
    for g in gradients:
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        x = x - learning_rate * m / (np.sqrt(v) + 1e-8)
        trajectory.append(x)
    return np.stack(trajectory)


WORKED = {
    "paper": (
        [
            0.683772333983,
            0.839351362523,
            0.907016448369,
            0.662806467164,
            0.515002391896,
        ],
        (-2.31622775602, -3.0773850309),
    ),
    "optax": (
        [0.900000001, 0.936610353472, 0.948044180427, 0.903165972128, 0.879836259093],
        (-2.0999999999, -2.19451116916),
    ),
    "torch": (
        [0.900000001, 0.936610353472, 0.950279419674, 0.905401211375, 0.879905177234],
        (-2.0999999999, -2.25530866426),
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_worked_numbers(variant: str, x64: None) -> None:
    expected, _ = reference(*T5, variant=variant, learning_rate=0.1)
    assert_worked_numbers(expected, *WORKED[variant])
    params, _ = run(optimizers.amsgrad(0.1, variant=variant), T5)
    assert_worked_numbers(params, *WORKED[variant])


def test_only_the_first_correction_is_a_rate_of_the_paper(x64: None) -> None:
    """The flags (True, False) of optax, whose first steps are 32 rates long."""

    def rate(count: jax.Array) -> jax.Array:
        return 0.1 / (1 - 0.9 ** (count.astype(float) + 1))

    params, _ = run(optimizers.amsgrad(rate, variant="paper"), T5)
    first = [-2.16227666017, -1.34343966785, -1.09375300422, -1.80387217027]
    assert_worked_numbers(
        params, [*first, -2.16480126911], (-5.16227756017, -8.08173118586)
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_worked_state(variant: str, x64: None) -> None:
    _, state = run(optimizers.scale_by_amsgrad(variant=variant), T5)
    _, expected = reference(*T5, variant=variant, learning_rate=0.1)
    if variant == "optax":
        np.testing.assert_allclose(state.nu_max, [5.31766042, 100], rtol=1e-8)
    assert_close(
        {"mu": state.mu, "nu": state.nu, "nu_max": state.nu_max}, expected, 1e-13
    )
    assert state.count == 5


def test_optax_is_the_default(x64: None) -> None:
    params, _ = run(optimizers.amsgrad(0.1), T5)
    assert_worked_numbers(params, *WORKED["optax"])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "options",
    [{}, {"b1": 0.0}, {"b1": 0.5, "b2": 0.7, "eps": 1e-3}, {"eps_root": 1e-4}],
    ids=str,
)
def test_follows_the_equations(variant: str, options: dict[str, float]) -> None:
    testing.assert_matches_reference(
        optimizers.amsgrad(0.1, variant=variant, **options),
        lambda x, g: reference(x, g, variant=variant, learning_rate=0.1, **options)[0],
    )


def test_equals_optax(x64: None) -> None:
    sequence = support.random_sequence(60, seed=4)
    params, _ = run(optimizers.amsgrad(0.01), sequence)
    assert_close(params, support.run_optax(optax.amsgrad(0.01), sequence)[0], 1e-12)


def test_equals_optax_in_float32() -> None:
    sequence = support.cast(support.random_sequence(60, seed=4), jnp.float32)
    params, _ = run(optimizers.amsgrad(0.01), sequence)
    assert_close(params, support.run_optax(optax.amsgrad(0.01), sequence)[0], 1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_growing_gradients_make_it_adam(variant: str, x64: None) -> None:
    rng = np.random.default_rng(0)
    growing = rng.choice([-1.0, 1.0], (40, 3)) * np.cumsum(rng.random((40, 3)), axis=0)
    sequence = support.Sequence(np.ones(3), growing)
    params, _ = run(optimizers.amsgrad(0.1, variant=variant), sequence)
    expected = (
        uncorrected_adam(*sequence, 0.1)
        if variant == "paper"
        else test_adam.reference(*sequence, learning_rate=0.1)[0]
    )
    assert_close(params, expected, 1e-12)


@pytest.mark.parametrize("variant", ["optax", "paper"])
def test_the_maximum_never_shrinks(variant: str, x64: None) -> None:
    gradients = jnp.asarray(support.random_sequence(50).gradients["bias"])
    primitive = optimizers.scale_by_amsgrad(variant=variant)

    def step(state: optax.OptState, g: jax.Array) -> tuple[optax.OptState, jax.Array]:
        _, state = primitive.update(g, state)
        return state, state.nu_max

    _, maxima = jax.lax.scan(step, primitive.init(jnp.zeros(3)), gradients)
    assert (np.diff(maxima, axis=0) >= 0).all()


@pytest.mark.parametrize(
    ("variant", "first"), [("paper", 3.1622777), ("optax", 1.0), ("torch", 1.0)]
)
def test_first_step(variant: str, first: float, x64: None) -> None:
    sequence = support.Sequence(np.zeros(2), np.array([[-5.0, 300.0]]))
    params, _ = run(optimizers.amsgrad(1.0, variant=variant), sequence)
    np.testing.assert_allclose(params[0], [first, -first], rtol=1e-7)


def test_one_large_gradient_is_never_forgotten(x64: None) -> None:
    """After a gradient of 100 and then ones: the size of the 2001st step."""
    sequence = support.Sequence(np.zeros(1), np.array([[100.0]] + 2000 * [[1.0]]))

    def last_step(optimizer: optax.GradientTransformation) -> float:
        params, _ = run(optimizer, sequence)
        return float(params[-2, 0] - params[-1, 0])

    steps = [
        last_step(optimizers.adam(1.0)),
        last_step(optimizers.amsgrad(1.0, variant="paper")),
        last_step(optimizers.amsgrad(1.0, variant="optax")),
    ]
    np.testing.assert_allclose(steps, [0.62464, 0.31623, 0.01], atol=5e-6)


def test_converges_where_adam_does_not(x64: None) -> None:
    """Reddi, Kale and Kumar, Theorem 1: f_t = 3x every third step, else -x, on [-1, 1].

    The best point is -1. Adam sits at +1, the worst, and pays 2/3 a step for ever.
    """
    steps = 300_000
    slopes = jnp.where(jnp.arange(steps) % 3 == 0, 3.0, -1.0)

    def rate(count: jax.Array) -> jax.Array:
        return 0.5 / jnp.sqrt(count.astype(float) + 1)

    options = {"b1": 0.0, "b2": 0.1, "eps": 0.0}
    players = {
        "adam": optimizers.adam(rate, **options),
        "amsgrad": optimizers.amsgrad(rate, **options, variant="paper"),
    }

    @jax.jit
    def play() -> tuple[PyTree, PyTree]:
        def step(carry: PyTree, slope: jax.Array) -> tuple[PyTree, PyTree]:
            after = {}
            for name, (x, state) in carry.items():
                update, state = players[name].update(slope, state, x)
                after[name] = jnp.clip(optax.apply_updates(x, update), -1, 1), state
            return after, {name: x for name, (x, _) in carry.items()}

        carry = {name: (jnp.ones([]), p.init(0.0)) for name, p in players.items()}
        carry, visited = jax.lax.scan(step, carry, slopes)
        regrets = {name: jnp.mean(slopes * (x + 1)) for name, x in visited.items()}
        return {name: x for name, (x, _) in carry.items()}, regrets

    last, regret = play()
    np.testing.assert_allclose(last["adam"], 1.0, atol=1e-3)
    np.testing.assert_allclose(regret["adam"], 0.6675, atol=1e-3)
    np.testing.assert_allclose(last["amsgrad"], -0.99936, atol=1e-5)
    np.testing.assert_allclose(regret["amsgrad"], 0.0012, atol=1e-4)
