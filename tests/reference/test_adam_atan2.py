"""Adam-atan2 against NumPy, worked numbers, its invariance and its arctangent."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from optimizers import _adam_atan2, testing
from tests.reference import support
from tests.reference.support import T5, assert_close, assert_worked_numbers, run


def reference(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    learning_rate: float,
    b1: float = 0.9,
    b2: float = 0.999,
    a: float = 1.27,
    b: float = 1.0,
    weight_decay: float = 0.0,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Everett et al., with the second moment itself."""
    x, m, v = start, np.zeros_like(start), np.zeros_like(start.real)
    trajectory = []
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        size, scale = np.abs(m) / (1 - b1**t), b * np.sqrt(v / (1 - b2**t))
        way = m / np.where(size == 0, 1, np.abs(m))
        d = a * np.arctan2(size, scale) * way
        x = x - learning_rate * (d + weight_decay * x)
        trajectory.append(x)
    return np.stack(trajectory), {"mu": m, "nu_sqrt": np.sqrt(v)}


def sizes(steps: int, shape: tuple[int, ...], decades: float) -> np.ndarray:
    """Gradients whose entries spread over so many decades around 1."""
    rng = np.random.default_rng(0)
    spread = 10 ** rng.uniform(-decades / 2, decades / 2, shape)
    return np.float32(rng.choice([-1.0, 1.0], (steps, *shape)) * spread) * np.float32(
        rng.uniform(0.5, 1.0, (steps, *shape))
    )


@jax.jit
def _directions(gradients: jax.Array) -> jax.Array:
    primitive = optimizers.scale_by_adam_atan2()

    def step(state: optax.OptState, g: jax.Array) -> tuple[optax.OptState, jax.Array]:
        direction, state = primitive.update(g, state)
        return state, direction

    return jax.lax.scan(step, primitive.init(gradients[0]), gradients)[1]


def directions(gradients: np.ndarray, dtype: jax.typing.DTypeLike) -> np.ndarray:
    """Returns the updates of the primitive at each step."""
    result = _directions(jnp.asarray(gradients, dtype))
    assert result.dtype == dtype
    return np.asarray(result.astype(np.float32))


WORKED = {
    1.27: (
        [
            0.900254433249,
            0.944824867658,
            0.962077659739,
            0.908503897764,
            0.876799396202,
        ],
        (-2.09974556675, -2.28376852802),
    ),
    4 / np.pi: (
        [0.9, 0.944684125682, 0.961980926575, 0.908270507436, 0.876485133314],
        (-2.1, -2.2844923712),
    ),
}


@pytest.mark.parametrize("a", WORKED)
def test_worked_numbers(a: float, x64: None) -> None:
    assert_worked_numbers(reference(*T5, learning_rate=0.1, a=a)[0], *WORKED[a])
    params, _ = run(optimizers.adam_atan2(0.1, a=a), T5)
    assert_worked_numbers(params, *WORKED[a])


def test_worked_state(x64: None) -> None:
    _, state = run(optimizers.scale_by_adam_atan2(), T5)
    expected = reference(*T5, learning_rate=0.1)[1]
    assert_close({"mu": state.mu, "nu_sqrt": state.nu_sqrt}, expected, 1e-14)
    assert state.count == 5


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"b1": 0.0},
        {"b2": 0.0},
        {"b1": 0.5, "b2": 0.7, "a": 2.0, "b": 0.3},
        {"weight_decay": 0.1},
    ],
    ids=str,
)
def test_follows_the_equations(options: dict[str, float]) -> None:
    testing.assert_matches_reference(
        optimizers.adam_atan2(0.1, **options),
        lambda x, g: reference(x, g, learning_rate=0.1, **options)[0],
    )


def test_follows_the_equations_in_float32() -> None:
    sequence = support.random_sequence(50)
    params, _ = run(optimizers.adam_atan2(0.1), support.cast(sequence, jnp.float32))
    expected = support.run_reference(
        lambda x, g: reference(x, g, learning_rate=0.1), sequence
    )
    assert_close(params, expected, 2e-5)  # 1 - 0.999 in float32, to the power of t


def test_complex_gradients_keep_their_phase(x64: None) -> None:
    rng = np.random.default_rng(0)
    start, *gradients = rng.normal(size=(51, 3)) + 1j * rng.normal(size=(51, 3))
    gradients = np.stack(gradients)
    sequence = support.Sequence(start, gradients)
    params, state = run(optimizers.adam_atan2(0.1), sequence)
    assert_close(params, reference(*sequence, learning_rate=0.1)[0], 1e-12)
    assert state[0].nu_sqrt.dtype == np.float64
    turn = np.exp(0.7j)
    turned, _ = run(
        optimizers.adam_atan2(0.1), support.Sequence(turn * start, turn * gradients)
    )
    assert_close(turned, turn * params, 1e-12)


