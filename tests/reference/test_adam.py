"""Adam and AdamW against NumPy, worked numbers, optax and theory."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import testing
from tests.reference import support
from tests.reference.support import T5, assert_close, assert_worked_numbers, run


def reference(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    learning_rate: float | np.ndarray,  # one number or one for each step
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    nesterov: bool = False,
    weight_decay: float | np.ndarray = 0.0,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Kingma and Ba, Algorithm 1; decay as Loshchilov and Hutter release it."""
    steps = len(gradients)
    rates = np.broadcast_to(learning_rate, steps)
    decays = np.broadcast_to(weight_decay, steps)
    x, m, v = start, np.zeros_like(start), np.zeros_like(start)
    trajectory = []
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat = m / (1 - b1**t)
        if nesterov:
            m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        v_hat = v / (1 - b2**t)
        direction = m_hat / (np.sqrt(v_hat + eps_root) + eps)
        x = x - rates[t - 1] * (direction + decays[t - 1] * x)
        trajectory.append(x)
    return np.stack(trajectory), {"mu": m, "nu": v}


WORKED = {
    "adam": (
        {},
        [0.900000001, 0.936610353472, 0.950279419674, 0.905401211375, 0.879905177234],
        (-2.0999999999, -2.25535497398),
    ),
    "eps_root": (
        {"eps_root": 1e-3},
        [0.90004996353, 0.936652998323, 0.950318160192, 0.905444171031, 0.879950999587],
        (-2.0999994999, -2.25535220465),
    ),
    "nesterov": (
        {"nesterov": True},
        [
            0.852631580421,
            0.942296854959,
            0.938043173226,
            0.853684845297,
            0.845202981585,
        ],
        (-2.14736842091, -2.24785325053),
    ),
    "decay": (
        {"weight_decay": 0.1},
        [0.890000001, 0.917710353462, 0.922202316129, 0.868102084669, 0.833925029681],
        (-2.0799999999, -2.15052706831),
    ),
}


@pytest.mark.parametrize("case", WORKED)
def test_worked_numbers(case: str, x64: None) -> None:
    options, first, second = WORKED[case]
    assert_worked_numbers(
        reference(*T5, learning_rate=0.1, **options)[0], first, second
    )
    factory = optimizers.adamw if case == "decay" else optimizers.adam
    params, _ = run(factory(0.1, **options), T5)
    assert_worked_numbers(params, first, second)


OPTIMISTIC = {
    False: (
        [0.900000001, 1.07322070494, 1.06394848488, 0.960523002076, 0.954409142093],
        (-2.0999999999, -2.18687928509),
    ),
    True: (
        [0.852631580421, 1.17933054908, 1.08115791107, 0.916694936947, 0.984089537452],
        (-2.14736842091, -2.13556328239),
    ),
}


@pytest.mark.parametrize("nesterov", OPTIMISTIC)
def test_optimistic_adam_is_a_chain(nesterov: bool, x64: None) -> None:
    """Optax's first step assumes a previous gradient equal to the first one.

    The paper has no Nesterov momentum, and its first step is twice as long.
    """
    chain = optax.chain(
        optimizers.scale_by_adam(nesterov=nesterov),
        optax.scale_by_optimistic_gradient(),
        optax.scale_by_learning_rate(0.1),
    )
    params = np.asarray(support.run_optax(chain, T5)[0])
    assert_worked_numbers(params, *OPTIMISTIC[nesterov])
    if not nesterov:
        paper = [0.800000002, 0.973220705944, 0.963948485876, 0.860523003076]
        assert_worked_numbers(
            params + params[0] - T5.start,
            [*paper, 0.854409143093],
            (-2.1999999998, -2.28687928499),
        )


def test_worked_state(x64: None) -> None:
    _, state = run(optimizers.scale_by_adam(), T5)
    np.testing.assert_allclose(state.mu, [0.22031, 0.61319], rtol=1e-12)
    np.testing.assert_allclose(state.nu, [0.022217518, 0.112582611], rtol=2e-8)
    assert_close(
        {"mu": state.mu, "nu": state.nu}, reference(*T5, learning_rate=0.1)[1], 1e-14
    )
    assert state.count == 5


def _cosine(peak: float) -> optax.Schedule:
    return optax.cosine_decay_schedule(peak, 50)


