"""The gradient of SAM as a function of the loss: Foret et al. (2020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optimizers._common import checks, functions, numerics, perturbation, trees
from optimizers._common.typing import Mask, PyTree, Reduce, Scalar

__all__ = ["sam_value_and_grad"]


def sam_value_and_grad(
    loss: Callable[..., Any],
    rho: Scalar = 0.05,
    *,
    p: Scalar = 2,
    adaptive: bool | Mask = False,
    eta: Scalar = 0.01,
    mask: Mask = None,
    ascent_steps: Scalar = 1,
    per_leaf: bool = False,
    reduce: Reduce | None = None,
    has_aux: bool = False,
    microbatches: int = 1,
    batch_argnums: int | Sequence[int] = 1,
) -> Callable[..., tuple[Any, PyTree]]:
    r"""As `jax.value_and_grad`, with the gradient of SAM.

    It works with every optimizer, also inside ``optax.MultiSteps``, ``optax.masked``
    and ``optax.partition``. The method is that of `sharpness_aware`::

        @jax.jit
        def step(params, state, batch, key):
            value_and_grad = sam_value_and_grad(model_loss, 0.05, has_aux=True)
            (value, aux), grads = value_and_grad(params, batch, key)
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state, value, aux

    Value and aux are those at the unperturbed params; take the statistics of batch
    normalization from there. All evaluations get the same arguments, hence the same
    dropout key.

    With ``microbatches``, the examples are split into groups. Each group has its own
    perturbation, and the gradients are averaged, in the memory of one group. This is
    the m-sharpness of the paper, in which smaller groups generalized better. The value
    is the mean over groups, and aux has a leading axis of groups.

    Under ``jax.shard_map`` with the params on every device and the batch split, each
    device is a group if params are marked as varying before the gradient is computed;
    average afterwards::

        params = jax.lax.pcast(params, "data", to="varying")
        value, grads = sam_value_and_grad(model_loss, 0.05)(params, batch)
        value, grads = jax.lax.pmean((value, grads), "data")

    Complex leaves: as for `jax.grad`, the gradient is the conjugate of the ascent
    direction.

    Args:
      loss: A function from params and other arguments to a number, or to a pair of it
        and anything with ``has_aux``.
      rho: Radius of the perturbation; the number 0 gives `jax.value_and_grad`.
      p: Order of the norm that bounds the perturbation, from 1 to infinity.
      adaptive: True for ASAM in leaves with two or more axes; or which leaves are
        adaptive.
      eta: Added to the absolute value of the params in adaptive leaves.
      mask: Which leaves are perturbed: a tree of booleans, a prefix of one, or a
        function from the params to one.
      ascent_steps: Number of ascent steps, each of the length rho. Reverse-mode
        derivatives of the gradient need a number that is not traced.
      per_leaf: Whether each leaf has its own norm.
      reduce: All-reduce for global norms under ``jax.shard_map`` with sharded params,
        e.g. ``lambda x: jax.lax.psum(x, "data")``. Leave None under ``jax.jit``. Needs
        a p of 2 or infinity.
      has_aux: Whether loss returns a pair.
      microbatches: Number of groups that the examples are split into.
      batch_argnums: Positions of the arguments that hold examples, along the first axis
        of all their arrays; used with microbatches. Params are argument 0, as for
        `jax.grad`.

    Returns:
      A function with the arguments of loss. It returns the value, or the pair of value
      and aux, and the gradient.

    Raises:
      TypeError: loss is not a function; when called, it does not return a real number,
        or with has_aux a pair that begins with one.
      ValueError: A hyperparameter is out of its range; when called, the loss does not
        depend on the params, or the examples cannot be split into the groups.

    References:
      Foret, Kleiner, Mobahi and Neyshabur, Sharpness-Aware Minimization for
      Efficiently Improving Generalization, ICLR 2021; arXiv:2010.01412.

    Examples:
      >>> import jax, jax.numpy as jnp, optimizers
      >>> loss = lambda x, rows: jnp.mean((rows @ x) ** 2)
      >>> rows = jnp.array([[1.0, 0.0], [0.0, 2.0]])
      >>> value_and_grad = optimizers.sam_value_and_grad(loss, 0.5, microbatches=2)
      >>> value, gradient = value_and_grad(jnp.ones(2), rows)
      >>> print(value, gradient)
      2.5 [1.5 6. ]
    """
    name = "sam_value_and_grad"
    perturbed_gradient = perturbation.sam_gradient(
        name,
        p=p,
        adaptive=adaptive,
        eta=eta,
        mask=mask,
        ascent_steps=ascent_steps,
        per_leaf=per_leaf,
        reduce=reduce,
    )
    if not callable(loss):
        msg = f"{name}: loss must be a function, got a {type(loss).__name__}."
        raise TypeError(msg)
    checks.non_negative(name, rho=rho)
    groups = checks.size(name, "microbatches", microbatches)
    if callable(rho):
        msg = f"{name}: rho must be a number, got {rho!r}; call the schedule yourself."
        raise ValueError(msg)  # noqa: TRY004
    radius = numerics.as_scalar(rho)
    argnums = (batch_argnums,) if isinstance(batch_argnums, int) else batch_argnums

    def checked_loss(params: PyTree, *args: Any, **kwargs: Any) -> Any:
        found = loss(params, *args, **kwargs)
        if has_aux and not (isinstance(found, tuple) and len(found) == 2):
            msg = (
                f"{name}: with has_aux=True, loss must return a pair of the loss and "
                f"anything, got {functions.described(found)}."
            )
            raise TypeError(msg)
        value = found[0] if has_aux else found
        functions.require_loss(name, "loss", value, params, "Pass has_aux=True.")
        return found

    def whole(params: PyTree, *args: Any, **kwargs: Any) -> tuple[Any, PyTree]:
        found, grads = jax.value_and_grad(checked_loss, has_aux=has_aux)(
            params, *args, **kwargs
        )
        if numerics.is_number(radius, 0):
            return found, grads

        def ascent_direction(x: PyTree) -> PyTree:
            gradient = jax.grad(checked_loss, has_aux=has_aux)(x, *args, **kwargs)
            return _conjugate(gradient[0] if has_aux else gradient)

        gradient = perturbed_gradient(
            radius, params, _conjugate(grads), ascent_direction
        )
        return found, _conjugate(gradient)

    def split(params: PyTree, *args: Any, **kwargs: Any) -> tuple[Any, PyTree]:
        examples = [_split_examples(name, args, i, groups) for i in argnums]

        def add(total: PyTree, group: list[PyTree]) -> tuple[PyTree, Any]:
            own = list(args)
            for i, part in zip(argnums, group, strict=True):
                own[i - 1] = part
            found, grads = whole(params, *own, **kwargs)
            return jax.tree.map(_sum, total, grads), found

        zeros = jax.tree.map(
            lambda x: numerics.upcast(jnp.zeros_like(x, dtype=numerics.dtype_of(x))),
            params,
        )
        total, found = lax.scan(add, zeros, examples)
        grads = jax.tree.map(
            lambda g, x: (g / numerics.cast_scalar(g, groups)).astype(
                numerics.dtype_of(x)
            ),
            total,
            params,
        )
        if has_aux:
            return (jnp.mean(found[0], axis=0), found[1]), grads
        return jnp.mean(found, axis=0), grads

    return whole if groups == 1 else split


def _split_examples(name: str, args: Sequence[Any], argnum: int, groups: int) -> PyTree:
    """The arrays of an argument with a leading axis of groups.

    Raises:
      ValueError: There is no such argument, or its arrays cannot be split.
    """
    if not 1 <= argnum <= len(args):
        msg = (
            f"{name}: batch_argnums has {argnum}, but there are arguments 1 to "
            f"{len(args)} besides the params, argument 0. Pass examples by position."
        )
        raise ValueError(msg)

    def leaf(path: Any, x: Any) -> jax.Array:
        shape = jnp.shape(x)
        if not shape or shape[0] % groups:
            where = jax.tree_util.keystr(path)
            msg = (
                f"{name}: argument {argnum}{where} has the shape {shape}, whose first "
                f"axis cannot be split into {groups} microbatches. List only "
                "arguments that hold examples in batch_argnums."
            )
            raise ValueError(msg)
        return jnp.reshape(x, (groups, shape[0] // groups, *shape[1:]))

    return jax.tree_util.tree_map_with_path(leaf, args[argnum - 1])


def _conjugate(tree: PyTree) -> PyTree:
    return trees.map_inexact(jnp.conj, tree)


@numerics.inline_jit
def _sum(total: jax.Array, g: jax.Array) -> jax.Array:
    return total + g.astype(total.dtype)
