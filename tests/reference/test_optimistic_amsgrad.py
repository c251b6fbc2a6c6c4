"""Optimistic AMSGrad against NumPy, worked numbers and theory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from tests.reference import support
from tests.reference.support import (
    T5,
    PyTree,
    assert_close,
    assert_worked_numbers,
    flat,
    run,
)

# (gradients so far, newest last) -> prediction of the next
Guess = Callable[[list[np.ndarray]], np.ndarray]


def last(history: list[np.ndarray]) -> np.ndarray:
    return history[-1]


def zero(history: list[np.ndarray]) -> np.ndarray:
    return np.zeros_like(history[-1])


def coefficients(points: list[np.ndarray], regularization: float) -> np.ndarray:
    u = np.diff(np.stack([p.ravel() for p in points]), axis=0)
    z = np.linalg.solve(u @ u.T + regularization * np.eye(len(u)), np.ones(len(u)))
    return z / z.sum()


def rmpe(window: int, regularization: float = 1e-3) -> Guess:
    """Scieur, d'Aspremont and Bach: the average of the older end of each difference."""

    def guess(history: list[np.ndarray]) -> np.ndarray:
        points = history[-window - 1 :]
        if len(points) < 2:
            return np.zeros_like(history[-1])
        c = coefficients(points, regularization)
        return np.einsum("i,i...->...", c, np.stack(points[:-1]))

    return guess


