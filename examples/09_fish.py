"""Fish: gradients that agree across domains, by Lookahead over one domain at a time.

Shi et al., Gradient Matching for Domain Generalization, ICLR 2022; arXiv:2104.09937.
"""

import jax
import jax.numpy as jnp
import optax

import optimizers

DOMAINS, META_STEP = 3, 0.3


def make_domain(number: int) -> tuple[jax.Array, jax.Array]:
    """Labels, one feature that all domains share and one that means less in each."""
    keys = jax.random.split(jax.random.key(number), 3)
    labels = jax.random.rademacher(keys[0], (256,), jnp.float32)
    shared = labels + jax.random.normal(keys[1], (256,))
    spurious = labels * (1.0 - 0.5 * number) + jax.random.normal(keys[2], (256,))
    return jnp.stack([shared, spurious], axis=1), labels


def loss(weights: jax.Array, domain: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Logistic loss of a linear model."""
    features, labels = domain
    return jnp.mean(jax.nn.softplus(-labels * (features @ weights)))


domains = jax.tree.map(lambda *x: jnp.stack(x), *map(make_domain, range(DOMAINS)))

# k = the number of domains; alpha = the meta step. The released code divides its own
# by the number of domains, and keeps the state of the inner optimizer: "maintain".
optimizer = optimizers.lookahead(
    optax.sgd(1.0), sync_period=DOMAINS, slow_step_size=META_STEP
)


@jax.jit
def epoch(
    weights: jax.Array, state: optax.OptState, key: jax.Array
) -> tuple[jax.Array, optax.OptState]:
    """One step of Fish: the gradient of each domain in turn, in random order."""

    def step(carry: tuple, number: jax.Array) -> tuple:
        weights, state = carry
        domain = jax.tree.map(lambda x: x[number], domains)
        updates, state = optimizer.update(
            jax.grad(loss)(weights, domain), state, weights
        )
        return (optax.apply_updates(weights, updates), state), None

    order = jax.random.permutation(key, DOMAINS)
    return jax.lax.scan(step, (weights, state), order)[0]


weights = jnp.zeros(2)
state = optimizer.init(weights)
for number in range(101):
    weights, state = epoch(weights, state, jax.random.key(number))
    if number % 25 == 0:
        losses = jax.vmap(loss, in_axes=(None, 0))(weights, domains)
        print(f"epoch {number:3}  worst domain {losses.max():.2f}")

unseen = make_domain(DOMAINS)
print(f"unseen domain  {loss(optimizers.lookahead_params(state, weights), unseen):.2f}")
