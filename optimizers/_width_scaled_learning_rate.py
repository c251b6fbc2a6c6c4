"""Learning rates scaled by the width of a network: Everett et al. (2024)."""

from __future__ import annotations

from typing import Any

import jax
import optax

from optimizers._common import checks, masks, numerics, trees
from optimizers._common.typing import Mask, PyTree, Scalar

__all__ = ["width_scaled_learning_rate"]

_NAME = "width_scaled_learning_rate"
_LAYERS = ("embedding", "hidden", "readout")
_OPTIMIZERS = ("sgd", "adam", "adafactor")
_ALIGNMENTS = ("full", "none")

# A and B of each layer: weights are n^-A w, where w has the initial deviation n^-B.
_PARAMETERIZATIONS = {
    "standard": {"embedding": (0.0, 0.0), "hidden": (0.0, 0.5), "readout": (0.0, 0.5)},
    "ntk": {"embedding": (0.0, 0.0), "hidden": (0.5, 0.0), "readout": (0.5, 0.0)},
    "mup": {"embedding": (-0.5, 0.5), "hidden": (0.0, 0.5), "readout": (0.5, 0.5)},
    "mean_field": {
        "embedding": (0.0, 0.0),
        "hidden": (0.5, 0.0),
        "readout": (1.0, 0.0),
    },
}