def test_real_gradients_are_complex_ones_on_the_real_axis(x64: None) -> None:
    sequence = support.random_sequence(50, seed=1)
    params, _ = run(optimizers.adam_atan2(0.1), sequence)
    on_axis, _ = run(optimizers.adam_atan2(0.1), support.cast(sequence, jnp.complex128))
    assert_close(on_axis, support.cast(params, jnp.complex128), 1e-13)


def test_large_a_and_b_make_it_adam_without_eps(x64: None) -> None:
    """The angle is the ratio, to a third of the square of what it is divided by."""
    params, _ = run(optimizers.adam_atan2(0.1, a=1e4, b=1e4), T5)
    expected, _ = run(optimizers.adam(0.1, eps=0.0), T5)
    assert_close(params, expected, 5e-10)
    sequence = support.cast(support.random_sequence(50), jnp.float32)
    params, _ = run(optimizers.adam_atan2(0.1, a=1e6, b=1e6), sequence)
    expected, _ = run(optimizers.adam(0.1, eps=0.0), sequence)
    assert_close(params, expected, 1e-5)


def test_first_step(x64: None) -> None:
    sequence = support.Sequence(np.zeros(3), np.array([[5.0, -1e-200, 0.0]]))
    params, _ = run(optimizers.adam_atan2(0.1), sequence)
    step = 0.1 * 1.27 * np.pi / 4
    np.testing.assert_allclose(params[0], [-step, step, 0.0], rtol=1e-14)


@pytest.mark.parametrize(
    ("ratio", "angle"),
    [
        (0.1, 0.126579),
        (0.3, 0.370150),
        (1.0, 0.997456),
        (2.0, 1.406079),
        (3.16228, 1.605939),
    ],
)
def test_length_of_a_step_by_ratio(ratio: float, angle: float) -> None:
    """On the first step, where the ratio of the moments is 1 / b."""
    primitive = optimizers.scale_by_adam_atan2(b=1 / ratio)
    direction, _ = primitive.update(jnp.array(-7.0), primitive.init(jnp.zeros([])))
    np.testing.assert_allclose(direction, -angle, atol=6e-7)


def test_no_step_exceeds_the_bound(x64: None) -> None:
    """Gradients that grow like (b1 / b2)^-t drive Adam's ratio towards 7.27."""
    growing = (0.999 / 0.9) ** np.arange(300)[:, None]
    params, _ = run(
        optimizers.scale_by_adam_atan2(), support.Sequence(np.zeros(1), growing)
    )
    steps = np.diff(params[:, 0], prepend=0.0)
    limit = (1 - 0.9) / np.sqrt((1 - 0.999) * (1 - 0.9**2 / 0.999))
    corrected = limit * np.sqrt(1 - 0.999**300) / (1 - 0.9**300)
    np.testing.assert_allclose(steps[-1], 1.27 * np.arctan(corrected), rtol=1e-9)
    params, _ = run(
        optimizers.scale_by_adam_atan2(b=1e-6), support.Sequence(np.zeros(1), growing)
    )
    steps = np.diff(params[:, 0], prepend=0.0)
    assert 1.99490 < steps.max() <= 1.27 * np.pi / 2


# Up to 1e30 by 1e-30 of float32, whose largest number is 3.4e38 and smallest 1.2e-38.
POWERS = [-90, -60, -30, -10, 10, 30, 60, 99]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("power", POWERS)
def test_powers_of_two_leave_the_bits(power: int, dtype: jax.typing.DTypeLike) -> None:
    gradients = sizes(200, (50,), decades=6)
    expected = directions(gradients, dtype)
    assert np.abs(expected).max() > 0.9
    np.testing.assert_array_equal(directions(gradients * 2.0**power, dtype), expected)


