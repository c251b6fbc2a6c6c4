"""Scenarios: the fixed parameters and gradients that trajectories are recorded on.

All inputs are sums, products and floors of float64, which every machine rounds alike;
sines and random generators are less portable. The gradients do not depend on the
parameters, so that rounding errors add up but do not feed back.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from optimizers.testing._inputs import Tree, is_shape

STEPS = 8

# Trees of shapes. Few leaves, since compilation takes most of the time.
_TREES: dict[str, Tree] = {
    "layers": {"bias": (3,), "kernel": (2, 3)},
    "nested": {"blocks": [{"scale": ()}, ((2, 2),)]},
    "scalar": (),
    "vector": (3,),
}

# Factor on the gradient of entry i at step t, both counted from 0.
_STREAMS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "smooth": lambda i, t: np.ones(i.shape),
    # A third of the entries at a time, every fifth entry never, step 5 all zero.
    "sparse": lambda i, t: 1.0 * (((i + t) % 3 == 0) & (i % 5 != 4) & (t != 5)),
    "spikes": lambda i, t: np.full(i.shape, 1024.0 if t == 3 else 1.0),
    # From 6e-8, where eps counts, to 3e5.
    "scales": lambda i, t: np.full(i.shape, 2.0 ** (6 * t - 24)),
}

# The dtypes of a mixed tree; its leaves alternate between them.
_MIXED = ("float32", "bfloat16")

_SCENARIOS = (
    "layers/float32/smooth",
    "layers/float32/sparse",
    "layers/float32/spikes",
    "layers/float32/scales",
    "nested/mixed/sparse",
    "scalar/float16/smooth",
    "vector/complex64/smooth",
    "vector/float64/smooth",
)


def trajectory_scenarios() -> tuple[str, ...]:
    """Returns the names of all scenarios, as tree/dtype/gradients.

    Trees: `layers` has a bias of shape (3,) and a kernel of shape (2, 3); `nested` has
    dictionaries, a list and a tuple around a float32 scalar and a bfloat16 matrix;
    `scalar` and `vector` are single arrays of shapes () and (3,). Entries have sizes
    between 0.1 and 1.1.

    Gradients: `smooth` gradients move linearly from one point to another in 8 steps;
    the others are multiples of these. `sparse` keeps a third of the entries at a time,
    every fifth entry never, and none in the sixth step; in `spikes` the fourth gradient
    is 1024 times as large; `scales` grows from 6e-8 to 3e5.

    Scenarios in float64 run only if `jax_enable_x64` is on.
    """
    return _SCENARIOS


def is_runnable(scenario: str) -> bool:
    """Returns whether JAX is configured for the dtypes of a scenario."""
    return "/float64/" not in scenario or jax.config.read("jax_enable_x64")


def make_inputs(scenario: str) -> tuple[Tree, Iterator[Tree]]:
    """Returns the parameters of a scenario, and its gradients one by one."""
    tree, dtype, stream = scenario.split("/")
    shapes, structure = jax.tree.flatten(_TREES[tree], is_leaf=is_shape)
    dtypes = [
        np.dtype(jnp.dtype(_MIXED[k % 2] if dtype == "mixed" else dtype))
        for k in range(len(shapes))
    ]
    # Entries are numbered through the whole tree.
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    index = np.arange(ends[-1])

    def arrays(values: np.ndarray) -> Tree:
        parts = np.split(values, ends[:-1])
        leaves = [
            jnp.asarray(
                (part if kind.kind == "c" else np.real(part)).reshape(shape), kind
            )
            for part, shape, kind in zip(parts, shapes, dtypes, strict=True)
        ]
        return structure.unflatten(leaves)

    def gradients() -> Iterator[Tree]:
        first, last = _spread(index + 100), _spread(index + 200)
        for t in range(STEPS):
            value = first + (last - first) * (t / STEPS)
            yield arrays(value * _STREAMS[stream](index, t))

    return arrays(_spread(index)), gradients()


def _spread(index: np.ndarray) -> np.ndarray:
    """Returns irregular complex numbers: multiples of the golden ratio, modulo 1."""
    parts = []
    for shift in (1, 301):
        turns = (index + shift) * 0.6180339887498949
        value = 2 * (turns - np.floor(turns)) - 1
        # Away from zero, where the sign of a rounding error would decide a step.
        parts.append(value + np.where(value < 0, -0.1, 0.1))
    return parts[0] + 1j * parts[1]