def width_scaled_learning_rate(
    labels: Mask,
    width_ratio: Scalar,
    *,
    parameterization: str = "standard",
    optimizer: str = "adam",
    alignment: str = "full",
) -> optax.GradientTransformationExtraArgs:
    r"""Width-scaled learning rates: transfers a learning rate to a wider network.

    Put it last in a chain. It multiplies the update :math:`u` of every leaf by a power
    of the ratio of the two widths, which depends on the layer of the leaf:

    .. math::

       u \leftarrow (n / n_0)^{c_l} u \qquad (1)

    A layer computes :math:`n^{-A_l} w z`, where the initial elements of :math:`w` have
    the size :math:`n^{-B_l}` and :math:`z` is the input. A step should change the
    output as much in a wide network as in a narrow one. For a step :math:`\Delta w`
    with elements of equal size this is

    .. math::

       n^{-A_l} \, |\Delta w| \, n^{\alpha_l} = O(1) \qquad (2)

    where :math:`\alpha_l` is the exponent with which the :math:`n` incoming activations
    add up: with ``alignment="full"`` they are aligned with the step, :math:`\alpha_l =
    1`; with ``"none"`` they are not, :math:`\alpha_l = 1/2`. An embedding has few
    inputs, :math:`\alpha_l = 0`. The step is the learning rate times

    .. math::

       n^{0}    &\quad\text{for adam}                                    && (3) \\
       n^{-B_l} &\quad\text{for adafactor, whose step is relative to } w && (4) \\
       n^{G_l}  &\quad\text{for sgd, the size of the gradient}           && (5)

    with :math:`G_l = -A_l` in the readout (o) and :math:`G_l = -A_l - A_o - B_o`
    elsewhere. Hence :math:`c_l = A_l - \alpha_l`, plus :math:`B_l` for adafactor, or
    minus :math:`G_l` for sgd. For embedding / hidden / readout:

    =================  ================  ===================  =================
    full alignment     sgd               adam                 adafactor
    =================  ================  ===================  =================
    ``"standard"``     1/2, -1/2, -1     0, -1, -1            0, -1/2, -1/2
    ``"ntk"``          1/2, 1/2, 0       0, -1/2, -1/2        0, -1/2, -1/2
    ``"mup"``          0, 0, 0           -1/2, -1, -1/2       0, -1/2, 0
    ``"mean_field"``   1, 1, 1           0, -1/2, 0           0, -1/2, 0
    =================  ================  ===================  =================

    Without alignment, hidden and readout have 1/2 more. Adam's eps must shrink as the
    gradients do, like :math:`n^{G_l}`; `adam_atan2` has none.

    Symbols: :math:`n / n_0` width_ratio, :math:`l` labels.

    Defaults: Adam with full alignment in the standard parameterization, for which the
    paper's learning rates per layer are better than muP.

    Differences from the paper: the exponents are derived here, from (2) to (5).

    Args:
      labels: ``"embedding"``, ``"hidden"`` or ``"readout"`` for every leaf: a tree of
        labels, a prefix of one, or a function from the updates (which have the
        structure and shapes of the params) to one. Layers whose number of inputs does
        not grow with the network, and biases, are embeddings; layers whose number of
        outputs does not grow are readouts. With `optax.inject_hyperparams`, name a
        function in static_args.
      width_ratio: Width of this network over that of the network whose learning rate is
        used.
      parameterization: Initialization and multipliers of the weights, by the name in
        the table above. They are not applied: the network must already have them.
      optimizer: Optimizer that computes the updates: ``"adam"`` for all whose steps do
        not depend on the sizes of gradients and weights, ``"sgd"`` or ``"adafactor"``.
      alignment: ``"full"`` or ``"none"``.

    Returns:
      The transformation, without state. It scales the result of everything before it in
      the chain, including decoupled weight decay.

    Raises:
      ValueError: An argument is not one of its choices, or width_ratio is not positive;
        in `update`, the labels do not have the structure of the updates or a prefix of
        it.

    References:
      Everett et al., Scaling Exponents Across Parameterizations and Optimizers,
      ICML 2024; arXiv:2407.05872.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, optimizers
      >>> params = {"in": jnp.ones((8, 64)), "out": jnp.ones((64, 2))}
      >>> optimizer = optax.chain(
      ...     optimizers.adam_atan2(learning_rate=1e-2),
      ...     optimizers.width_scaled_learning_rate(
      ...         {"in": "embedding", "out": "readout"}, width_ratio=64 / 16
      ...     ),
      ... )
      >>> state = optimizer.init(params)
      >>> updates, state = optimizer.update(params, state, params)
      >>> print(jax.tree.map(lambda u: f"{u[0, 0]:.4f}", updates))
      {'in': '-0.0100', 'out': '-0.0025'}
    """
    checks.positive(_NAME, width_ratio=width_ratio)
    choices = tuple(_PARAMETERIZATIONS)
    checks.one_of(_NAME, "parameterization", parameterization, choices)
    checks.one_of(_NAME, "optimizer", optimizer, _OPTIMIZERS)
    checks.one_of(_NAME, "alignment", alignment, _ALIGNMENTS)
    exponents = _exponents(parameterization, optimizer, alignment)
    if not masks.is_function(labels):
        _require_layers(labels)

    def init(params: PyTree) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, optax.EmptyState]:
        del params, extra_args
        ratio = numerics.as_scalar(width_ratio)
        factors = {layer: ratio ** exponents[layer] for layer in _LAYERS}

        def subtree(layer: str, updates: PyTree) -> PyTree:
            if exponents[layer] == 0.0:
                return updates
            return jax.tree.map(lambda u: _multiply(factors[layer], u), updates)  # (1)

        return jax.tree.map(subtree, _resolved(labels, updates), updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _exponents(
    parameterization: str, optimizer: str, alignment: str
) -> dict[str, float]:
    """The c_l of equations (2) to (5)."""
    layers = _PARAMETERIZATIONS[parameterization]
    backward = sum(layers["readout"])
    exponents = {}
    for layer, (a, b) in layers.items():
        exponent = a
        if layer != "embedding":
            exponent -= 1.0 if alignment == "full" else 0.5  # (2)
        if optimizer == "adafactor":
            exponent += b  # (4)
        if optimizer == "sgd":
            exponent += a if layer == "readout" else a + backward  # (5)
        exponents[layer] = exponent
    return exponents


def _resolved(labels: Mask, updates: PyTree) -> PyTree:
    """A tree of labels that is a prefix of the updates."""
    if masks.is_function(labels):
        labels = labels(updates)
        _require_layers(labels)
    difference = trees.difference(labels, "the labels", updates, "the updates")
    if difference is not None:
        msg = (
            f"{_NAME}: the labels have the structure {jax.tree.structure(labels)}, "
            f"but the updates have {jax.tree.structure(updates)}; the labels must be "
            f"the same or a prefix of it: {difference}."
        )
        raise ValueError(msg)
    return labels


def _require_layers(labels: PyTree) -> None:
    for path, label in jax.tree_util.tree_leaves_with_path(labels):
        if not path and not isinstance(label, str):
            msg = (
                f"{_NAME}: labels must be a tree of labels like the updates, a prefix "
                "of one, or a function from the updates to one; got "
                f"{label!r}. {checks.static_advice('labels')}"
            )
            raise ValueError(msg)
        where = f"the label at {jax.tree_util.keystr(path)}" if path else "the label"
        checks.one_of(_NAME, where, label, _LAYERS)


@jax.jit
def _multiply(factor: Scalar, u: jax.Array) -> jax.Array:
    return numerics.scaled(factor, u).astype(u.dtype)
