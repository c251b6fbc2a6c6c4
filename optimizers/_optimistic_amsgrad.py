"""Optimistic AMSGrad (OPT-AMSGrad): Wang, Li, Karimi and Li (2021)."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optimizers._common import (
    checks,
    donation,
    moments,
    numerics,
    reductions,
    schedules,
    transforms,
    trees,
)
from optimizers._common.typing import Mask, PyTree, Reduce, Scalar, ScalarOrSchedule

__all__ = [
    "Predictor",
    "RmpeMemory",
    "ScaleByOptimisticAmsgradState",
    "last_gradient_predictor",
    "optimistic_amsgrad",
    "rmpe_predictor",
    "scale_by_optimistic_amsgrad",
    "zero_predictor",
]

_SECOND_MOMENTS = ("gradient", "prediction_error")


class Predictor(NamedTuple):
    """How `optimistic_amsgrad` guesses the next gradient; write your own if you like.

    `init(params) -> memory` may only map over the tree of params. `predict(gradient,
    memory) -> (prediction, memory)` gets the newest gradient, keeps the structure,
    shapes and dtypes of the memory, and returns a tree like the gradient.
    """

    init: Callable[[PyTree], PyTree]
    predict: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]


class RmpeMemory(NamedTuple):
    """Memory of `rmpe_predictor` with a window of r."""

    count: jax.Array  # gradients seen, shape (), int32
    gradients: tuple[PyTree, ...]  # y, the last r as a ring, each as the params
    gram: jax.Array  # U^T U, ordered as the ring, shape (r, r), at least float32


class ScaleByOptimisticAmsgradState(NamedTuple):
    """State of `scale_by_optimistic_amsgrad`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # theta, shapes and dtypes of the params
    nu: PyTree  # v, shapes of the params, real, at least float32
    nu_max: PyTree  # v-hat, as nu
    mu_next: PyTree  # h, as mu; () without a predictor, where h is theta
    rate: jax.Array  # gamma of the last update, shape (), float32 (x64: float64)
    prediction: PyTree  # m, as mu; () unless second_moment="prediction_error"
    memory: PyTree  # of the predictor; () without one


