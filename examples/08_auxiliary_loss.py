"""Bloop: an auxiliary loss that may not disturb the main one."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import optimizers


class Regressor(nnx.Module):
    """One hidden layer, wider than eight points need."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(1, 32, rngs=rngs)
        self.output = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Inputs [n, 1] to predictions [n, 1]."""
        return self.output(nnx.tanh(self.hidden(x)))


graph, start = nnx.split(Regressor(nnx.Rngs(0)))
inputs = jnp.linspace(-2.0, 2.0, 8)[:, None]
targets = jnp.sin(2 * inputs)


def fit(params: nnx.State) -> jax.Array:
    """The main loss: many networks bring it to zero."""
    return jnp.mean((nnx.merge(graph, params)(inputs) - targets) ** 2)


def size(params: nnx.State) -> jax.Array:
    """The auxiliary loss: of these networks, we want a small one."""
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)) / 2


def train(surgery: optax.GradientTransformationExtraArgs) -> nnx.State:
    """Trains with Adam on the direction that the surgery makes of two gradients."""
    optimizer = optax.chain(surgery, optimizers.adam(0.01))

    def step(_: int, carry: tuple) -> tuple:
        params, state = carry
        grads, aux_grads = jax.grad(fit)(params), jax.grad(size)(params)
        updates, state = optimizer.update(grads, state, params, aux_grads=aux_grads)
        return optax.apply_updates(params, updates), state

    carry = start, optimizer.init(start)
    return jax.jit(lambda carry: jax.lax.fori_loop(0, 2000, step, carry))(carry)[0]


for name, surgery in {
    "the main loss alone": optimizers.mixed_gradients(0.0),
    "a weighted sum": optimizers.mixed_gradients(0.01),
    "bloop": optimizers.bloop(aux_weight=0.01),
}.items():
    params = train(surgery)
    print(f"{name:20}  fit {fit(params):.1e}  size {size(params):5.1f}")