def _values(schedule: optax.Schedule) -> np.ndarray:
    """Returns the values of a schedule at the steps of a run, which start at 0."""
    return np.array([schedule(jnp.asarray(k)) for k in range(50)])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"b1": 0.0},
        {"b1": 0.5, "b2": 0.7, "eps": 1e-3},
        {"eps_root": 1e-4},
        {"nesterov": True},
        {"nesterov": True, "b1": 0.5, "eps_root": 1e-4},
    ],
    ids=str,
)
def test_adam_follows_the_equations(options: dict[str, float]) -> None:
    testing.assert_matches_reference(
        optimizers.adam(0.1, **options),
        lambda x, g: reference(x, g, learning_rate=0.1, **options)[0],
    )


def test_adamw_follows_the_equations() -> None:
    testing.assert_matches_reference(
        optimizers.adamw(0.1, weight_decay=0.3),
        lambda x, g: reference(x, g, learning_rate=0.1, weight_decay=0.3)[0],
        sequence=support.random_sequence(50, seed=1),
    )


def test_schedules_of_rate_and_decay_count_from_zero(x64: None) -> None:
    sequence = support.random_sequence(50, seed=2)
    with jax.numpy_dtype_promotion("standard"):  # optax's schedules need it
        params, _ = run(
            optimizers.adamw(_cosine(0.1), weight_decay=_cosine(0.3)), sequence
        )
        rates, decays = _values(_cosine(0.1)), _values(_cosine(0.3))
    expected = support.run_reference(
        lambda x, g: reference(x, g, learning_rate=rates, weight_decay=decays),
        sequence,
    )
    assert_close(params, expected, 1e-12)


def test_decay_obeys_the_mask(x64: None) -> None:
    sequence = support.random_sequence(50, seed=3)
    mask = {"bias": False, "layers": True, "scale": False}
    params, _ = run(
        optimizers.adamw(0.1, weight_decay=0.3, weight_decay_mask=mask), sequence
    )
    plain, _ = run(optimizers.adam(0.1), sequence)
    decayed, _ = run(optimizers.adamw(0.1, weight_decay=0.3), sequence)
    assert_close(params, {**plain, "layers": decayed["layers"]}, 0.0)


TWINS = {
    "adam": (optimizers.adam(0.01), optax.adam(0.01)),
    "eps_root": (
        optimizers.adam(0.01, eps_root=1e-4),
        optax.adam(0.01, eps_root=1e-4),
    ),
    "nesterov": (optimizers.adam(0.01, nesterov=True), optax.nadam(0.01)),
    "adamw": (optimizers.adamw(0.01), optax.adamw(0.01)),
    "nadamw": (optimizers.adamw(0.01, nesterov=True), optax.nadamw(0.01)),
}


@pytest.mark.parametrize("case", TWINS)
def test_equals_optax(case: str, x64: None) -> None:
    ours, theirs = TWINS[case]
    sequence = support.random_sequence(60, seed=4)
    params, _ = run(ours, sequence)
    assert_close(params, support.run_optax(theirs, sequence)[0], 1e-12)


@pytest.mark.parametrize("case", TWINS)
def test_equals_optax_in_float32(case: str) -> None:
    ours, theirs = TWINS[case]
    sequence = support.cast(support.random_sequence(60, seed=4), jnp.float32)
    params, _ = run(ours, sequence)
    assert_close(params, support.run_optax(theirs, sequence)[0], 1e-6)


def test_adamw_without_decay_is_adam(x64: None) -> None:
    sequence = support.random_sequence(50)
    params, _ = run(optimizers.adamw(0.1, weight_decay=0.0), sequence)
    assert_close(params, run(optimizers.adam(0.1), sequence)[0], 0.0)


def test_without_momentum_is_corrected_rmsprop(x64: None) -> None:
    sequence = support.random_sequence(50)
    rmsprop = optax.chain(
        optax.scale_by_rms(decay=0.999, eps_in_sqrt=False, bias_correction=True),
        optax.scale_by_learning_rate(0.1),
    )
    params, _ = run(optimizers.adam(0.1, b1=0.0), sequence)
    assert_close(params, support.run_optax(rmsprop, sequence)[0], 1e-12)


def test_first_step(x64: None) -> None:
    sequence = support.Sequence(np.zeros(3), np.array([[-5.0, 300.0, 0.0]]))
    params, _ = run(optimizers.adam(0.1), sequence)
    np.testing.assert_allclose(params[0], [0.1, -0.1, 0.0], rtol=1e-8)


