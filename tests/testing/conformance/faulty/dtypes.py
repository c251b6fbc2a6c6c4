"""Faults for the rules in `dtypes`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.testing.conformance.faulty.support import (
    Fault,
    Transformation,
    broken_init,
    broken_leaf,
    broken_state,
    broken_update,
    indexes_params,
)
from tests.testing.conformance.sound import Tree, sound_adam


def forgets_mu_dtype(learning_rate: Any = 0.1, mu_dtype: Any = None) -> Transformation:
    del mu_dtype
    return sound_adam(learning_rate)


def follows_gradients(new: Any, old: Any, g: Tree) -> Any:
    del old
    mu = jax.tree.map(lambda m, x: m.astype(jnp.asarray(x).dtype), new.mu, g)
    return new._replace(mu=mu)


def _narrow_nu(state: Any, params: Tree) -> Any:
    return state._replace(nu=jax.tree.map(jnp.zeros_like, params))


def takes_signs_of_complex_parts(u: jax.Array, g: Any) -> jax.Array:
    if not jnp.iscomplexobj(g):
        return u
    return jax.lax.complex(jnp.sign(g.real), jnp.sign(g.imag))


FAULTS = {
    "gives float32 updates": Fault(
        broken_leaf(lambda u, g: u.astype(jnp.float32)),
        "updates_have_gradient_dtype",
        "float32[3], expected bfloat16[3]",
    ),
    "multiplies by a NumPy number": Fault(
        broken_leaf(lambda u, g: u * np.float64(1.0)),
        "updates_have_gradient_dtype",
        "float32[3], expected bfloat16[3]",
    ),
    "keeps moments in the gradient's dtype": Fault(
        broken_state(follows_gradients), "gradients_may_differ_from_params", ".mu"
    ),
    "has a narrow second moment": Fault(
        broken_init(_narrow_nu), "accumulators_are_float32", ".nu"
    ),
    "stalls": Fault(broken_init(_narrow_nu), "averages_do_not_stall", "differs"),
    "squares in float16": Fault(
        broken_leaf(lambda u, g: jnp.sign(u) * jnp.sqrt(g * g)),
        "half_precision_is_accurate",
        "differs",
    ),
    "drops imaginary parts": Fault(
        broken_leaf(lambda u, g: u.real.astype(u.dtype)),
        "complex_is_handled_or_refused",
        "times 0.6 + 0.8i",
    ),
    "forgets mu_dtype": Fault(forgets_mu_dtype, "moment_dtype_is_kept", "mu_dtype"),
    "reads dtypes of split leaves": Fault(
        broken_update(indexes_params), "complex_may_be_split", "AttributeError"
    ),
    "takes signs of complex parts alone": Fault(
        broken_leaf(takes_signs_of_complex_parts),
        "complex_is_handled_or_refused",
        "0.6 + 0.8i",
    ),
}
