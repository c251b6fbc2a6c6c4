"""D-Adaptation for SGD, AdaGrad and Adam: Defazio and Mishchenko (2023)."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from optimizers._common import checks, links, moments, numerics, reductions, trees
from optimizers._common.typing import Mask, PyTree, Reduce, Scalar, ScalarOrSchedule

__all__ = [
    "ScaleByDadaptAdagradState",
    "ScaleByDadaptAdamState",
    "ScaleByDadaptSgdState",
    "dadapt_adagrad",
    "dadapt_adam",
    "dadapt_sgd",
    "distance_estimates",
    "scale_by_dadapt_adagrad",
    "scale_by_dadapt_adam",
    "scale_by_dadapt_sgd",
]


# What AdaGrad's sum of squares starts from in the released code.
_FIRST_SQUARE = 1e-6


class ScaleByDadaptSgdState(NamedTuple):
    """State of `scale_by_dadapt_sgd`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params; None without momentum
    grad_sum: PyTree  # s, shapes of the params, at least float32
    distance: jax.Array  # d, shape (), the widest of float32 and the params
    numerator: jax.Array  # N, as distance
    grad_norm: jax.Array  # G, as distance; 0 until a gradient is not zero


class ScaleByDadaptAdagradState(NamedTuple):
    """State of `scale_by_dadapt_adagrad`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params; None without momentum
    nu: PyTree  # A, shapes of the params, real, at least float32
    grad_sum: PyTree  # s, shapes of the params, at least float32
    distance: jax.Array  # d, shape (), the widest of float32 and the params
    error: jax.Array  # E, as distance


class ScaleByDadaptAdamState(NamedTuple):
    """State of `scale_by_dadapt_adam`."""

    count: jax.Array  # t, shape (), int32
    mu: PyTree  # m, shapes and dtypes of the params (float32 for float16)
    nu: PyTree  # v, shapes of the params, real, at least float32
    grad_sum: PyTree  # s, shapes of the params, at least float32
    distance: jax.Array  # d, shape (), the widest of float32 and the params
    numerator: jax.Array  # N, as distance


def scale_by_dadapt_sgd(
    learning_rate: ScalarOrSchedule = 1.0,
    momentum: Scalar = 0.0,
    *,
    d0: Scalar = 1e-6,
    growth_rate: Scalar = math.inf,
    d_coef: Scalar = 2.0,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The step of D-Adaptation for SGD, uphill and with its rate; see `dadapt_sgd`.

    Args:
      learning_rate: Factor on the distance, a number or a schedule of the 0-based
        count of updates.
      momentum: Decay rate of the average of the steps, in [0, 1).
      d0: First estimate of the distance, positive; should be too small.
      growth_rate: The distance grows at most by this factor per step, at least 1.
      d_coef: Factor on the estimate of the distance.
      weight_decay: Decoupled decay, a number or a schedule; multiplied by the
        learning rate and the distance.
      weight_decay_mask: Which leaves decay.
      reduce: Sums a small vector over the devices that hold parts of the params.

    Returns:
      The transformation. Do not put a learning rate after it; the sign is still to
      be flipped.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients do
        not have the structure and shapes of the params, or weight_decay needs params
        and there are none.
    """
    name = "scale_by_dadapt_sgd"
    _check(name, learning_rate, d0, growth_rate, weight_decay)
    checks.decay_rates(name, momentum=momentum)
    checks.non_negative(name, d_coef=d_coef)
    has_momentum = not _is_zero(momentum)

    def init(params: PyTree) -> ScaleByDadaptSgdState:
        return ScaleByDadaptSgdState(
            count=jnp.zeros([], jnp.int32),
            mu=_steps_like(name, params) if has_momentum else None,
            grad_sum=trees.averages_like(name, params),
            distance=reductions.scalar_like(params, d0),
            numerator=reductions.scalar_like(params, 0.0),
            grad_norm=reductions.scalar_like(params, 0.0),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByDadaptSgdState]:
        del extra_args
        grads = trees.gradients(name, updates, state.grad_sum)
        d, numerator, norm = map(
            numerics.wide_scalar, (state.distance, state.numerator, state.grad_norm)
        )
        rate = d * links.value_at(learning_rate, state.count)

        products = jax.tree.map(reductions.product, grads, state.grad_sum)
        square, product = reductions.sums(
            reduce, jax.tree.map(_square, grads), products
        )
        norm = jnp.where(norm == 0.0, reductions.safe_sqrt(square), norm)  # (1)
        weight = numerics.safe_divide(rate, norm)  # (2)
        numerator = numerator + weight * product  # (3)
        grad_sum = jax.tree.map(
            lambda known, g, s: _plus(_once_known(known, weight), g, s),
            *(products, grads, state.grad_sum),
        )  # (4)
        (sum_square,) = reductions.sums(reduce, jax.tree.map(_square, grad_sum))
        estimate = numerics.safe_divide(
            numerics.scalar(d_coef) * numerator, reductions.safe_sqrt(sum_square)
        )  # (5)
        steps = jax.tree.map(lambda g: _times(weight, g), grads)
        if has_momentum:
            steps = moments.ema(momentum, steps, state.mu)  # (7)
        direction = links.add_decay(
            name,
            steps,
            params,
            links.value_at(weight_decay, state.count),
            weight_decay_mask,
            rate,
        )
        direction = jax.tree.map(_saturated, direction, grads)
        return trees.cast_like(direction, grads), ScaleByDadaptSgdState(
            count=numerics.increment(state.count),
            mu=trees.cast_like(steps, state.mu) if has_momentum else None,
            grad_sum=trees.cast_like(grad_sum, state.grad_sum),
            distance=_grown(state.distance, estimate, growth_rate),  # (6)
            numerator=numerator.astype(state.numerator.dtype),
            grad_norm=norm.astype(state.grad_norm.dtype),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def dadapt_sgd(
    learning_rate: ScalarOrSchedule = 1.0,
    momentum: Scalar = 0.0,
    *,
    d0: Scalar = 1e-6,
    growth_rate: Scalar = math.inf,
    d_coef: Scalar = 2.0,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""D-Adaptation of SGD: it finds the learning rate from the distance to travel.

    The best rate of SGD is the distance :math:`D = \|x_0 - x_*\|` over the size of
    the gradients. :math:`D` is not known, but every gradient of a convex function
    gives a lower bound of it; the largest so far is :math:`d`. With all norms and
    products over the whole tree, for the gradient :math:`g_t` at :math:`x_{t-1}`,

    .. math::

       G &= \|g_k\|_2, \quad g_k \text{ the first gradient that is not 0}  && (1) \\
       \lambda_t &= d_{t-1} \gamma_t / G                                   && (2) \\
       N_t &= N_{t-1} + \lambda_t \langle g_t, s_{t-1} \rangle             && (3) \\
       s_t &= s_{t-1} + \lambda_t g_t                                      && (4) \\
       \hat d_t &= c \, N_t / \|s_t\|_2                                    && (5) \\
       d_t &= \max(d_{t-1}, \min(\hat d_t, r \, d_{t-1}))                  && (6) \\
       m_t &= \mu m_{t-1} + (1 - \mu) \lambda_t g_t                        && (7) \\
       x_t &= x_{t-1} - m_t - d_{t-1} \gamma_t w \, x_{t-1}                && (8)

    with :math:`N_0 = s_0 = m_0 = 0`. Until a gradient is not zero, nothing moves but
    by decay. Scaling the loss changes nothing.

    Symbols: :math:`\gamma` learning_rate, :math:`\mu` momentum, :math:`d_0` d0,
    :math:`r` growth_rate, :math:`c` d_coef, :math:`w` weight_decay; the state holds
    :math:`t` as count, :math:`m` as mu (None where momentum is the number 0),
    :math:`s` as grad_sum, :math:`d` as distance, :math:`N` as numerator, :math:`G` as
    grad_norm. `distance_estimates` reads :math:`d`.

    Defaults: those of ``dadaptation.DAdaptSGD``. A learning rate of 1 is right where
    the theory holds; use it for schedules that end at 0. ``growth_rate=1.02`` is a
    kind of warm-up.

    Differences from the paper: it proves :math:`d \le D` with :math:`c = 1`; the
    factor 2 of the release is a heuristic, which only promises :math:`d \le 2 D`.

    Differences from released code: :math:`G` may come from a later gradient, where
    the release divides by zero; decay is decoupled, where the release adds it to the
    gradients, but not to that of :math:`G`. Groups of the release share one :math:`d`;
    those of ``optax.partition`` have one each. The release keeps :math:`x_0` and
    averages
    :math:`x_t = \mu x_{t-1} + (1 - \mu)(x_0 - s_t)`; (7) and (8) are the same points
    without :math:`x_0`, and go on from wherever something else puts the params.

    Args:
      learning_rate: Factor on the distance, a number or a schedule of the 0-based
        count of updates.
      momentum: Decay rate of the average of the steps, in [0, 1).
      d0: First estimate of the distance, positive; should be too small.
      growth_rate: The distance grows at most by this factor per step, at least 1.
      d_coef: Factor on the estimate of the distance.
      weight_decay: Decoupled decay, a number or a schedule; multiplied by the
        learning rate and the distance.
      weight_decay_mask: Which leaves decay: a tree of booleans, a prefix of one, or
        a function from the params to one.
      reduce: Only where each device holds a part of the params and calls `update` by
        itself, as in ``shard_map``: sums a small vector over these devices, for
        instance ``lambda x: jax.lax.psum(x, "data")``. It is called twice per update.

    Returns:
      The optimizer. Its updates have the dtypes of the gradients and are to be added
      to the params.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients do
        not have the structure and shapes of the params, or weight_decay needs params
        and there are none.

    References:
      Defazio and Mishchenko, Learning-Rate-Free Learning by D-Adaptation, ICML 2023;
      arXiv:2301.07733.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.dadapt_sgd()
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(200):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    _check("dadapt_sgd", learning_rate, d0, growth_rate, weight_decay)
    checks.decay_rates("dadapt_sgd", momentum=momentum)
    checks.non_negative("dadapt_sgd", d_coef=d_coef)
    return optax.chain(
        scale_by_dadapt_sgd(
            learning_rate,
            momentum,
            d0=d0,
            growth_rate=growth_rate,
            d_coef=d_coef,
            weight_decay=weight_decay,
            weight_decay_mask=weight_decay_mask,
            reduce=reduce,
        ),
        optax.scale(-1.0),  # (8)
    )


def scale_by_dadapt_adagrad(
    learning_rate: ScalarOrSchedule = 1.0,
    eps: Scalar = 1e-6,
    *,
    momentum: Scalar = 0.0,
    d0: Scalar = 1e-6,
    growth_rate: Scalar = math.inf,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The step of D-Adaptation for AdaGrad, uphill, with its rate; see the alias.

    Args:
      learning_rate: Factor on the distance, a number or a schedule of the 0-based
        count of updates.
      eps: Added to the root of the sum of squares.
      momentum: Decay rate of the average of the steps, in [0, 1).
      d0: First estimate of the distance, positive; should be too small.
      growth_rate: The distance grows at most by this factor per step, at least 1.
      weight_decay: Decoupled decay, a number or a schedule; multiplied by the
        learning rate and the distance.
      weight_decay_mask: Which leaves decay.
      reduce: Sums a small vector over the devices that hold parts of the params.

    Returns:
      The transformation. Do not put a learning rate after it; the sign is still to
      be flipped.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients do
        not have the structure and shapes of the params, or weight_decay needs params
        and there are none.
    """
    name = "scale_by_dadapt_adagrad"
    _check(name, learning_rate, d0, growth_rate, weight_decay)
    checks.decay_rates(name, momentum=momentum)
    checks.non_negative(name, eps=eps)
    has_momentum = not _is_zero(momentum)

    def init(params: PyTree) -> ScaleByDadaptAdagradState:
        return ScaleByDadaptAdagradState(
            count=jnp.zeros([], jnp.int32),
            mu=_steps_like(name, params) if has_momentum else None,
            nu=jax.tree.map(
                lambda a: a + numerics.like(a, _FIRST_SQUARE),
                trees.accumulators_like(name, params),
            ),
            grad_sum=trees.averages_like(name, params),
            distance=reductions.scalar_like(params, d0),
            error=reductions.scalar_like(params, 0.0),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByDadaptAdagradState]:
        del extra_args
        grads = trees.gradients(name, updates, state.grad_sum)
        d = numerics.wide_scalar(state.distance)
        rate = d * links.value_at(learning_rate, state.count)  # (1)
        outside = numerics.wide_scalar(eps)
        steps = jax.tree.map(
            functools.partial(_adagrad_step, rate, outside),
            *(grads, state.nu, state.grad_sum),
        )  # (8)
        if has_momentum:
            steps = moments.ema(momentum, steps, state.mu)  # (9)
        direction = links.add_decay(
            name,
            steps,
            params,
            links.value_at(weight_decay, state.count),
            weight_decay_mask,
            rate,
        )
        direction = trees.cast_like(direction, grads)
        # The step reads the old sums, and the new params are made from it: once they
        # are known, the new sums can take the place of the old ones.
        moved = trees.moved(params, direction)
        leaves = jax.tree.map(
            functools.partial(_adagrad, rate, outside),
            grads,
            trees.after(state.count, moved, state.nu),
            trees.after(state.count, moved, state.grad_sum),
        )
        sum_square, square, length = reductions.sums(
            reduce,
            _field(leaves, "sum_square"),
            _field(leaves, "square"),
            _field(leaves, "length"),
        )
        error = numerics.wide_scalar(state.error) + jnp.square(rate) * square  # (4)
        estimate = numerics.safe_divide(sum_square - error, length)  # (6)
        return direction, ScaleByDadaptAdagradState(
            count=numerics.increment(state.count),
            mu=trees.cast_like(steps, state.mu) if has_momentum else None,
            nu=trees.cast_like(_field(leaves, "nu"), state.nu),
            grad_sum=trees.cast_like(_field(leaves, "grad_sum"), state.grad_sum),
            distance=_grown(state.distance, estimate, growth_rate),  # (7)
            error=error.astype(state.error.dtype),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def dadapt_adagrad(
    learning_rate: ScalarOrSchedule = 1.0,
    eps: Scalar = 1e-6,
    *,
    momentum: Scalar = 0.0,
    d0: Scalar = 1e-6,
    growth_rate: Scalar = math.inf,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""D-Adaptation of AdaGrad: a rate for each entry, and their common size found.

    :math:`d` is a growing estimate of the distance :math:`\|x_0 - x_*\|_\infty`. With
    the sums over the whole tree and the rest entry by entry, for the gradient
    :math:`g_t` at :math:`x_{t-1}`,

    .. math::

       \lambda_t &= d_{t-1} \gamma_t                                        && (1) \\
       A_t &= A_{t-1} + |g_t|^2                                             && (2) \\
       q_t &= \sqrt{A_t} + \varepsilon                                      && (3) \\
       E_t &= E_{t-1} + \lambda_t^2 \textstyle\sum |g_t|^2 / q_t            && (4) \\
       s_t &= s_{t-1} + \lambda_t g_t                                       && (5) \\
       \hat d_t &= (\textstyle\sum |s_t|^2 / q_t - E_t) / \|s_t\|_1         && (6) \\
       d_t &= \max(d_{t-1}, \min(\hat d_t, r \, d_{t-1}))                   && (7) \\
       p_t &= s_t / q_t - s_{t-1} / q_{t-1}                                 && (8) \\
       m_t &= \mu m_{t-1} + (1 - \mu) p_t                                   && (9) \\
       x_t &= x_{t-1} - m_t - \lambda_t w \, x_{t-1}                        && (10)

    with :math:`A_0 = 10^{-6}`, :math:`E_0 = s_0 = m_0 = 0`. The difference (8) is
    computed without cancellation, as :math:`(\lambda_t g_t - (s_{t-1} / q_{t-1})
    |g_t|^2 / (\sqrt{A_t} + \sqrt{A_{t-1}})) / q_t`.

    Symbols: :math:`\gamma` learning_rate, :math:`\varepsilon` eps, :math:`\mu`
    momentum, :math:`d_0` d0, :math:`r` growth_rate, :math:`w` weight_decay; the state
    holds :math:`t` as count, :math:`m` as mu (None where momentum is the number 0),
    :math:`A` as nu, :math:`s` as grad_sum, :math:`d` as distance, :math:`E` as error.
    `distance_estimates` reads :math:`d`.

    Defaults: those of ``dadaptation.DAdaptAdaGrad``. The estimate grows slowly from a
    tiny d0.

    Differences from the paper: the estimate (6) has no factor 1/2, as in the release;
    only :math:`d \le 2 \|x_0 - x_*\|_\infty` is promised.

    Differences from released code: decay is decoupled, where the release adds it to
    the gradients (as ``optax.add_decayed_weights``, put first, does); sparse gradients,
    for which the release adds :math:`\varepsilon` inside the root, have no form of
    their own. Groups of the release share one :math:`d`; those of ``optax.partition``
    have one each. The release keeps :math:`x_0` and averages
    :math:`x_t = \mu x_{t-1} + (1 - \mu)(x_0 - s_t / q_t)`; (8) to (10) are the same
    points without :math:`x_0`, and go on from wherever something else puts the
    params.

    Args:
      learning_rate: Factor on the distance, a number or a schedule of the 0-based
        count of updates.
      eps: Added to the root of the sum of squares.
      momentum: Decay rate of the average of the steps, in [0, 1).
      d0: First estimate of the distance, positive; should be too small.
      growth_rate: The distance grows at most by this factor per step, at least 1.
      weight_decay: Decoupled decay, a number or a schedule; multiplied by the
        learning rate and the distance.
      weight_decay_mask: Which leaves decay: a tree of booleans, a prefix of one, or
        a function from the params to one.
      reduce: Only where each device holds a part of the params and calls `update` by
        itself, as in ``shard_map``: sums a small vector over these devices, for
        instance ``lambda x: jax.lax.psum(x, "data")``.

    Returns:
      The optimizer. Its updates have the dtypes of the gradients and are to be added
      to the params.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients do
        not have the structure and shapes of the params, or weight_decay needs params
        and there are none.

    References:
      Defazio and Mishchenko, Learning-Rate-Free Learning by D-Adaptation, ICML 2023;
      arXiv:2301.07733.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.dadapt_adagrad(d0=0.01)
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(300):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    _check("dadapt_adagrad", learning_rate, d0, growth_rate, weight_decay)
    checks.decay_rates("dadapt_adagrad", momentum=momentum)
    checks.non_negative("dadapt_adagrad", eps=eps)
    return optax.chain(
        scale_by_dadapt_adagrad(
            learning_rate,
            eps,
            momentum=momentum,
            d0=d0,
            growth_rate=growth_rate,
            weight_decay=weight_decay,
            weight_decay_mask=weight_decay_mask,
            reduce=reduce,
        ),
        optax.scale(-1.0),  # (10)
    )


def scale_by_dadapt_adam(
    learning_rate: ScalarOrSchedule = 1.0,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    d0: Scalar = 1e-6,
    growth_rate: Scalar = math.inf,
    bias_correction: bool = True,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The step of D-Adaptation for Adam, uphill and with its rate; see `dadapt_adam`.

    Args:
      learning_rate: Factor on the distance, a number or a schedule of the 0-based
        count of updates.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the root of the second moment.
      d0: First estimate of the distance, positive; should be too small.
      growth_rate: The distance grows at most by this factor per step, at least 1.
      bias_correction: Whether the rate has Adam's corrections of both moments.
      weight_decay: Decoupled decay, a number or a schedule; multiplied by the
        learning rate and the distance.
      weight_decay_mask: Which leaves decay.
      reduce: Sums a small vector over the devices that hold parts of the params.

    Returns:
      The transformation. Do not put a learning rate after it; the sign is still to
      be flipped.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients do
        not have the structure and shapes of the params, or weight_decay needs params
        and there are none.
    """
    name = "scale_by_dadapt_adam"
    _check(name, learning_rate, d0, growth_rate, weight_decay)
    checks.decay_rates(name, b1=b1, b2=b2)
    checks.non_negative(name, eps=eps)

    def init(params: PyTree) -> ScaleByDadaptAdamState:
        return ScaleByDadaptAdamState(
            count=jnp.zeros([], jnp.int32),
            mu=_steps_like(name, params),
            nu=trees.accumulators_like(name, params),
            grad_sum=trees.averages_like(name, params),
            distance=reductions.scalar_like(params, d0),
            numerator=reductions.scalar_like(params, 0.0),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByDadaptAdamState]:
        del extra_args
        grads = trees.gradients(name, updates, state.grad_sum)
        count = numerics.increment(state.count)
        d = numerics.wide_scalar(state.distance)
        rate = d * links.value_at(learning_rate, state.count)
        if bias_correction:
            rate = rate * jnp.sqrt(numerics.bias_correction(b2, count))
            rate = rate / numerics.bias_correction(b1, count)  # (1)
        first, second = numerics.scalar(b1), numerics.scalar(b2)
        root = second**0.5
        decays = _Decays(
            *map(
                numerics.wide_scalar,
                (first, (1.0 - first) * rate, second, 1.0 - second),
            ),
            *map(numerics.wide_scalar, (root, (1.0 - root) * rate, eps)),
        )
        step = functools.partial(_adam, numerics.division(numerics.scalar(eps)), decays)
        leaves = jax.tree.map(step, grads, state.mu, state.nu, state.grad_sum)
        product, length = reductions.sums(
            reduce, _field(leaves, "product"), _field(leaves, "length")
        )
        numerator = numerics.wide_scalar(state.numerator)
        numerator = decays.root * numerator + decays.of_sum * product  # (2)
        estimate = numerics.safe_divide(numerator, (1.0 - root) * length)  # (6)
        direction = links.add_decay(
            name,
            _field(leaves, "step"),
            params,
            links.value_at(weight_decay, state.count),
            weight_decay_mask,
            rate,
        )
        return trees.cast_like(direction, grads), ScaleByDadaptAdamState(
            count=count,
            mu=trees.cast_like(_field(leaves, "mu"), state.mu),
            nu=trees.cast_like(_field(leaves, "nu"), state.nu),
            grad_sum=trees.cast_like(_field(leaves, "grad_sum"), state.grad_sum),
            distance=_grown(state.distance, estimate, growth_rate),  # (7)
            numerator=numerator.astype(state.numerator.dtype),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def dadapt_adam(
    learning_rate: ScalarOrSchedule = 1.0,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    d0: Scalar = 1e-6,
    growth_rate: Scalar = math.inf,
    bias_correction: bool = True,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = None,
    reduce: Reduce | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""D-Adaptation of Adam: the size of Adam's steps is found while it runs.

    :math:`d` is a growing estimate of the distance :math:`\|x_0 - x_*\|_\infty`, and
    with it of the best learning rate. With the product and the norm over the whole
    tree and the rest entry by entry, for the gradient :math:`g_t` at :math:`x_{t-1}`,

    .. math::

       \lambda_t &= d_{t-1} \gamma_t \sqrt{1 - \beta_2^t} / (1 - \beta_1^t) && (1) \\
       N_t &= \beta_s N_{t-1} + (1 - \beta_s) \lambda_t
         \langle g_t, s_{t-1} / (\sqrt{v_{t-1}} + \varepsilon) \rangle      && (2) \\
       m_t &= \beta_1 m_{t-1} + (1 - \beta_1) \lambda_t g_t                 && (3) \\
       v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2                       && (4) \\
       s_t &= \beta_s s_{t-1} + (1 - \beta_s) \lambda_t g_t                 && (5) \\
       \hat d_t &= N_t / ((1 - \beta_s) \|s_t\|_1)                          && (6) \\
       d_t &= \max(d_{t-1}, \min(\hat d_t, r \, d_{t-1}))                   && (7) \\
       x_t &= x_{t-1} - m_t / (\sqrt{v_t} + \varepsilon)
         - \lambda_t w \, x_{t-1}                                           && (8)

    with :math:`\beta_s = \sqrt{\beta_2}` and :math:`N_0 = m_0 = v_0 = s_0 = 0`.
    Without ``bias_correction``, :math:`\lambda_t = d_{t-1} \gamma_t`.

    Symbols: :math:`\gamma` learning_rate, :math:`\beta_1` b1, :math:`\beta_2` b2,
    :math:`\varepsilon` eps, :math:`d_0` d0, :math:`r` growth_rate, :math:`w`
    weight_decay; the state holds :math:`t` as count, :math:`m` as mu, :math:`v` as nu,
    :math:`s` as grad_sum, :math:`d` as distance, :math:`N` as numerator.
    `distance_estimates` reads :math:`d`.

    Defaults: those of the release and the numbers of ``optax.contrib.dadapt_adamw``,
    whose betas are b1 and b2 here and whose estim_lr0 is d0. A learning rate of 1 is
    for schedules that start or end at 0. ``growth_rate=1.02`` is a kind of warm-up.

    Differences from the paper and its preprint: (2) is the inner-product form of the
    release, with :math:`v` of the step before.

    Differences from released code: the release corrects no bias unless asked to. It
    skips steps of rate 0, which here only leave the gradient out of :math:`m` and
    :math:`s`, and does not count gradients of zero before the first that is not. Its
    decay is of the gradients unless asked otherwise (for that, put
    ``optax.add_decayed_weights`` first); its layer_scale is left out; its groups share
    one :math:`d`, where those of ``optax.partition`` have one each. optax has no
    growth_rate, keeps :math:`d` in the narrowest dtype of the params, and squares a
    complex gradient where (4) takes its absolute value; there, a first
    gradient of zero, or a first rate of 0, makes :math:`d` NaN for ever; here 0/0 is
    0.

    Args:
      learning_rate: Factor on the distance, a number or a schedule of the 0-based
        count of updates.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1); its root is that of the sums
        behind the estimate.
      eps: Added to the root of the second moment, outside.
      d0: First estimate of the distance, positive; should be too small.
      growth_rate: The distance grows at most by this factor per step, at least 1.
      bias_correction: Whether the rate has Adam's corrections of both moments.
      weight_decay: Decoupled decay, a number or a schedule; multiplied by
        :math:`\lambda_t`.
      weight_decay_mask: Which leaves decay: a tree of booleans, a prefix of one, or
        a function from the params to one.
      reduce: Only where each device holds a part of the params and calls `update` by
        itself, as in ``shard_map``: sums a small vector over these devices, for
        instance ``lambda x: jax.lax.psum(x, "data")``.

    Returns:
      The optimizer. Its updates have the dtypes of the gradients and are to be added
      to the params.

    Raises:
      ValueError: A hyperparameter is out of its range; in `update`, the gradients do
        not have the structure and shapes of the params, or weight_decay needs params
        and there are none.

    References:
      Defazio and Mishchenko, Learning-Rate-Free Learning by D-Adaptation, ICML 2023;
      arXiv:2301.07733.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> optimizer = optimizers.dadapt_adam()
      >>> x = jnp.zeros(2)
      >>> state = optimizer.init(x)
      >>> for _ in range(300):
      ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> print(f"{loss(x):.2f}")
      0.00
    """
    _check("dadapt_adam", learning_rate, d0, growth_rate, weight_decay)
    checks.decay_rates("dadapt_adam", b1=b1, b2=b2)
    checks.non_negative("dadapt_adam", eps=eps)
    return optax.chain(
        scale_by_dadapt_adam(
            learning_rate,
            b1,
            b2,
            eps,
            d0=d0,
            growth_rate=growth_rate,
            bias_correction=bias_correction,
            weight_decay=weight_decay,
            weight_decay_mask=weight_decay_mask,
            reduce=reduce,
        ),
        optax.scale(-1.0),  # (8)
    )


def distance_estimates(state: PyTree) -> dict[str, jax.Array]:
    """Every estimate d of D-Adaptation and Prodigy in a state, by its path.

    Args:
      state: The state of an optimizer, also one with such methods inside chains,
        masks, partitions, injected hyperparameters and other wrappers.

    Returns:
      The estimates, as ``{"[0].distance": d}``; empty where there is none.

    Examples:
      >>> import jax.numpy as jnp, optax, optimizers
      >>> optimizer = optax.chain(optax.clip(1.0), optimizers.dadapt_adam(d0=0.5))
      >>> state = optimizer.init(jnp.zeros(2))
      >>> for path, d in optimizers.distance_estimates(state).items():
      ...     print(path, d)
      [1][0].distance 0.5
    """
    nodes = jax.tree_util.tree_leaves_with_path(state, is_leaf=_estimates_distance)
    return {
        f"{jax.tree_util.keystr(path)}.distance": node.distance
        for path, node in nodes
        if _estimates_distance(node)
    }


def _estimates_distance(node: Any) -> bool:
    return {"distance", "grad_sum"} <= set(getattr(node, "_fields", ()))


class _Decays(NamedTuple):
    """The decay rates of one step, and the weight of the gradient in each average."""

    b1: jax.Array
    of_mu: jax.Array
    b2: jax.Array
    of_nu: jax.Array
    root: jax.Array
    of_sum: jax.Array
    eps: jax.Array


class _AdamLeaf(NamedTuple):
    product: jax.Array
    length: jax.Array
    mu: jax.Array
    nu: jax.Array
    grad_sum: jax.Array
    step: jax.Array


class _AdagradLeaf(NamedTuple):
    sum_square: jax.Array
    square: jax.Array
    length: jax.Array
    nu: jax.Array
    grad_sum: jax.Array


@functools.partial(numerics.inline_jit, static_argnums=0)
def _adam(
    divide: Callable[[jax.Array, jax.Array], jax.Array],
    decays: _Decays,
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    s: jax.Array,
) -> _AdamLeaf:
    g = numerics.widen(g, s)
    m, v, s = m.astype(g.dtype), v.astype(g.real.dtype), s.astype(g.dtype)
    b1, of_mu, root, of_sum = (
        numerics.like(g, decay)
        for decay in (decays.b1, decays.of_mu, decays.root, decays.of_sum)
    )
    b2, of_nu, eps = (
        numerics.like(v, decay) for decay in (decays.b2, decays.of_nu, decays.eps)
    )
    product = reductions.product(g, divide(s, jnp.sqrt(v) + eps))  # in (2)
    b2, root, eps = (_once_known(product, value) for value in (b2, root, eps))
    m = b1 * m + of_mu * g  # (3)
    v = b2 * v + of_nu * numerics.abs_square(g)  # (4)
    s = root * s + of_sum * g  # (5)
    step = divide(m, jnp.sqrt(v) + eps)  # in (8)
    return _AdamLeaf(product, jnp.sum(jnp.abs(s)), m, v, s, step)


@numerics.inline_jit
def _adagrad_step(
    rate: jax.Array, eps: jax.Array, g: jax.Array, a: jax.Array, s: jax.Array
) -> jax.Array:
    g = numerics.widen(g, s)
    a, s = a.astype(g.real.dtype), s.astype(g.dtype)
    rate, eps = numerics.like(g, rate), numerics.like(a, eps)
    before, after = jnp.sqrt(a), jnp.sqrt(a + numerics.abs_square(g))
    turned = numerics.divide(s, before + eps)
    turned = turned * numerics.like(s, _square_over(g, after + before))
    return numerics.divide(rate * g - turned, after + eps)


@numerics.inline_jit
def _adagrad(
    rate: jax.Array, eps: jax.Array, g: jax.Array, a: jax.Array, s: jax.Array
) -> _AdagradLeaf:
    g = numerics.widen(g, s)
    rate, eps = numerics.like(g, rate), numerics.like(a, eps)
    a = a.astype(g.real.dtype) + numerics.abs_square(g)  # (2)
    s = s.astype(g.dtype) + rate * g  # (5)
    length = jnp.sum(jnp.abs(s))
    q = jnp.sqrt(a) + _once_known(length, eps)  # (3)
    sum_square = jnp.sum(_square_over(s, q))
    # XLA writes to memory what two sums have in common; behind a barrier nothing is,
    # and computing it again costs less.
    g, again = lax.optimization_barrier((g, a))
    q = jnp.sqrt(again) + _once_known(sum_square, eps)  # (3)
    return _AdagradLeaf(
        sum_square=sum_square,
        square=jnp.sum(_square_over(g, q)),
        length=length,
        nu=a,
        grad_sum=s,
    )


def _square_over(x: jax.Array, q: jax.Array) -> jax.Array:
    """|x|^2 / q, which is 0 and not NaN where a square has made q infinite."""
    if jnp.iscomplexobj(x):
        return x.real * (x.real / q) + x.imag * (x.imag / q)
    return x * (x / q)


@numerics.inline_jit
def _square(x: jax.Array) -> jax.Array:
    return jnp.sum(numerics.abs_square(numerics.widen(x)))


@numerics.inline_jit
def _times(weight: jax.Array, g: jax.Array) -> jax.Array:
    g = numerics.widen(g)
    return numerics.like(g, weight) * g


@numerics.inline_jit
def _plus(weight: jax.Array, g: jax.Array, s: jax.Array) -> jax.Array:
    g = numerics.widen(g, s)
    return s.astype(g.dtype) + numerics.like(g, weight) * g


def _once_known(known: jax.Array, value: jax.Array) -> jax.Array:
    """The value, but not before a sum is known; NaN where that is.

    Made from it, a new state leaf can take the place of the old one that the sum
    reads. Otherwise XLA may order them the other way round and copy the old leaf.
    """
    known = known.astype(value.dtype)
    return jnp.where(jnp.isnan(known), known, value)


@numerics.inline_jit
def _saturated(step: jax.Array, g: jax.Array) -> jax.Array:
    """Finite steps as they are finite in the dtype of the gradient.

    After a tiny first gradient, steps can be too large for float16.
    """
    largest = float(jnp.finfo(g.dtype).max)
    if largest >= jnp.finfo(step.dtype).max or jnp.iscomplexobj(step):
        return step
    return jnp.where(jnp.isfinite(step), jnp.clip(step, -largest, largest), step)


def _grown(d: jax.Array, estimate: jax.Array, growth_rate: Scalar) -> jax.Array:
    """max(d, min(estimate, r d)); an estimate that overflowed says nothing."""
    wide = numerics.wide_scalar(d)
    # As a number, infinity has derivatives that are not NaN.
    factor = jnp.minimum(
        numerics.wide_scalar(growth_rate), float(jnp.finfo(wide.dtype).max)
    )
    limit = factor * wide
    estimate = jnp.where(jnp.isfinite(estimate), estimate, 0.0)
    return jnp.maximum(wide, jnp.minimum(estimate, limit)).astype(d.dtype)


def _field(leaves: PyTree, name: str) -> PyTree:
    """One field of a tree whose leaves are the NamedTuples of this file."""
    return jax.tree.map(
        lambda leaf: getattr(leaf, name),
        leaves,
        is_leaf=lambda node: isinstance(node, _AdamLeaf | _AdagradLeaf),
    )


def _steps_like(function: str, params: PyTree) -> PyTree:
    """Zeros for averages of steps, which are too small for float16 at first."""

    def leaf(zeros: jax.Array) -> jax.Array:
        return numerics.widen(zeros) if zeros.dtype == jnp.float16 else zeros

    return jax.tree.map(leaf, trees.zeros_like(function, params))


def _is_zero(value: Any) -> bool:
    """Whether it is the number 0, and not an array that happens to be 0."""
    return isinstance(value, float | int) and value == 0


def _check(
    function: str,
    learning_rate: ScalarOrSchedule,
    d0: Scalar,
    growth_rate: Scalar,
    weight_decay: ScalarOrSchedule,
) -> None:
    checks.non_negative(
        function, learning_rate=learning_rate, weight_decay=weight_decay
    )
    checks.positive(function, d0=d0)
    checks.at_least_one(function, growth_rate=growth_rate)
