"""Bloop against NumPy, worked numbers, its theory and its headline claim."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optimizers
from tests.reference import surgery
from tests.reference.surgery import AUX, MAIN, TWELVE_DIGITS, project, run


def reference(
    main: np.ndarray,
    aux: list[np.ndarray],
    weights: list[Any],
    *,
    ema_rate: float = 0.01,
    rescale: bool = False,
    use_updated_ema: bool = False,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Hsieh et al., equations of section 3, with a least-squares fit as projection."""
    averages = [np.zeros(main.shape[1]) for _ in aux]
    rows = []
    for t, g in enumerate(main):
        levels = [g] + [a[t] for a in aux]
        updated = [
            (1 - ema_rate) * m + ema_rate * x
            for m, x in zip(averages, levels[:-1], strict=True)
        ]
        above = updated if use_updated_ema else averages
        now = [w(t) if callable(w) else w for w in weights]
        d = g
        for k, weight in enumerate(now):
            span = np.stack([m / (np.linalg.norm(m) or 1) for m in above[: k + 1]], 1)
            fit = np.linalg.lstsq(span, levels[k + 1], rcond=1e-12)[0]
            d = d + weight * (levels[k + 1] - span @ fit)
        rows.append(d / (1 + sum(now)) if rescale else d)
        averages = updated
    return np.stack(rows), averages


FROM_ZEROS = [
    [1.15, 1.5, 0.0],
    [0.833333333333, 1.16666666667, 0.916666666667],
    [-0.531829298117, 0.586341403766, 0.687992174126],
    [0.744353888122, -0.0787609874381, 0.097797460681],
]
FROM_FIRST = [
    [1.45833333333, 2.11666666667, -0.308333333333],
    [0.833333333333, 1.16666666667, 0.916666666667],
    [-0.519070455891, 0.611859088218, 0.713617525163],
    [0.702102772074, -0.0647546693052, 0.272419441097],
]
RELEASED = [
    [0.82226169331, 1.14452338662, 0.91370633511],
    [-0.521522374923, 0.600102807048, 0.712314404499],
    [0.685150352659, -0.0543772676946, 0.26142792204],
]


def falling(count: Any) -> jax.Array:
    return 0.5 / (1.0 + jnp.asarray(count).astype(float))


def rising(count: Any) -> jax.Array:
    return 0.1 * jnp.asarray(count).astype(float)


def start_at(average: np.ndarray, like: Any) -> Any:
    """A state with this average, in the dtype that the method has chosen for it."""
    (old,) = like.grad_average
    return like._replace(grad_average=(jnp.asarray(average, old.dtype),))


def assert_worked(directions: Any, expected: list[list[float]]) -> None:
    np.testing.assert_allclose(
        directions, expected, rtol=TWELVE_DIGITS, atol=TWELVE_DIGITS
    )


def test_worked_numbers(x64: None) -> None:
    bloop = optimizers.bloop(0.5, ema_rate=0.1)
    zeros = bloop.init(jnp.zeros(3))
    directions, state = run(bloop, MAIN, AUX)
    assert_worked(directions, FROM_ZEROS)
    assert_worked(state.grad_average[0], [0.1754, 0.2528, 0.03135])
    assert_worked(reference(MAIN, [AUX], [0.5], ema_rate=0.1)[0], FROM_ZEROS)
    directions, state = run(bloop, MAIN, AUX, start_at(MAIN[0], zeros))
    assert_worked(directions, FROM_FIRST)
    assert_worked(state.grad_average[0], [0.8315, 1.565, -0.62475])
    released = optimizers.bloop(0.5, ema_rate=0.1, use_updated_ema=True)
    after_first = start_at(MAIN[0], zeros)
    assert_worked(run(released, MAIN[1:], AUX[1:], after_first)[0], RELEASED)
    full_batch = optimizers.bloop(0.5, ema_rate=1.0, use_updated_ema=True)
    second = [[0.666666666667, 0.833333333333, 0.583333333333]]
    assert_worked(run(full_batch, MAIN[:2], AUX[:2])[0], [FROM_FIRST[0], *second])