@pytest.mark.parametrize("scale", [1e-27, 1e-20, 1e-10, 1e10, 1e20, 1e30])
def test_scales_leave_the_steps(scale: float) -> None:
    gradients = sizes(200, (50,), decades=6)
    scaled = directions(gradients * scale, jnp.float32)
    np.testing.assert_allclose(scaled, directions(gradients, jnp.float32), atol=2e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
def test_scale_of_the_smallest_gradients(dtype: jax.typing.DTypeLike) -> None:
    gradients = sizes(200, (50,), decades=0)
    expected = directions(gradients, dtype)
    np.testing.assert_array_equal(directions(gradients * 2.0**-100, dtype), expected)
    tolerance = 2e-5 if dtype == jnp.float32 else 0.02
    scaled = directions(gradients * 1e-30, dtype)
    np.testing.assert_allclose(scaled, expected, atol=tolerance)


def test_scales_leave_the_steps_in_float64(x64: None) -> None:
    gradients = sizes(50, (20,), decades=6).astype(float)
    expected, _ = run(
        optimizers.scale_by_adam_atan2(), support.Sequence(np.zeros(20), gradients)
    )
    for scale in (1e-290, 1e-200, 1e200, 1e290):
        sequence = support.Sequence(np.zeros(20), scale * gradients)
        assert_close(
            run(optimizers.scale_by_adam_atan2(), sequence)[0], expected, 1e-12
        )
    sequence = support.Sequence(np.zeros(20), 2.0**-900 * gradients)
    np.testing.assert_array_equal(
        run(optimizers.scale_by_adam_atan2(), sequence)[0], expected
    )


def test_small_losses_train_as_well_as_large_ones(x64: None) -> None:
    """Loss after 300 steps by loss before, where Adam's eps stops it."""
    scales = 10.0 ** -np.arange(0, 14, 2)

    def remaining(optimizer: optax.GradientTransformation) -> jax.Array:
        curvature = jnp.array([1.0, 0.1])
        start = jnp.array([1.0, -2.0])

        def step(carry: support.PyTree, _: None) -> tuple[support.PyTree, None]:
            x, state, scale = carry
            updates, state = optimizer.update(scale * curvature * x, state, x)
            return (x + updates, state, scale), None

        def train(scale: jax.Array) -> jax.Array:
            carry = (start, optimizer.init(start), scale)
            (x, _, _), _ = jax.lax.scan(step, carry, length=300)
            return jnp.sum(curvature * x**2) / jnp.sum(curvature * start**2)

        return jax.jit(jax.vmap(train))(jnp.asarray(scales))

    adam = remaining(optimizers.adam(0.01))
    expected = [0.00229, 0.00364, 0.1888, 0.957, 0.9996]
    np.testing.assert_allclose(np.delete(adam, [1, 2]), expected, rtol=2e-3)
    small = remaining(optimizers.adam(0.01, eps=1e-15))
    np.testing.assert_allclose(small, [0.00229] * 6 + [0.00241], rtol=3e-3)
    np.testing.assert_allclose(
        remaining(optimizers.adam_atan2(0.01)), 0.000858, atol=5e-7
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["f32", "f64"])
def test_derivative_at_zero_gradients_is_finite(
    dtype: jax.typing.DTypeLike, x64: None
) -> None:
    primitive = optimizers.scale_by_adam_atan2()

    def direction(g: jax.Array) -> jax.Array:
        return jnp.sum(primitive.update(g, primitive.init(g))[0])

    gradient = jax.grad(direction)(jnp.array([0.0, 1.0, -1.0], dtype))
    assert np.isfinite(gradient).all()


def test_arctangent_in_float32() -> None:
    rng = np.random.default_rng(0)
    y = np.float32(10 ** rng.uniform(-15, 15, 500_000))
    x = np.float32(y * 10 ** rng.uniform([-5, -20], [5, 20], (250_000, 2)).ravel())
    actual = np.asarray(jax.jit(_adam_atan2._arctangent)(y, x), float)
    expected = np.arctan2(y.astype(float), x.astype(float))
    assert np.abs(actual - expected).max() < 1.8e-7
    assert np.abs(actual / expected - 1).max() < 1.8e-7


def test_arctangent_in_float64(x64: None) -> None:
    y, x = 10 ** np.random.default_rng(0).uniform(-3, 3, (2, 10_000))
    actual = _adam_atan2._arctangent(jnp.asarray(y), jnp.asarray(x))
    np.testing.assert_allclose(actual, np.arctan2(y, x), rtol=1e-15)


def test_arctangent_at_the_ends() -> None:
    ends = np.float32([0.0, 1e-30, 1.0, 1e30, np.inf])
    pairs = [(y, x) for y, x in itertools.product(ends, ends) if y != np.inf or y != x]
    y, x = np.array(pairs).T
    np.testing.assert_allclose(
        _adam_atan2._arctangent(y, x), np.arctan2(y, x), rtol=1.8e-7, atol=1e-37
    )


def test_arctangent_polynomial_is_the_best_of_its_degree() -> None:
    """The error of a best fit with 8 coefficients swings 9 times, equally far."""
    z = (1 - np.cos(np.linspace(0.0, np.pi, 20_001)[1:])) / 2
    powers = z[:, None] ** (2 * np.arange(1, 9))
    error = (z + z * (powers @ _adam_atan2._ARCTANGENT)) / np.arctan(z) - 1
    error = error[np.abs(error) > 1e-9]
    swings = np.split(error, np.flatnonzero(np.diff(np.sign(error))) + 1)
    heights = np.array([np.abs(swing).max() for swing in swings])
    assert len(heights) == 9
    assert heights.max() < 2e-8
    assert heights.min() > 0.8 * heights.max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"b1": 1.0}, "b1 must be in"),
        ({"b2": -0.1}, "b2 must be in"),
        ({"a": 0.0}, "a must be a finite number > 0"),
        ({"b": 0.0}, "b must be a finite number > 0"),
    ],
)
def test_refuses(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^adam_atan2: {message}"):
        optimizers.adam_atan2(0.1, **arguments)
    with pytest.raises(ValueError, match=f"^scale_by_adam_atan2: {message}"):
        optimizers.scale_by_adam_atan2(**arguments)