@pytest.mark.parametrize("make", [optimizers.adam, optimizers.adamax])
def test_first_complex_step_equals_optax_and_split_pytorch(make: Any) -> None:
    """Optax keeps the phase; PyTorch treats real and imaginary parts separately."""
    gradient = jnp.array([3.0 - 4.0j])

    def first_step(optimizer: optax.GradientTransformation) -> jax.Array:
        return optimizer.update(gradient, optimizer.init(gradient), gradient)[0]

    whole = first_step(make(0.1))
    with jax.numpy_dtype_promotion("standard"):
        split = first_step(optax.contrib.split_real_and_imaginary(make(0.1)))
    np.testing.assert_allclose(whole, [-0.06 + 0.08j], rtol=1e-5)
    np.testing.assert_allclose(split, [-0.1 + 0.1j], rtol=1e-5)


def test_first_step_in_float32_shows_eps() -> None:
    gradients = jnp.asarray([1e-6, 1e-8, 1e-10])
    optimizer = optimizers.adam(1.0)
    updates, _ = optimizer.update(gradients, optimizer.init(gradients), gradients)
    # float32 rounds 1 - b2 by 1.3e-5, here as in optax; its root halves that.
    np.testing.assert_allclose(updates, [-0.990099, -0.5, -0.00990099], rtol=1e-5)


def test_zero_gradients_leave_only_weight_decay(x64: None) -> None:
    sequence = support.Sequence(np.array([3.0, -4.0]), np.zeros((20, 2)))
    params, _ = run(optimizers.adamw(0.1, weight_decay=0.5), sequence)
    shrinking = np.power(1 - 0.1 * 0.5, np.arange(1, 21))
    assert_close(params, shrinking[:, None] * sequence.start, 1e-14)


def _supremum(t: int, b1: float = 0.9, b2: float = 0.999) -> float:
    """The largest t-th direction over all gradients, by Cauchy and Schwarz."""
    age = np.arange(t)
    first = (1 - b1) * b1**age / (1 - b1**t)
    second = (1 - b2) * b2**age / (1 - b2**t)
    return float(np.sqrt(np.sum(first**2 / second)))


def _directions(gradients: np.ndarray, **options: float) -> np.ndarray:
    """Returns the updates of `scale_by_adam` with eps = 0 for each gradient."""
    primitive = optimizers.scale_by_adam(eps=0.0, **options)

    @jax.jit
    def scan(gradients: jax.Array) -> jax.Array:
        def step(state: optax.OptState, g: jax.Array) -> tuple[optax.OptState, Any]:
            direction, state = primitive.update(g, state)
            return state, direction

        return jax.lax.scan(step, primitive.init(gradients[0]), gradients)[1]

    return np.asarray(scan(jnp.asarray(gradients)))


@pytest.mark.parametrize(
    ("b2", "published"), [(0.999, 7.2702918), (0.99, 2.345208), (0.95, 1.164965)]
)
def test_largest_step_is_reached_and_grows_to_its_limit(
    b2: float, published: float, x64: None
) -> None:
    """Gradients that grow by b2 / b1 a step: their older part weighs in fully."""
    steps = 3000
    directions = _directions((b2 / 0.9) ** np.arange(steps)[:, None], b2=b2)[:, 0]
    suprema = [_supremum(t, b2=b2) for t in range(1, steps + 1)]
    np.testing.assert_allclose(directions, suprema, rtol=1e-9)
    limit = (1 - 0.9) / np.sqrt((1 - b2) * (1 - 0.9**2 / b2))
    np.testing.assert_allclose(limit, published, rtol=1e-6)
    assert 0.97 * limit < directions[-1] < limit


def test_largest_step_grows_as_published() -> None:
    published = {1: 1.0, 2: 1.001358, 10: 1.043108, 100: 2.243364, 1000: 5.78116}
    suprema = [_supremum(t) for t in published]
    np.testing.assert_allclose(suprema, list(published.values()), rtol=1e-6)


def test_no_step_exceeds_the_bound() -> None:
    rng = np.random.default_rng(0)
    spread = np.linspace(0.0, 10.0, 200)  # from equal to wildly different sizes
    sizes = np.exp(spread * rng.random((100, 200)))
    directions = _directions((rng.normal(size=(100, 200)) * sizes).astype(np.float32))
    bounds = np.array([_supremum(t) for t in range(1, 101)])
    # float32 rounds 1 - b2 by 1.3e-5.
    assert (np.abs(directions) <= bounds[:, None] * (1 + 2e-5)).all()


def test_state_dtypes_are_canonicalized() -> None:
    # Without x64 that is float32, and no warning.
    tx = optimizers.scale_by_adam(mu_dtype="float64", nu_dtype=jnp.float64)
    state = tx.init(jnp.ones(2))
    assert (state.mu.dtype, state.nu.dtype) == (jnp.float32, jnp.float32)