def scale_by_optimistic_amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    predictor: Predictor | None = None,
    second_moment: str = "gradient",
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """The step of optimistic AMSGrad, uphill; see `optimistic_amsgrad`.

    Args:
      learning_rate: A number, or a schedule of the 0-based count of updates.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the root of the second moment.
      predictor: Guesses the next gradient; None guesses the last one.
      second_moment: ``"gradient"`` or ``"prediction_error"``.
      weight_decay: Decoupled decay, a number or a schedule; multiplied by the
        learning rate.
      weight_decay_mask: Which leaves decay.

    Returns:
      The transformation. Do not put a learning rate after it; the sign is still to
      be flipped.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients
        do not have the structure and shapes of the params.
    """
    name = "scale_by_optimistic_amsgrad"
    _check(name, learning_rate, b1, b2, eps, predictor, second_moment, weight_decay)
    from_error = second_moment == "prediction_error"

    def init(params: PyTree) -> ScaleByOptimisticAmsgradState:
        return ScaleByOptimisticAmsgradState(
            count=jnp.zeros([], jnp.int32),
            mu=trees.zeros_like(name, params),
            nu=trees.accumulators_like(name, params),
            nu_max=trees.accumulators_like(name, params),
            mu_next=() if predictor is None else trees.zeros_like(name, params),
            rate=reductions.scalar_like(params, 0.0),
            prediction=trees.zeros_like(name, params) if from_error else (),
            memory=() if predictor is None else predictor.init(params),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByOptimisticAmsgradState]:
        del extra_args
        grads = trees.gradients(name, updates, state.nu)
        rate = schedules.value_at(learning_rate, state.count)
        back = moments.ratio(
            jax.tree.map(
                numerics.upcast,
                state.mu if predictor is None else state.mu_next,
                state.nu_max,
            ),
            *(state.nu_max, eps),
        )
        prediction, memory = grads, ()
        if predictor is not None:
            prediction, memory = predictor.predict(grads, state.memory)
        error = grads
        if from_error:
            error = jax.tree.map(_subtract, grads, state.prediction)
        nu = moments.ema_of_squares(b2, error, state.nu)  # (2)

        def mu(old: PyTree) -> PyTree:
            return moments.ema(b1, grads, old)  # (1)

        def nu_max(old: PyTree) -> PyTree:
            return moments.running_max(old, nu)  # (3)

        def mu_next(old: PyTree) -> PyTree:
            average = moments.ema(b1, prediction, old)  # (5)
            return trees.cast_like(average, state.mu)

        new_mu = mu(state.mu)
        new_mu_next = (
            trees.cast_like(new_mu, state.mu)
            if predictor is None
            else mu_next(state.mu)
        )
        ahead = moments.ratio(
            jax.tree.map(_add, new_mu, new_mu_next), nu_max(state.nu_max), eps
        )
        step, last = numerics.as_float_scalar(rate), state.rate
        direction = jax.tree.map(
            lambda a, b: _step(a, step, b, last), ahead, back
        )  # (4), (6)
        direction = transforms.add_decay(
            name,
            direction,
            params,
            schedules.value_at(weight_decay, state.count),
            weight_decay_mask,
            rate,
        )
        direction = trees.cast_like(direction, grads)
        # The step reads the old state, and the new params are made from it: once they
        # are known, the new state can take the place of the old one.
        moved = donation.updated_params(params, direction)
        mu_old = donation.after(state.count, moved, state.mu)
        nu_max_old = donation.after(state.count, moved, state.nu_max)
        new_mu_next = ()
        if predictor is not None:
            new_mu_next = mu_next(mu_old)
            mu_old = donation.after(state.count, new_mu_next, state.mu)
        if from_error:
            prediction = trees.cast_like(prediction, state.prediction)
            prediction = donation.after(state.count, nu, prediction)
        return direction, ScaleByOptimisticAmsgradState(
            count=numerics.increment(state.count),
            mu=trees.cast_like(mu(mu_old), state.mu),
            nu=trees.cast_like(nu, state.nu),
            nu_max=trees.cast_like(nu_max(nu_max_old), state.nu_max),
            mu_next=new_mu_next,
            rate=step.astype(last.dtype),
            prediction=prediction if from_error else (),
            memory=memory,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def optimistic_amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    predictor: Predictor | None = None,
    second_moment: str = "gradient",
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Optimistic AMSGrad: each step also goes where the next gradient should point.

    Beside the params :math:`w_t`, where the gradient :math:`g_t` is taken, runs the
    sequence :math:`\tilde w_t` of plain AMSGrad steps; the params are one predicted
    step ahead of it. Entry by entry,

    .. math::

       \theta_t &= \beta_1 \theta_{t-1} + (1 - \beta_1) g_t              && (1) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |e_t|^2                    && (2) \\
       \hat v_t &= \max(\hat v_{t-1}, v_t)                               && (3) \\
       \tilde w_{t+1} &= \tilde w_t
         - \gamma_t \theta_t / (\sqrt{\hat v_t} + \varepsilon)           && (4) \\
       h_{t+1} &= \beta_1 \theta_{t-1} + (1 - \beta_1) m_{t+1}           && (5) \\
       w_{t+1} &= \tilde w_{t+1}
         - \gamma_t h_{t+1} / (\sqrt{\hat v_t} + \varepsilon)            && (6)

    with :math:`\theta_0 = v_0 = \hat v_0 = 0` and :math:`\tilde w_1 = w_1`. The
    predictor makes :math:`m_{t+1}`, its guess of :math:`g_{t+1}`, from the gradients
    up to :math:`g_t`. The second moment is of :math:`e_t = g_t`, or with
    ``second_moment="prediction_error"`` of :math:`e_t = g_t - m_t`, :math:`m_1 = 0`,
    so that predictable gradients are divided by little. Note the older average in
    (5).

    The guess of the last gradient, :math:`m_{t+1} = g_t`, makes :math:`h_{t+1} =
    \theta_t`: this is the optimistic Adam of Daskalakis et al. with the maximum (3)
    and without bias correction. It is the default, and without a predictor the state
    is that of AMSGrad: :math:`\tilde w` is never stored, because the last prediction
    is taken back from what the state holds.

    Symbols: :math:`\gamma` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\varepsilon` eps, :math:`m_{t+1}` by the predictor; the state holds
    :math:`\theta` as mu, :math:`v` as nu, :math:`\hat v` as nu_max, :math:`h` as
    mu_next, :math:`m` as prediction.

    Defaults: :math:`\beta` and the second moment are those of the paper;
    :math:`\varepsilon` is that of `amsgrad`. The paper predicts with
    ``rmpe_predictor(5)``.

    Differences from the paper: :math:`\varepsilon` is outside the root, where the
    paper starts both second moments at a small constant; no projection. The
    version of 2019 (arXiv v1) uses the prediction error in (2) and the next rate in
    (6). Differences from the released code: there, the prediction is the gradient of
    a second network at params extrapolated from past params, one more gradient per
    step, which is both :math:`m_t` in (2) and :math:`m_{t+1}` in (5); both rates carry
    Adam's bias corrections; the first predictions are those of random and of zero
    weights, where they are 0 here. Differences from ``optax.optimistic_adam_v2``: that
    has no maximum, corrects bias, uses Nesterov's momentum unless told otherwise, and
    starts as if the first gradient had come twice.

    On games, where the last iterate should converge, use ``b1=0``.

    Args:
      learning_rate: A number, or a schedule of the 0-based count of updates.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the root of the second moment, outside.
      predictor: A `Predictor`: `rmpe_predictor()`, `zero_predictor()`,
        `last_gradient_predictor()` or your own. None guesses the last gradient
        without storing it.
      second_moment: ``"gradient"`` or ``"prediction_error"``.
      weight_decay: Decoupled decay, a number or a schedule; multiplied by the
        learning rate.
      weight_decay_mask: Which leaves decay: a tree of booleans, a prefix of one, or
        a function from the params to one.

    Returns:
      The optimizer. Its updates have the dtypes of the gradients and are to be added
      to the params.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients do
        not have the structure and shapes of the params, or weight_decay needs params
        and there are none.

    References:
      Wang, Li, Karimi and Li, An Optimistic Acceleration of AMSGrad for Nonconvex
      Optimization, ACML 2021; arXiv:1903.01435.

      Daskalakis, Ilyas, Syrgkanis and Zeng, Training GANs with Optimism, ICLR 2018;
      arXiv:1711.00141.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.optimistic_amsgrad(learning_rate=0.1)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(200):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    name = "optimistic_amsgrad"
    _check(name, learning_rate, b1, b2, eps, predictor, second_moment, weight_decay)
    return optax.chain(
        scale_by_optimistic_amsgrad(
            learning_rate,
            b1,
            b2,
            eps,
            predictor=predictor,
            second_moment=second_moment,
            weight_decay=weight_decay,
            weight_decay_mask=weight_decay_mask,
        ),
        optax.scale(-1.0),
    )


def last_gradient_predictor() -> Predictor:
    """Predicts that the next gradient is the last one: what predictor=None does.

    Returns:
      The predictor. It needs no memory, but `optimistic_amsgrad` stores one tree more
      with it than with None.
    """
    return Predictor(lambda params: (), lambda gradient, memory: (gradient, memory))


def zero_predictor() -> Predictor:
    """Predicts a gradient of zero; with b1=0 that is AMSGrad in the paper's form.

    Returns:
      The predictor. It needs no memory.
    """
    return Predictor(
        lambda params: (),
        lambda gradient, memory: (jax.tree.map(jnp.zeros_like, gradient), memory),
    )


def rmpe_predictor(
    window: int = 5,
    regularization: Scalar = 1e-3,
    *,
    normalize: bool = False,
    reduce: Reduce | None = None,
) -> Predictor:
    r"""Predicts the limit of the gradients, by extrapolation of the last few.

    Regularized minimal polynomial extrapolation. Of the gradients :math:`y_0, \ldots,
    y_k`, the newest last, as vectors of the whole tree, it takes the :math:`k \le r`
    differences and the average whose weights make the average difference small:

    .. math::

       U &= [y_1 - y_0, \ldots, y_k - y_{k-1}]                          && (1) \\
       (U^\top U + \lambda I) z &= 1, \quad c = z / 1^\top z            && (2) \\
       m &= \sum_{i<k} c_i y_i                                          && (3)

    and :math:`m = 0` after the first gradient. Inner products of complex leaves are
    their real parts. A step costs the :math:`r` products with the newest difference
    and one in vain; the others are kept. It predicts where the sequence of gradients
    is going, not what comes next: of a geometric sequence it predicts nearly 0.

    Symbols: :math:`r` window, :math:`\lambda` regularization.

    Defaults: those of the paper's experiments.

    Differences from the paper: :math:`\lambda` is at least 10 units of roundoff of the
    trace of :math:`U^\top U`, below which the products are not known; this changes
    float32 only where the differences are larger than about 30, and keeps (2)
    solvable for :math:`\lambda = 0`. In (3) each weight goes to the older gradient of
    its difference, as published; extrapolation with the newer one is left out. The
    released code does not use this predictor on gradients, but on params, for each
    leaf by itself, of which it keeps no past: its differences are all
    :math:`w - \tilde w`.

    Args:
      window: :math:`r`, how many differences; the memory holds as many gradients.
      regularization: :math:`\lambda \ge 0`. It is absolute: differences whose squares
        are far below it are averaged evenly.
      normalize: Whether :math:`\lambda` is relative to the trace of
        :math:`U^\top U`, so that the weights do not depend on the gradients' scale.
      reduce: Applied to the vector of inner products, where a device has only a part
        of each param, as in `jax.shard_map`: ``lambda x: jax.lax.psum(x, "data")``.

    Returns:
      The predictor.

    Raises:
      ValueError: window is not an integer >= 1 or regularization is negative.

    References:
      Scieur, d'Aspremont and Bach, Regularized Nonlinear Acceleration, NeurIPS 2016;
      arXiv:1606.04133.

    Examples:
      >>> import jax.numpy as jnp, optimizers
      >>> predictor = optimizers.rmpe_predictor(window=2, regularization=0.0)
      >>> memory = predictor.init(jnp.zeros(2))
      >>> for n in range(5):
      ...     gradient = jnp.array([1.0, 2.0]) + 0.5**n
      ...     prediction, memory = predictor.predict(gradient, memory)
      >>> print(prediction.round(2))
      [1. 2.]
    """
    name = "rmpe_predictor"
    checks.non_negative(name, regularization=regularization)
    checks.positive_integers(name, window=window)
    window = int(window)

    def init(params: PyTree) -> RmpeMemory:
        gradients = tuple(trees.zeros_like(name, params) for _ in range(window))
        dtypes = (numerics.dtype_of(y) for y in jax.tree.leaves(gradients[0]))
        wide = numerics.real_dtype(numerics.compute_dtype(*dtypes))
        return RmpeMemory(
            count=jnp.zeros([], jnp.int32),
            gradients=gradients,
            gram=jnp.zeros((window, window), wide),
        )

    def predict(gradient: PyTree, memory: Any) -> tuple[PyTree, RmpeMemory]:
        place = memory.count % window
        # Rounded as it will be stored, so that a difference never changes.
        ring = memory.gradients
        newest = trees.cast_like(gradient, ring[0])
        products = jnp.zeros_like(memory.gram[0])
        for leaf in jax.tree.leaves(
            jax.tree.map(lambda g, *ys: _inner_products(place, g, *ys), newest, *ring)
        ):
            products = products + leaf.astype(products.dtype)
        if reduce is not None:
            products = reduce(products)
        gram = _replaced(memory.gram, place, products)  # (1)
        weights = _weights(gram, memory.count, regularization, normalize)  # (2)
        prediction = jax.tree.map(
            lambda *ys: _average(memory.count, weights, *ys), *ring
        )
        ring = donation.after(memory.count, (prediction,) * window, ring)
        ring = tuple(
            jax.tree.map(functools.partial(jnp.where, place == i), newest, y)
            for i, y in enumerate(ring)
        )
        return prediction, RmpeMemory(numerics.increment(memory.count), ring, gram)

    return Predictor(init, predict)


def _check(
    name: str,
    learning_rate: ScalarOrSchedule,
    b1: Scalar,
    b2: Scalar,
    eps: Scalar,
    predictor: Predictor | None,
    second_moment: str,
    weight_decay: ScalarOrSchedule,
) -> None:
    checks.non_negative(name, learning_rate=learning_rate, weight_decay=weight_decay)
    checks.decay_rates(name, b1=b1, b2=b2)
    checks.non_negative(name, eps=eps)
    checks.one_of(name, "second_moment", second_moment, _SECOND_MOMENTS)
    if predictor is not None and not isinstance(predictor, Predictor):
        msg = f"{name}: predictor must be a Predictor or None, got {predictor!r}."
        raise ValueError(msg)


@numerics.inline_jit
def _add(wide: jax.Array, x: jax.Array) -> jax.Array:
    return wide + x.astype(wide.dtype)


@numerics.inline_jit
def _subtract(g: jax.Array, m: jax.Array) -> jax.Array:
    g = numerics.upcast(g, m)
    return g - m.astype(g.dtype)


@numerics.inline_jit
def _step(ahead: jax.Array, rate: Scalar, back: jax.Array, last: Scalar) -> jax.Array:
    """Equations (4) and (6), less the step ahead of the update before."""
    back = back.astype(ahead.dtype)
    return (
        numerics.cast_scalar(ahead, rate) * ahead
        - numerics.cast_scalar(back, last) * back
    )


@numerics.inline_jit
def _inner_products(place: jax.Array, g: jax.Array, *ring: jax.Array) -> jax.Array:
    """Re<u_i, u_k> for every difference u_i of neighbours, u_k the newest.

    A difference has the place of its later end in the ring; place is that of g.
    """
    last = ring[-1]
    for i, y in enumerate(ring[:-1]):
        last = jnp.where(place == i + 1, y, last)
    newest = _subtract(g, last)
    square = reductions.product(newest, newest)
    # At place, where g comes between, a product is made in vain: to choose among
    # arrays would store each of them, sums of products of arrays store nothing.
    others = (
        reductions.product(_subtract(y, ring[i - 1]), newest)
        for i, y in enumerate(ring)
    )
    return jnp.stack(
        [jnp.where(place == i, square, other) for i, other in enumerate(others)]
    )


@numerics.inline_jit
def _replaced(gram: jax.Array, place: jax.Array, products: jax.Array) -> jax.Array:
    """The matrix with that row and column of products, finite."""
    here = jnp.arange(len(gram), dtype=jnp.int32) == place
    products = jnp.nan_to_num(products)
    gram = jnp.where(here[:, None], products[None, :], gram)
    return jnp.where(here[None, :], products[:, None], gram)


def _weights(
    gram: jax.Array, count: jax.Array, regularization: Scalar, normalize: bool
) -> jax.Array:
    """Equation (2) for the differences that exist after so many earlier gradients.

    The weights of the others are 0. The system is divided by its trace, so that it
    is regular in every precision.
    """
    window = len(gram)
    places = jnp.arange(window, dtype=jnp.int32)
    used = (count >= window) | ((places >= 1) & (places <= count))
    gram = jnp.where(used[:, None] & used[None, :], gram, 0.0)
    largest = jnp.finfo(gram.dtype).max / (2 * window)
    gram = jnp.clip(gram, -largest, largest)
    ridge = numerics.cast_scalar(gram, numerics.as_float_scalar(regularization))
    trace = jnp.trace(gram)
    scale = trace if normalize else trace + ridge
    scale = jnp.where(scale > 0.0, scale, 1.0)
    ridge = jnp.maximum(
        ridge if normalize else ridge / scale, 10 * jnp.finfo(gram.dtype).eps
    )
    system = gram / scale + jnp.diag(jnp.where(used, ridge, 1.0))
    z = jnp.linalg.solve(system, used.astype(gram.dtype))
    return numerics.safe_divide(z, jnp.sum(z))


@numerics.inline_jit
def _average(count: jax.Array, weights: jax.Array, *ring: jax.Array) -> jax.Array:
    """Equation (3): each weight goes to the earlier end of its difference."""
    terms = (
        numerics.cast_scalar(wide, weights[(i + 1) % len(ring)]) * wide
        for i, wide in enumerate(map(numerics.upcast, ring))
    )
    average = functools.reduce(jnp.add, terms)  # (3)
    # Each gradient of the ring is written after the average that reads it.
    return donation.stored(count, average)
