"""A whole training run: clipping, schedule, decay, accumulation, averages, resuming."""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import serialization

import optimizers

MICRO_BATCHES, ACCUMULATED, MICRO_BATCH = 400, 4, 8
UPDATES = MICRO_BATCHES // ACCUMULATED


@jax.jit
def micro_batch(number: int) -> tuple[jax.Array, jax.Array]:
    """The data follow from the number alone, so that a resumed run sees the same."""
    inputs, noise = jnp.split(
        jax.random.normal(jax.random.key(number), (MICRO_BATCH, 5)), [4], axis=1
    )
    return inputs, jnp.sin(inputs[:, 0]) + inputs[:, 1] + 0.5 * noise[:, 0]


def loss(params: optax.Params, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The mean squared error of a network with one hidden layer."""
    inputs, targets = batch
    hidden = jnp.tanh(inputs @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return jnp.mean((hidden @ params["out"]["kernel"][:, 0] - targets) ** 2)


def init_params(key: jax.Array) -> optax.Params:
    """Two matrices and a bias."""
    first, second = jax.random.split(key)
    hidden = {"kernel": jax.random.normal(first, (4, 64)) / 2.0, "bias": jnp.zeros(64)}
    return {"hidden": hidden, "out": {"kernel": jax.random.normal(second, (64, 1)) / 8}}


# Everything inside MultiSteps acts once per update, on the mean gradient of four
# micro-batches: its norm is clipped, and the schedule counts updates.
schedule = optax.warmup_cosine_decay_schedule(
    0.0, 0.03, warmup_steps=5, decay_steps=UPDATES, end_value=0.01
)
accumulate = optax.MultiSteps(
    optax.chain(
        optimizers.clip_by_global_norm(1.0),
        optimizers.adamw(
            schedule,
            weight_decay=0.01,
            weight_decay_mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
        ),
    ),
    every_k_schedule=ACCUMULATED,
)


def init() -> dict[str, optax.Params | optax.OptState]:
    """All that a run needs in order to go on, and hence all that is saved."""
    params = init_params(jax.random.key(0))
    return {
        "params": params,
        "state": accumulate.init(params),
        "average": params,
        "number": jnp.zeros([], jnp.int32),
    }


@jax.jit
def step(run: dict, batch: tuple[jax.Array, jax.Array]) -> dict:
    """One micro-batch; the params and their average change at every fourth."""
    grads = jax.grad(loss)(run["params"], batch)
    updates, state = accumulate.update(grads, run["state"], run["params"])
    params = optax.apply_updates(run["params"], updates)
    share = jnp.where(accumulate.has_updated(state), 0.1, 0.0)
    return {
        "params": params,
        "state": state,
        "average": optax.incremental_update(params, run["average"], share),
        "number": run["number"] + 1,
    }


def train(run: dict, until: int) -> dict:
    """Goes on from where the run is."""
    for number in range(int(run["number"]), until):
        run = step(run, micro_batch(number))
    return run


finished = train(init(), MICRO_BATCHES)

# The second run stops in the middle of an accumulation. A fresh run of the same
# structure tells flax the types of the states.
with tempfile.TemporaryDirectory() as folder:
    checkpoint = Path(folder) / "checkpoint.msgpack"
    checkpoint.write_bytes(serialization.to_bytes(train(init(), 190)))
    resumed = serialization.from_bytes(init(), checkpoint.read_bytes())
resumed = train(resumed, MICRO_BATCHES)
assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, finished, resumed)))

test_data = jax.vmap(micro_batch)(jnp.arange(1000, 1032))
for name in ("params", "average"):
    value = jnp.mean(jax.vmap(loss, in_axes=(None, 0))(finished[name], test_data))
    print(f"test loss of the {name:7}  {value:.2f}")
print("the resumed run has the same bits")