@pytest.mark.parametrize(
    ("weights", "options"),
    [
        ([0.3], {"rescale": True}),
        ([falling], {"ema_rate": 0.3, "rescale": True}),
        ([0.5, 0.2, 0.9], {"ema_rate": 0.2, "rescale": True}),
        ([0.5, rising], {"ema_rate": 0.2, "use_updated_ema": True}),
    ],
    ids=["one", "scheduled", "three", "released order"],
)
def test_follows_the_equations(
    weights: Any, options: dict[str, Any], x64: None
) -> None:
    main = surgery.random_gradients(30, 7)
    aux = [surgery.random_gradients(30, 7, seed) for seed in range(1, len(weights) + 1)]
    expected, averages = reference(main, aux, weights, **options)
    several = len(weights) > 1
    trees = tuple(map(surgery.split, aux))
    directions, state = run(
        optimizers.bloop(weights if several else weights[0], **options),
        surgery.split(main),
        trees if several else trees[0],
    )
    np.testing.assert_allclose(surgery.joined(directions), expected, rtol=1e-12)
    for got, average in zip(state.grad_average, averages, strict=True):
        flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(got)])
        np.testing.assert_allclose(flat, average, rtol=1e-12)


# Of the average: from the smallest to the largest gradients that training meets.
SCALES = [1e-30, 1e-8, 1e-4, 1.0, 1e4, 1e8, 1e25]


@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-15), ("float32", 5e-7)])
def test_auxiliary_part_is_orthogonal_to_averages_of_every_size(
    dtype: str, limit: float, x64: None
) -> None:
    rows = surgery.random_gradients(2, 1000, seed=5)
    m = jnp.asarray(rows[0], dtype)
    nearly_along = 3.0 * m + jnp.asarray(0.01 * rows[1], dtype)
    bloop = optimizers.bloop(1.0)
    zeros = jnp.zeros_like(m)
    state = bloop.init(zeros)
    step = jax.jit(bloop.update)
    for aux in (jnp.asarray(rows[1], dtype), nearly_along):
        at_one = step(zeros, start_at(m, state), aux_grads=aux)[0]
        for scale in SCALES:
            average = m * jnp.asarray(scale, dtype)
            pi = step(zeros, start_at(average, state), aux_grads=aux)[0]
            assert surgery.misalignment(pi, aux, average) <= limit, scale
            tolerance = 1e-12 if dtype == "float64" else 5e-6
            np.testing.assert_allclose(
                pi, at_one, rtol=0.0, atol=tolerance * jnp.abs(aux).max()
            )
        # A power of two changes no bit.
        power = step(zeros, start_at(m * 2.0**-40, state), aux_grads=aux)[0]
        np.testing.assert_array_equal(power, at_one)


def test_auxiliary_gradients_of_every_size_are_projected(x64: None) -> None:
    rows = surgery.random_gradients(2, 50, seed=6).astype(np.float32)
    bloop = optimizers.bloop(1.0)
    zeros = jnp.zeros(50, jnp.float32)
    state = start_at(rows[0], bloop.init(zeros))
    for scale in (1e-30, 1e25):
        aux = rows[1] * np.float32(scale)
        pi = bloop.update(zeros, state, aux_grads=aux)[0]
        expected = project(aux.astype(np.float64), rows[0])
        np.testing.assert_allclose(pi, expected, rtol=1e-4, atol=1e-6 * scale)


def test_nothing_to_project_on(x64: None) -> None:
    """Until an average is not zero, gradients are mixed; 0/0 is never seen."""
    zero = jnp.zeros(3)
    bloop = optimizers.bloop([0.5, 0.5])
    with jax.debug_nans(True):
        state = bloop.init(zero)
        nothing, state = bloop.update(zero, state, aux_grads=(zero, zero))
        np.testing.assert_array_equal(nothing, zero)
        mixed, state = bloop.update(zero, state, aux_grads=(AUX[0], AUX[1]))
    np.testing.assert_allclose(mixed, 0.5 * AUX[0] + 0.5 * AUX[1], rtol=1e-15)
    projected, _ = bloop.update(zero, state, aux_grads=(zero, AUX[2]))
    np.testing.assert_allclose(projected, 0.5 * project(AUX[2], AUX[0]), rtol=1e-14)


