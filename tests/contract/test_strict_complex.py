"""Complex params beside real and narrow ones, without implicit promotion."""

import jax
import jax.numpy as jnp
import pytest

from optimizers.testing import Case
from optimizers.testing._case import update

PyTree = dict[str, jax.Array]
SHAPES = {
    "complex": jax.ShapeDtypeStruct((2,), jnp.complex64),
    "narrow": jax.ShapeDtypeStruct((), jnp.bfloat16),
    "real": jax.ShapeDtypeStruct((3,), jnp.float32),
}


@pytest.mark.parametrize("scheduled", [False, True])
def test_strict_promotion_holds_or_complex_is_refused(
    case: Case, scheduled: bool
) -> None:
    """Promotion is decided while tracing, so that nothing has to be compiled."""
    if scheduled and not case.takes_rate:
        pytest.skip("takes no learning rate")
    rate = 0.1
    tx = case.make(
        (lambda count: jnp.asarray(rate, jnp.float32)) if scheduled else rate
    )

    def two_steps(params: PyTree, grads: PyTree) -> tuple[PyTree, PyTree]:
        _, state = update(tx, grads, tx.init(params), params)
        return update(tx, grads, state, params)

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        try:
            updates, _ = jax.eval_shape(two_steps, SHAPES, SHAPES)
        except ValueError as error:
            if type(error) is not ValueError:  # JAX's own, which may say "complex" too
                raise
            assert "complex" in str(error)  # noqa: PT017
            return
    assert {name: u.dtype for name, u in updates.items()} == {
        name: shape.dtype for name, shape in SHAPES.items()
    }