def reference(
    start: np.ndarray,
    gradients: np.ndarray,
    *,
    guess: Guess = last,
    second_moment: str = "gradient",
    learning_rate: float | np.ndarray = 0.1,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Wang et al. (2021), Algorithm 1, with its two sequences of params."""
    rates = np.broadcast_to(learning_rate, len(gradients))
    w_tilde, m = start, np.zeros_like(start)
    theta, v, v_max = (np.zeros_like(start) for _ in range(3))
    trajectory, history = [], []
    for g, rate in zip(gradients, rates, strict=True):
        history.append(g)
        error = g if second_moment == "gradient" else g - m
        theta_before, theta = theta, b1 * theta + (1 - b1) * g
        v = b2 * v + (1 - b2) * error**2
        v_max = np.maximum(v_max, v)
        w_tilde = w_tilde - rate * theta / (np.sqrt(v_max) + eps)
        m = guess(history)
        h = b1 * theta_before + (1 - b1) * m
        trajectory.append(w_tilde - rate * h / (np.sqrt(v_max) + eps))
    return np.stack(trajectory), {"mu": theta, "nu": v, "nu_max": v_max}


PREDICTORS = {
    "none": (None, last),
    "last": (optimizers.last_gradient_predictor(), last),
    "zero": (optimizers.zero_predictor(), zero),
    "rmpe": (optimizers.rmpe_predictor(window=2), rmpe(2)),
}
WORKED = {
    ("none", "gradient"): (
        [
            0.367544667966,
            0.994930391062,
            0.974681534215,
            0.418596485959,
            0.367198316629,
        ],
        (-2.63245551203, -3.26013587652),
    ),
    ("zero", "gradient"): (
        [
            0.683772333983,
            0.712059430081,
            1.04372754018,
            0.693066821677,
            0.300109180744,
        ],
        (-2.31622775602, -3.20052927967),
    ),
    ("rmpe", "gradient"): (
        [
            0.683772333983,
            0.570623949591,
            1.35780444982,
            0.758447624126,
            0.161563374047,
        ],
        (-2.31622775602, -3.15111427443),
    ),
    ("rmpe", "prediction_error"): (
        [
            0.683772333983,
            0.570623949591,
            1.35780444982,
            0.804500540842,
            0.384756958994,
        ],
        (-2.31622775602, -2.95037733094),
    ),
    ("none", "prediction_error"): (
        [
            0.367544667966,
            0.903783312806,
            0.870681373269,
            0.410394065757,
            0.430715940637,
        ],
        (-2.63245551203, -2.9883135129),
    ),
}
WORKED["last", "gradient"] = WORKED["none", "gradient"]
WORKED["last", "prediction_error"] = WORKED["none", "prediction_error"]


@pytest.mark.parametrize("case", WORKED, ids="-".join)
def test_worked_numbers(case: tuple[str, str], x64: None) -> None:
    predictor, guess = PREDICTORS[case[0]]
    expected, _ = reference(*T5, guess=guess, second_moment=case[1])
    assert_worked_numbers(expected, *WORKED[case])
    optimizer = optimizers.optimistic_amsgrad(
        0.1, predictor=predictor, second_moment=case[1]
    )
    assert_worked_numbers(run(optimizer, T5)[0], *WORKED[case])


@pytest.mark.parametrize("second_moment", ["gradient", "prediction_error"])
@pytest.mark.parametrize("predictor", ["none", "last", "zero"])
@pytest.mark.parametrize(
    "options", [{}, {"b1": 0.0}, {"b1": 0.5, "b2": 0.7, "eps": 1e-3}], ids=str
)
def test_follows_the_equations(
    options: dict[str, float], predictor: str, second_moment: str, x64: None
) -> None:
    sequence = support.random_sequence(50)
    ours, guess = PREDICTORS[predictor]
    options = {**options, "second_moment": second_moment}
    params, _ = run(
        optimizers.optimistic_amsgrad(0.1, predictor=ours, **options), sequence
    )
    expected = support.run_reference(
        lambda x, g: reference(x, g, guess=guess, **options), sequence
    )
    assert_close(params, expected, 1e-12)


def predictions(predictor: optimizers.Predictor, gradients: PyTree) -> PyTree:
    """Returns the prediction of each step."""
    first = jax.tree.map(lambda g: g[0], gradients)

    def step(state: PyTree, g: PyTree) -> tuple[PyTree, PyTree]:
        prediction, state = predictor.predict(g, state)
        return state, prediction

    return jax.lax.scan(step, predictor.init(first), gradients)[1]


def smooth_sequence(steps: int) -> support.Sequence:
    """A tree whose gradients are of one size: (2) of RMPE is well conditioned."""
    start = support.random_sequence(1).start
    rng = np.random.default_rng(3)
    return support.Sequence(
        start, jax.tree.map(lambda x: rng.normal(size=(steps, *np.shape(x))), start)
    )


@pytest.mark.parametrize("second_moment", ["gradient", "prediction_error"])
@pytest.mark.parametrize(
    ("window", "regularization"), [(5, 1e-3), (1, 1e-3), (2, 1e-3), (3, 10.0)]
)
def test_rmpe_follows_the_equations_over_the_whole_tree(
    window: int, regularization: float, second_moment: str, x64: None
) -> None:
    sequence = smooth_sequence(50)
    predictor = optimizers.rmpe_predictor(window, regularization)
    params, _ = run(
        optimizers.optimistic_amsgrad(
            0.1, predictor=predictor, second_moment=second_moment
        ),
        sequence,
    )
    expected, _ = reference(
        flat(sequence.start),
        flat(sequence.gradients, 1),
        guess=rmpe(window, regularization),
        second_moment=second_moment,
    )
    np.testing.assert_allclose(flat(params, 1), expected, rtol=1e-12, atol=1e-12)


def test_state_holds_the_moments(x64: None) -> None:
    _, state = run(optimizers.scale_by_optimistic_amsgrad(0.1), T5)
    _, expected = reference(*T5)
    assert_close(
        {"mu": state.mu, "nu": state.nu, "nu_max": state.nu_max}, expected, 1e-13
    )
    assert state.count == 5
    assert state.rate == 0.1
    assert (state.mu_next, state.prediction, state.predictor_state) == ((), (), ())


def test_the_last_rate_is_as_wide_as_the_params(x64: None) -> None:
    tx = optimizers.scale_by_optimistic_amsgrad(0.1)
    for dtype, wide in (("bfloat16", "float32"), ("complex128", "float64")):
        assert tx.init(jnp.ones(2, dtype)).rate.dtype == wide


def test_a_schedule_subtracts_the_last_step_at_its_own_rate(x64: None) -> None:
    sequence = support.random_sequence(30)
    rates = np.array([0.0, *np.random.default_rng(0).random(29)])
    params, _ = run(
        optimizers.optimistic_amsgrad(lambda count: jnp.asarray(rates)[count]), sequence
    )
    expected = support.run_reference(
        lambda x, g: reference(x, g, learning_rate=rates), sequence
    )
    assert_close(params, expected, 1e-12)


@pytest.mark.parametrize("b1", [0.0, 0.9])
def test_last_gradient_is_optimistic_adam_with_a_maximum(b1: float, x64: None) -> None:
    """Daskalakis et al.: x - 2 rate r_t + rate r_{t-1}, with r of uncorrected AMSGrad.

    Optax starts from r_0 = r_1, the paper from r_0 = 0: that is one more rate r_1.
    """
    sequence = support.random_sequence(40)
    optax_chain = optax.chain(
        optimizers.scale_by_amsgrad(b1=b1, variant="paper"),
        optax.scale_by_optimistic_gradient(),
        optax.scale_by_learning_rate(0.1),
    )
    theirs, _ = support.run_optax(optax_chain, sequence)
    ours, _ = run(optimizers.optimistic_amsgrad(0.1, b1=b1), sequence)
    shifted = jax.tree.map(lambda a, b: b + (a[:1] - b[:1]), ours, theirs)
    assert_close(ours, shifted, 1e-12)


def test_zero_without_momentum_is_amsgrad(x64: None) -> None:
    sequence = support.random_sequence(40)
    predictor = optimizers.zero_predictor()
    params, _ = run(
        optimizers.optimistic_amsgrad(0.1, b1=0.0, predictor=predictor), sequence
    )
    amsgrad, _ = run(optimizers.amsgrad(0.1, b1=0.0, variant="paper"), sequence)
    assert_close(params, amsgrad, 1e-12)


@pytest.mark.parametrize(
    ("predictor", "first"),
    [("none", 6.3245553), ("zero", 3.1622777), ("rmpe", 3.1622777)],
)
def test_first_step(predictor: str, first: float, x64: None) -> None:
    sequence = support.Sequence(np.zeros(2), np.array([[-5.0, 300.0]]))
    ours, _ = PREDICTORS[predictor]
    params, _ = run(optimizers.optimistic_amsgrad(1.0, predictor=ours), sequence)
    np.testing.assert_allclose(params[0], [first, -first], rtol=1e-6)


@pytest.mark.parametrize("second_moment", ["gradient", "prediction_error"])
def test_the_maximum_never_shrinks(second_moment: str, x64: None) -> None:
    gradients = jnp.asarray(support.random_sequence(50).gradients["bias"])
    primitive = optimizers.scale_by_optimistic_amsgrad(0.1, second_moment=second_moment)

    def step(state: optax.OptState, g: jax.Array) -> tuple[optax.OptState, jax.Array]:
        _, state = primitive.update(g, state)
        return state, state.nu_max

    _, maxima = jax.lax.scan(step, primitive.init(jnp.zeros(3)), gradients)
    assert (np.diff(maxima, axis=0) >= 0).all()


def test_bad_predictors_are_refused() -> None:
    with pytest.raises(ValueError, match="optimistic_amsgrad: predictor must be"):
        optimizers.optimistic_amsgrad(
            0.1,
            predictor="rmpe",  # pyright: ignore[reportArgumentType]
        )


def test_a_custom_predictor_that_knows_the_next_gradient(x64: None) -> None:
    """With the true next gradient as prediction, h is the average of an older one."""
    sequence = support.random_sequence(20)
    gradients = jax.tree.map(jnp.asarray, sequence.gradients)
    oracle = optimizers.Predictor(
        lambda params: jnp.zeros([], jnp.int32),
        lambda gradient, t: (jax.tree.map(lambda g: g[(t + 1) % 20], gradients), t + 1),
    )
    params, _ = run(optimizers.optimistic_amsgrad(0.1, predictor=oracle), sequence)
    expected = support.run_reference(
        lambda x, g: reference(x, g, guess=lambda past: g[len(past) % 20]), sequence
    )
    assert_close(params, expected, 1e-12)


@pytest.mark.parametrize(
    ("predictor", "expected"),
    [
        ("last", [2.7824, 1.735377, 0.675056, 0.102148]),
        ("rmpe", [2.760993, 1.606871, 0.674022, 0.105569]),
    ],
)
def test_predictors_on_a_parabola(
    predictor: str, expected: list[float], x64: None
) -> None:
    """Gradient descent with a predicted half step on w^2 / 2, at t = 5, 10, 20, 40."""
    ours = {
        "last": optimizers.last_gradient_predictor(),
        "rmpe": optimizers.rmpe_predictor(),
    }[predictor]

    def step(carry: PyTree, _: None) -> tuple[PyTree, jax.Array]:
        w_tilde, w, state = carry
        w_tilde = w_tilde - 0.1 * w
        prediction, state = ours.predict(w, state)
        w = w_tilde - 0.1 * prediction
        return (w_tilde, w, state), w

    start = jnp.asarray(5.0)
    _, path = jax.lax.scan(step, (start, start, ours.init(start)), length=40)
    np.testing.assert_allclose(path[jnp.asarray([4, 9, 19, 39])], expected, atol=6e-7)


@pytest.mark.parametrize(
    ("window", "share", "distance"),
    [(None, 1 / 3, 1.1078), (3, 1.0, 1.1079), (5, 1.0, 1.1083)],
)
def test_predictors_on_alternating_slopes(
    window: int | None, share: float, distance: float, x64: None
) -> None:
    """3w every third round, else -w, on [-1, 1], with the best point at -1.

    How often the prediction points there, once a period has been seen, and how far
    from it w is on average. The mean distance of gradient descent is 1.1117.
    """
    slopes = np.where(np.arange(300) % 3 == 0, 3.0, -1.0)
    predictor = optimizers.last_gradient_predictor()
    if window is not None:
        predictor = optimizers.rmpe_predictor(window)
    guesses = np.asarray(predictions(predictor, jnp.asarray(slopes)))
    assert np.mean(guesses[3:] > 0) == share
    rates = 0.1 / np.sqrt(np.arange(1, 302))
    w_tilde, w, distances = 1.0, 1.0, []
    for t, (slope, guess) in enumerate(zip(slopes, guesses, strict=True)):
        distances.append(w + 1)
        w_tilde = np.clip(w_tilde - rates[t] * slope, -1, 1)
        w = np.clip(w_tilde - rates[t + 1] * guess, -1, 1)
    np.testing.assert_allclose(np.mean(distances), distance, atol=5e-5)