def test_weight_zero_has_no_effect_on_any_bit() -> None:
    grads = jnp.array([1.0, -0.0, 3e38, 1e-45, jnp.nan])
    aux = jnp.array([1.0, 2.0, 3.0, 4.0, jnp.inf])
    for weight in (0.0, [0.0, 0.0]):
        given = (aux, aux) if isinstance(weight, list) else aux
        same = surgery.first(optimizers.bloop(weight), grads, given)
        assert np.asarray(same).tobytes() == np.asarray(grads).tobytes()
    scheduled = optimizers.bloop(lambda count: jnp.where(count < 1, 0.0, 1.0))
    np.testing.assert_array_equal(
        surgery.first(scheduled, grads[:3], aux[:3]), grads[:3]
    )


def test_average_changes_in_bfloat16() -> None:
    """In bfloat16 itself it would stop at 1.109 on its way from 1 to 1.5."""
    bloop = optimizers.bloop(0.5)
    one, target = jnp.ones(2, jnp.bfloat16), jnp.full((1000, 2), 1.5, jnp.bfloat16)
    state = start_at(jnp.ones(2), bloop.init(one))
    directions, state = run(bloop, target, target, state)
    assert directions.dtype == jnp.bfloat16
    np.testing.assert_allclose(state.grad_average[0], 1.5, rtol=1e-4)


def test_with_its_own_gradient_as_average(x64: None) -> None:
    """The geometry of the full-batch method, in both orders."""
    g, a = surgery.random_gradients(2, 20, seed=7)
    weight = 0.7
    bloop = optimizers.bloop(weight, ema_rate=1.0, use_updated_ema=True)
    d = np.asarray(surgery.first(bloop, g, a))
    pi = project(a, g)
    np.testing.assert_allclose(d, g + weight * pi, rtol=1e-13)
    np.testing.assert_allclose(d @ g, g @ g, rtol=1e-14)
    np.testing.assert_allclose(d @ d, g @ g + weight**2 * pi @ pi, rtol=1e-14)
    # An auxiliary loss that is the opposite of the main one gets nothing.
    against = np.asarray(surgery.first(bloop, g, -3.0 * g))
    np.testing.assert_allclose(against, g, rtol=1e-14)
    old = optimizers.bloop(weight, ema_rate=1.0)
    directions, _ = run(old, np.stack([g, g]), np.stack([a, a]))
    np.testing.assert_allclose(directions[0], g + weight * a, rtol=1e-15)
    np.testing.assert_allclose(directions[1], d, rtol=1e-14)


def test_average_of_pure_noise_removes_one_dimension(x64: None) -> None:
    """The expectation of the auxiliary part is then (1 - 1/p) a."""
    p, draws = 10, 20_000
    a = surgery.random_gradients(1, p)[0]
    noise = np.random.default_rng(8).normal(size=(draws, p))
    bloop = optimizers.bloop(1.0)
    zeros = jnp.zeros(p)
    state = bloop.init(zeros)
    parts = jax.jit(
        jax.vmap(lambda m: bloop.update(zeros, start_at(m, state), aux_grads=a)[0])
    )(noise)
    # The largest of ten standard errors of the mean is below 0.005 |a|.
    error = np.abs(np.mean(parts, axis=0) - (1 - 1 / p) * a).max()
    assert error < 0.005 * np.linalg.norm(a) < 0.1 / p * np.linalg.norm(a)


