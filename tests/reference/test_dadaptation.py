"""D-Adaptation against NumPy, worked numbers, optax and theory."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import testing
from tests.reference import support, test_amsgrad
from tests.reference.support import PyTree, Sequence, assert_close, run

T5D = Sequence(
    np.array([1.0, -2.0]),
    np.array([[1.0, 10.0], [1.0, 8.0], [0.9, 6.0], [0.8, 5.0], [0.7, 4.0]]),
)


def drifting_sequence(steps: int, seed: int = 0) -> Sequence:
    """Random gradients that mostly keep their signs, so that the distance grows."""
    start, gradients = support.random_sequence(steps, seed)
    return Sequence(start, jax.tree.map(lambda g: g + 2 * g.std(axis=0), gradients))


# A start, gradients [T, n] -> parameters after each step, d after each step.
Trajectory = tuple[np.ndarray, np.ndarray]


def sgd(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    learning_rate: float | np.ndarray = 1.0,
    momentum: float = 0.0,
    d0: float = 0.1,
    growth_rate: float = np.inf,
    d_coef: float = 2.0,
    weight_decay: float = 0.0,
) -> Trajectory:
    """Defazio and Mishchenko, D-Adapt SGD as released, in the form with x_0."""
    rates = np.broadcast_to(learning_rate, len(gradients))
    x0, x, s = start, start, np.zeros_like(start)
    numerator, d = 0.0, d0
    norm = next(n for n in (np.linalg.norm(g) for g in gradients) if n > 0)
    trajectory, distances = [], []
    for g, rate in zip(gradients, rates, strict=True):
        weight = d * rate / norm
        numerator += weight * (g @ s)
        s = s + weight * g
        length = np.linalg.norm(s)
        estimate = d_coef * numerator / length if length > 0 else 0.0
        z = x0 - s
        decay = d * rate * weight_decay * x
        x0 = x0 - decay
        x = momentum * x + (1 - momentum) * z - decay
        d = max(d, min(estimate, d * growth_rate))
        trajectory.append(x)
        distances.append(d)
    return np.stack(trajectory), np.stack(distances)


def adagrad(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    learning_rate: float | np.ndarray = 1.0,
    eps: float = 1e-6,
    momentum: float = 0.0,
    d0: float = 0.1,
    growth_rate: float = np.inf,
    weight_decay: float = 0.0,
) -> Trajectory:
    """Defazio and Mishchenko, D-Adapt AdaGrad as released, in the form with x_0."""
    rates = np.broadcast_to(learning_rate, len(gradients))
    x0, x, s = start, start, np.zeros_like(start)
    a, error, d = np.full_like(start, 1e-6), 0.0, d0
    trajectory, distances = [], []
    for g, rate in zip(gradients, rates, strict=True):
        weight = d * rate
        a = a + g**2
        q = np.sqrt(a) + eps
        error += weight**2 * (g**2 / q).sum()
        s = s + weight * g
        length = np.abs(s).sum()
        estimate = ((s**2 / q).sum() - error) / length if length > 0 else 0.0
        z = x0 - s / q
        decay = weight * weight_decay * x
        x0 = x0 - decay
        x = momentum * x + (1 - momentum) * z - decay
        d = max(d, min(estimate, d * growth_rate))
        trajectory.append(x)
        distances.append(d)
    return np.stack(trajectory), np.stack(distances)


def adam(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    learning_rate: float | np.ndarray = 1.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    d0: float = 0.1,
    growth_rate: float = np.inf,
    bias_correction: bool = True,
    weight_decay: float = 0.0,
) -> Trajectory:
    """Defazio and Mishchenko, D-Adapt Adam as released, the inner-product form."""
    rates = np.broadcast_to(learning_rate, len(gradients))
    x = start
    m, v, s = (np.zeros_like(start) for _ in range(3))
    numerator, d, root = 0.0, d0, np.sqrt(b2)
    trajectory, distances = [], []
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        weight = d * rate
        if bias_correction:
            weight *= np.sqrt(1 - b2**t) / (1 - b1**t)
        product = g @ (s / (np.sqrt(v) + eps))
        numerator = root * numerator + (1 - root) * weight * product
        m = b1 * m + (1 - b1) * weight * g
        v = b2 * v + (1 - b2) * g**2
        s = root * s + (1 - root) * weight * g
        length = (1 - root) * np.abs(s).sum()
        estimate = numerator / length if length > 0 else 0.0
        x = x - weight * weight_decay * x - m / (np.sqrt(v) + eps)
        d = max(d, min(estimate, d * growth_rate))
        trajectory.append(x)
        distances.append(d)
    return np.stack(trajectory), np.stack(distances)


METHODS: dict[str, tuple[Any, Any]] = {
    "sgd": (optimizers.dadapt_sgd, sgd),
    "adagrad": (optimizers.dadapt_adagrad, adagrad),
    "adam": (optimizers.dadapt_adam, adam),
}

# d after each step; the first coordinate after step 1; both after step 5.
WORKED = {
    ("adam", (("bias_correction", False),)): (
        [0.1, 1.42341639449, 3.93700216052, 17.0264985497, 50.9739231209],
        [0.683772333983, -35.4829501438, -30.2274775298],
    ),
    ("adam", ()): (
        [0.1, 0.37855150258, 0.798766117755, 1.40565695344, 2.24045921741],
        [0.900000031623, -0.400579196065, -3.21628254627],
    ),
    ("adam", (("growth_rate", 1.02),)): (
        [0.1, 0.102, 0.10404, 0.1061208, 0.108243216],
        [0.900000031623, 0.407321336619, -2.58740635549],
    ),
    ("sgd", (("momentum", 0.9),)): (
        [0.1, 0.1, 0.157068414487, 0.237225742013, 0.329895438736],
        [0.99900496281, 0.986048464058, -2.10859192011],
    ),
    ("sgd", ()): (
        [0.1, 0.1, 0.157068414487, 0.237225742013, 0.329895438736],
        [0.990049628098, 0.942117417874, -2.41137275687],
    ),
    ("adagrad", ()): (
        [0.1, 0.1, 0.1, 0.127499762702, 0.159481108467],
        [0.90000015, 0.768633422092, -2.21965733385],
    ),
}


def assert_worked_distances(
    params: np.ndarray, distances: np.ndarray, worked: tuple[list[float], list[float]]
) -> None:
    np.testing.assert_allclose(distances, worked[0], rtol=support.TWELVE_DIGITS)
    shown = [params[0, 0], *params[-1]]
    np.testing.assert_allclose(shown, worked[1], rtol=support.TWELVE_DIGITS)


def run_with_distances(
    optimizer: optax.GradientTransformation, sequence: Sequence
) -> tuple[PyTree, np.ndarray]:
    """Parameters and the estimate d after each step."""

    @jax.jit
    def scan(start: PyTree, gradients: PyTree) -> PyTree:
        def step(carry: PyTree, g: PyTree) -> tuple[PyTree, PyTree]:
            params, state = carry
            updates, state = optimizer.update(g, state, params)
            params = optax.apply_updates(params, updates)
            (d,) = optimizers.distance_estimates(state).values()
            return (params, state), (params, d)

        return jax.lax.scan(step, (start, optimizer.init(start)), gradients)[1]

    return scan(*jax.tree.map(jnp.asarray, tuple(sequence)))


def assert_follows(
    optimizer: optax.GradientTransformation, reference: Any, sequence: Sequence
) -> None:
    """Params and d after each step are those of the reference."""

    def with_distances(x: np.ndarray, gradients: np.ndarray) -> Iterator[Any]:
        for after, d in zip(*reference(x, gradients), strict=True):
            yield after, {"distance": d}

    testing.assert_matches_reference(
        optimizer, with_distances, sequence=sequence, per_leaf=False
    )


@pytest.mark.parametrize(("method", "options"), WORKED, ids=str)
def test_worked_numbers(
    method: str, options: tuple[tuple[str, float], ...], x64: None
) -> None:
    make, reference = METHODS[method]
    worked = WORKED[method, options]
    assert_worked_distances(*reference(*T5D, **dict(options)), worked)
    optimizer = make(d0=0.1, **dict(options))
    assert_worked_distances(*run_with_distances(optimizer, T5D), worked)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("sgd", {}),
        ("sgd", {"momentum": 0.9, "weight_decay": 0.1}),
        ("sgd", {"d_coef": 1.0, "growth_rate": 1.02, "weight_decay": 0.1}),
        ("adagrad", {}),
        ("adagrad", {"momentum": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
        ("adagrad", {"growth_rate": 1.5, "weight_decay": 0.1}),
        ("adam", {}),
        ("adam", {"bias_correction": False, "growth_rate": 1.1}),
        ("adam", {"b1": 0.0, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    ],
    ids=str,
)
def test_follows_the_equations(
    method: str, options: dict[str, float], x64: None
) -> None:
    make, reference = METHODS[method]
    rates = np.linspace(1.0, 0.0, 50)

    def schedule(count: jax.Array) -> jax.Array:
        return jnp.asarray(rates)[count]

    assert_follows(
        make(schedule, d0=1e-3, **options),
        lambda x, g: reference(x, g, d0=1e-3, learning_rate=rates, **options),
        drifting_sequence(50),
    )


@pytest.mark.parametrize("method", METHODS)
def test_leading_zero_gradients_follow_the_equations(method: str, x64: None) -> None:
    make, reference = METHODS[method]
    sequence = drifting_sequence(20)
    quiet = jax.tree.map(lambda g: np.concatenate([0 * g[:3], g]), sequence.gradients)
    assert_follows(
        make(d0=0.1, weight_decay=0.1),
        lambda x, g: reference(x, g, weight_decay=0.1),
        Sequence(sequence.start, quiet),
    )


@pytest.mark.parametrize("method", METHODS)
def test_warm_up_from_zero_follows_the_equations(method: str, x64: None) -> None:
    make, reference = METHODS[method]
    rates = np.minimum(np.arange(30) / 5, 1.0)
    optimizer = make(lambda count: jnp.asarray(rates)[count], d0=0.1)
    assert_follows(
        optimizer,
        lambda x, g: reference(x, g, learning_rate=rates),
        drifting_sequence(30, seed=1),
    )


def test_equals_optax(x64: None) -> None:
    sequence = drifting_sequence(60, seed=4)
    params, _ = run(optimizers.dadapt_adam(weight_decay=0.01), sequence)
    theirs = optax.contrib.dadapt_adamw(weight_decay=0.01)
    assert_close(params, support.run_optax(theirs, sequence)[0], 1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_the_distance_starts_at_d0_and_never_decreases(method: str, x64: None) -> None:
    sequence = drifting_sequence(50, seed=2)
    _, d = run_with_distances(METHODS[method][0](d0=1e-3), sequence)
    assert d[0] == 1e-3
    assert (np.diff(d) >= 0).all()
    assert d[-1] > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_growth_is_bounded(method: str, x64: None) -> None:
    sequence = Sequence(np.zeros(3), np.ones((100, 3)))
    optimizer = METHODS[method][0](d0=1e-6, growth_rate=1.02)
    _, d = run_with_distances(optimizer, sequence)
    assert (d <= 1e-6 * 1.02 ** np.arange(100) * (1 + 1e-12)).all()
    assert d[-1] > 1e-6


def test_adam_without_growth_is_adam(x64: None) -> None:
    sequence = Sequence(np.ones(3), support.random_sequence(40).gradients["bias"])
    optimizer = optimizers.dadapt_adam(
        0.5, d0=0.1, growth_rate=1.0, bias_correction=False
    )
    params, _ = run(optimizer, sequence)
    assert_close(params, test_amsgrad.uncorrected_adam(*sequence, 0.05), 1e-13)


def test_adam_without_growth_gives_the_worked_numbers_of_adam(x64: None) -> None:
    params, _ = run(
        optimizers.dadapt_adam(d0=0.1, growth_rate=1.0, bias_correction=False),
        support.T5,
    )
    first = [0.683772333983, 0.839351362523, 0.907016448369, 0.662806467164]
    support.assert_worked_numbers(
        params, [*first, 0.515002391896], (-2.31622775602, -3.07759708433)
    )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_without_growth_is_sgd(momentum: float, x64: None) -> None:
    sequence = Sequence(np.ones(3), support.random_sequence(40).gradients["bias"])
    optimizer = optimizers.dadapt_sgd(0.5, momentum, d0=0.1, growth_rate=1.0)
    params, _ = run(optimizer, sequence)
    rate = 0.05 / np.linalg.norm(sequence.gradients[0]) * (1 - momentum)
    theirs = optax.sgd(rate, momentum=momentum)
    assert_close(params, support.run_optax(theirs, sequence)[0], 1e-13)


@pytest.mark.parametrize(("corrected", "size"), [(False, 3.1622776602), (True, 1.0)])
def test_first_step_of_adam(corrected: bool, size: float, x64: None) -> None:
    sequence = Sequence(np.zeros(2), np.array([[-5.0, 300.0]]))
    optimizer = optimizers.dadapt_adam(0.5, eps=0.0, d0=0.1, bias_correction=corrected)
    params, _ = run(optimizer, sequence)
    np.testing.assert_allclose(params[0], [0.05 * size, -0.05 * size], rtol=1e-10)


def test_first_step_of_sgd(x64: None) -> None:
    sequence = Sequence(np.zeros(3), np.array([[-5.0, 300.0, 0.1]]))
    params, _ = run(optimizers.dadapt_sgd(0.5, 0.9, d0=0.1), sequence)
    np.testing.assert_allclose(np.linalg.norm(params[0]), 0.1 * 0.05, rtol=1e-14)


@pytest.mark.parametrize("method", ["sgd", "adam"])
def test_scale_of_the_loss_has_no_effect(method: str, x64: None) -> None:
    sequence = drifting_sequence(40, seed=3)
    scaled = Sequence(
        sequence.start, jax.tree.map(lambda g: 2.0**-20 * g, sequence.gradients)
    )
    options = {"eps": 0.0} if method == "adam" else {}
    optimizer = METHODS[method][0](d0=0.1, **options)
    one, other = (
        run_with_distances(optimizer, sequence),
        run_with_distances(optimizer, scaled),
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_scaling_the_params_scales_the_distance(x64: None) -> None:
    center = np.array([3.0, -2.0, 0.5])

    def distances(scale: float) -> jax.Array:
        optimizer = optimizers.dadapt_sgd(d0=0.01 * scale)

        def step(carry: PyTree, _: None) -> tuple[PyTree, jax.Array]:
            x, state = carry
            update, state = optimizer.update(jnp.sign(x - scale * center), state, x)
            return (x + update, state), state[0].distance

        x = jnp.zeros(3)
        return jax.lax.scan(step, (x, optimizer.init(x)), length=100)[1]

    np.testing.assert_allclose(distances(8.0), 8.0 * distances(1.0), rtol=1e-14)


@pytest.mark.parametrize(("d_coef", "factor"), [(1.0, 1.0), (2.0, 2.0)])
def test_the_distance_is_bounded_on_convex_functions(
    d_coef: float, factor: float, x64: None
) -> None:
    """Full gradients of |x - c|_2 from d0 = 1e-6: d <= D, and 2 D with the factor."""
    center = jnp.array([3.0, -4.0, 12.0])
    gradient = jax.grad(lambda x: jnp.sqrt(jnp.sum((x - center) ** 2) + 1e-30))
    optimizer = optimizers.dadapt_sgd(d_coef=d_coef)

    @jax.jit
    def descend() -> jax.Array:
        def step(carry: PyTree, _: None) -> tuple[PyTree, jax.Array]:
            x, state = carry
            update, state = optimizer.update(gradient(x), state, x)
            return (x + update, state), state[0].distance

        x = jnp.zeros(3)
        return jax.lax.scan(step, (x, optimizer.init(x)), length=500)[1]

    d = descend()
    assert (d <= factor * 13.0).all()
    assert d[-1] > 0.3 * 13.0


def test_momentum_may_be_injected(x64: None) -> None:
    sequence = support.random_sequence(10)
    injected = optax.inject_hyperparams(optimizers.dadapt_sgd)(momentum=0.0)
    plain = optimizers.dadapt_sgd(momentum=0.0)
    assert_close(run(injected, sequence)[0], run(plain, sequence)[0], 1e-13)


def test_state_is_minimal() -> None:
    params = {"w": jnp.zeros((4, 3), jnp.bfloat16), "b": jnp.zeros(4, jnp.float16)}

    def dtypes(optimizer: optax.GradientTransformation) -> list[str]:
        state = jax.eval_shape(optimizer.init, params)
        return [x.dtype.name for x in jax.tree.leaves(state) if x.shape]

    wide = ["float32"] * 2
    assert dtypes(optimizers.dadapt_sgd()) == wide
    assert dtypes(optimizers.dadapt_sgd(momentum=0.9)) == [
        "float32",
        "bfloat16",
        *wide,
    ]
    assert dtypes(optimizers.dadapt_adagrad()) == [*wide, *wide]
    expected = ["float32", "bfloat16", *wide, *wide]
    assert dtypes(optimizers.dadapt_adam()) == expected


def test_overflow_does_not_change_the_distance() -> None:
    sequence = Sequence(
        np.zeros(2), np.array([[1e-15, 0], [1e15, 1e15], [1e15, 1e15], [1, 1]])
    )
    for make, _ in METHODS.values():
        _, d = run_with_distances(make(), support.cast(sequence, jnp.float32))
        assert np.isfinite(d).all()


def test_overflowing_squares_stop_only_their_elements() -> None:
    gradients = np.array([[1, 1], [1e20, 1], [1, 1], [1, 1]], np.float32)
    optimizer = optimizers.dadapt_adagrad(d0=0.1)
    x, d = run_with_distances(optimizer, Sequence(np.zeros(2, np.float32), gradients))
    assert np.isfinite(x).all()
    assert np.isfinite(d).all()
    assert (np.diff(x[1:, 0]) == 0).all()
    assert (np.diff(x[1:, 1]) < 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_reduce_makes_parts_equal_the_whole(method: str, x64: None) -> None:
    """Two devices, as lanes of a vmap, hold half of the params each."""
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(2, 3)), rng.normal(size=(30, 2, 3))
    make = METHODS[method][0]
    whole, d = run_with_distances(make(d0=0.1), Sequence(start, gradients))
    parts = make(d0=0.1, reduce=lambda x: jax.lax.psum(x, "data"))
    got, got_d = jax.vmap(
        lambda x, g: run_with_distances(parts, Sequence(x, g)),
        in_axes=(0, 1),
        out_axes=(1, 1),
        axis_name="data",
    )(start, gradients)
    np.testing.assert_allclose(got, whole, rtol=1e-12)
    np.testing.assert_allclose(got_d, np.stack([d, d], axis=1), rtol=1e-12)


def test_distances_are_found_inside_wrappers() -> None:
    params = {"a": jnp.zeros(2), "b": jnp.zeros(3)}
    optimizer = optax.chain(
        optax.clip(1.0),
        optax.masked(optimizers.dadapt_sgd(d0=0.5), {"a": True, "b": False}),
        optax.partition(
            {
                "one": optax.inject_hyperparams(optimizers.dadapt_adam)(d0=0.25),
                "two": optimizers.dadapt_adagrad(d0=0.125),
            },
            {"a": "one", "b": "two"},
        ),
    )
    state = optimizer.init(params)
    found = optimizers.distance_estimates(state)
    assert {path: float(d) for path, d in found.items()} == {
        "[1].inner_state[0].distance": 0.5,
        "[2].inner_states['one'].inner_state.inner_state[0].distance": 0.25,
        "[2].inner_states['two'].inner_state[0].distance": 0.125,
    }
    assert optimizers.distance_estimates(optax.adam(0.1).init(params)) == {}