def test_two_dimensions_by_hand(x64: None) -> None:
    """Main loss x²/2, auxiliary ((x - 1)² + y²)/2: full-batch Bloop ends at (0, 0)."""

    def train(method: Any, steps: int) -> np.ndarray:
        def step(_: int, carry: Any) -> Any:
            x, state = carry
            main, aux = jnp.array([x[0], 0.0]), jnp.array([x[0] - 1.0, x[1]])
            d, state = method.update(main, state, aux_grads=aux)
            return x - 0.1 * d, state

        x = jnp.array([1.0, 2.0])
        return jax.lax.fori_loop(0, steps, step, (x, method.init(x)))[0]

    bloop = optimizers.bloop(0.5, ema_rate=1.0, use_updated_ema=True)
    mixed = optimizers.mixed_gradients(0.5)
    np.testing.assert_allclose(train(bloop, 5), [0.59049, 1.547561875], rtol=1e-12)
    np.testing.assert_allclose(train(mixed, 5), [0.629136875, 1.547561875], rtol=1e-12)
    np.testing.assert_allclose(train(bloop, 1000), [0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(train(mixed, 1000), [1 / 3, 0.0], atol=1e-12)


def test_levels_are_projected_in_order(x64: None) -> None:
    """Each part is orthogonal to all averages above, however close these are."""
    m, close, free = surgery.random_gradients(3, 40, seed=9)
    a, b = surgery.random_gradients(2, 40, seed=10)
    close = m + 1e-9 * close
    bloop = optimizers.bloop([1.0, 1.0])
    zeros = jnp.zeros(40)
    state = bloop.init(zeros)
    step = jax.jit(bloop.update)
    for second in (close, free):
        state = state._replace(grad_average=(jnp.asarray(m), jnp.asarray(second)))
        last = step(zeros, state, aux_grads=(jnp.zeros(40), b))[0]
        assert surgery.misalignment(last, b, m) < 1e-15
        # Its own noise: the direction of the difference has so many digits left.
        across = project(second, m)
        digits = 1e-15 * np.linalg.norm(second) / np.linalg.norm(across)
        assert surgery.misalignment(last, b, across) < digits
        middle = step(zeros, state, aux_grads=(a, jnp.zeros(40)))[0]
        np.testing.assert_allclose(middle, project(a, m), rtol=0.0, atol=1e-14)


def test_a_dependent_level_adds_no_direction(x64: None) -> None:
    """Its part beside the first is rounding error, which must not be projected on."""
    main = surgery.random_gradients(300, 40, seed=11)
    aux = surgery.random_gradients(300, 40, seed=12)
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-13)):
        g, a = main.astype(dtype), aux.astype(dtype)
        both = optimizers.bloop([0.0, 1.0])
        directions, _ = run(both, g, (g * np.asarray(2.7, dtype), a))
        expected, _ = run(optimizers.bloop(1.0), g, a)
        np.testing.assert_allclose(directions, expected, rtol=0.0, atol=tolerance)


def test_complex_gradients_as_pairs_of_real_ones(x64: None) -> None:
    main, aux = surgery.random_gradients(8, 6), surgery.random_gradients(8, 6, seed=1)
    expected, _ = run(optimizers.bloop(0.5), main, aux)
    merge = lambda x: x[:, :3] + 1j * x[:, 3:]  # noqa: E731
    directions, state = run(optimizers.bloop(0.5), merge(main), merge(aux))
    np.testing.assert_allclose(directions, merge(np.asarray(expected)), rtol=1e-13)
    assert state.grad_average[0].dtype == jnp.complex128


def test_finds_the_minimum_of_the_auxiliary_loss_among_minima() -> None:
    """Headline: on least squares with more unknowns than data, at equal weights.

    The published experiment (300 unknowns, 256 rows, 1000 epochs), made smaller to
    take seconds; among the minima of the main loss one is nearest to the target.
    """
    unknowns, rows, batch, epochs, rate = 60, 48, 12, 800, 1e-3
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, unknowns)) * np.linspace(1.0, 10.0, unknowns)
    y = x @ rng.normal(size=unknowns) + 0.05 * rng.normal(size=rows)
    x, y, target = (
        jnp.asarray(v, jnp.float32) for v in (x, y, 10.0 * rng.normal(size=unknowns))
    )
    order = jnp.asarray(rng.permutation(rows).reshape(-1, batch))

    def main_loss(theta: jax.Array) -> jax.Array:
        return jnp.mean((x @ theta - y) ** 2) / 2

    def aux_loss(theta: jax.Array) -> jax.Array:
        return jnp.sum((theta - target) ** 2) / 2

    def train(method: optax.GradientTransformationExtraArgs) -> np.ndarray:
        """Auxiliary and main loss where the main one is best along the run."""

        def step(carry: Any, index: jax.Array) -> tuple[Any, None]:
            theta, state = carry
            picked = order[index]
            main = x[picked].T @ (x[picked] @ theta - y[picked]) / batch
            d, state = method.update(main, state, aux_grads=theta - target)
            return (theta - rate * d, state), None

        def epoch(carry: Any, _: None) -> tuple[Any, jax.Array]:
            carry, _ = jax.lax.scan(step, carry, jnp.arange(len(order)))
            return carry, jnp.stack([aux_loss(carry[0]), main_loss(carry[0])])

        start = jnp.zeros(unknowns)
        _, losses = jax.lax.scan(
            epoch, (start, method.init(start)), None, length=epochs
        )
        return losses[jnp.argmin(losses[:, 1])]

    def both_weights(factory: Any) -> np.ndarray:
        return jax.jit(jax.vmap(lambda weight: train(factory(weight))))(
            jnp.array([0.1, 1.0])
        )

    ours = both_weights(optimizers.bloop)
    for rival in (
        optimizers.mixed_gradients,
        optimizers.pcgrad,
        optimizers.dynamic_barrier,
    ):
        theirs = both_weights(rival)
        assert (ours[:, 0] < theirs[:, 0]).all()
        assert (ours[:, 1] < 0.01 * theirs[:, 1]).all()


def test_error_messages() -> None:
    bloop = optimizers.bloop(0.5)
    grads = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    state = bloop.init(grads)
    counts = {"w": grads["w"], "b": jnp.arange(3)}
    turned = {"w": grads["w"], "b": grads["b"].astype(jnp.complex64)}
    short = {"w": grads["w"], "b": jnp.ones(2)}
    call = r"update\(grads, state, params, aux_grads="
    with pytest.raises(ValueError, match=rf"bloop: .* aux_grads.*{call}"):
        bloop.update(grads, state)
    with pytest.raises(
        ValueError,
        match=rf"bloop: aux_grads must have the structure.*{call}.*mask_comp",
    ):
        bloop.update(grads, state, aux_grads={"w": grads["w"]})
    with pytest.raises(
        ValueError, match=r"aux_grads must have .* at \['w'\] got \(3,\), not \(2, 3\)"
    ):
        bloop.update(grads, state, aux_grads={"w": grads["b"], "b": grads["b"]})
    with pytest.raises(ValueError, match=r"aux_grads at \['b'\].*int32.*float32"):
        bloop.update(grads, state, aux_grads=counts)
    with pytest.raises(ValueError, match=r"aux_grads at \['b'\].*complex64.*float32"):
        bloop.update(grads, state, aux_grads=turned)
    with pytest.raises(
        ValueError, match=r"bloop: updates must .* at \['b'\] got \(2,\), not \(3,\)"
    ):
        bloop.update(short, state, aux_grads=grads)
    with pytest.raises(ValueError, match="bloop: updates must have the structure"):
        bloop.update({"w": grads["w"]}, state, aux_grads=grads)
    several = optimizers.bloop([0.5, 0.1])
    with pytest.raises(ValueError, match=r"tuple of 2 trees.*dict.*\(first, second"):
        several.update(grads, several.init(grads), aux_grads=grads)
    with pytest.raises(ValueError, match=r"tuple of 2 trees.*with 1"):
        several.update(grads, several.init(grads), aux_grads=[grads])
    with pytest.raises(ValueError, match=r"aux_grads\[1\] must .* at \['b'\] got"):
        several.update(grads, several.init(grads), aux_grads=(grads, short))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aux_weight": -0.1}, "bloop: aux_weight must be .* got -0.1"),
        ({"aux_weight": [0.1, float("nan")]}, "bloop: aux_weight must be .* got nan"),
        ({"aux_weight": []}, "bloop: aux_weight must hold at least one"),
        ({"aux_weight": optax.sgd(0.1)}, "bloop: aux_weight must be .* got Grad"),
        ({"aux_weight": 0.1, "ema_rate": 1.5}, "bloop: ema_rate must be .* got 1.5"),
        ({"aux_weight": 0.1, "ema_rate": -1.0}, "bloop: ema_rate must be .* got -1.0"),
    ],
)
def test_bad_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optimizers.bloop(**options)
