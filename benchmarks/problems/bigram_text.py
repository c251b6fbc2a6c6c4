"""Bigram model of English: a table W of logits of the next character given the last.

Source: the help texts in Python's own `pydoc_data.topics`. The topics are joined in
the order of their sorted names, with nothing in between. Each character that is
neither printable ASCII nor a newline is replaced by a space. The symbols are the
characters that occur, sorted (94 on Python 3.11.7), and the examples are all pairs of
neighbouring characters. The text differs between versions of Python, so results are
comparable only on the same version; the pairs are part of the fingerprint of the
problem's data.

Difficulty: convex, but with the character frequencies of a language. A few rows of W
get most of the gradient, and 21 of 94 have fewer than 100 pairs, so one learning rate
for all rows is too large for some and too small for others.

The loss is the mean cross-entropy over all pairs, in nats. Its infimum is the
conditional entropy of the text (2.45251 on Python 3.11.7). It is not attained,
because the logit of a pair that never occurs would have to be −∞.

A batch of 256 pairs is represented by a table of relative frequencies, made by one
scatter for all runs. With indices, each run would need a gather.
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.errors import UserError
from benchmarks.problem import Problem

BATCH_SIZE = 256
START_DEVIATION = 0.01
_OTHER = " "


def _text() -> str:
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        msg = (
            "bigram_text needs the module pydoc_data.topics, which this Python does "
            "not have: install the full standard library or leave the problem out."
        )
        raise UserError(msg) from error
    joined = "".join(topics[name] for name in sorted(topics))
    return "".join(c if " " <= c <= "~" or c == "\n" else _OTHER for c in joined)


def _pairs(text: str) -> tuple[np.ndarray, int]:
    """Each pair of neighbours as `last * symbols + next`, and the number of symbols."""
    symbols, indices = np.unique(list(text), return_inverse=True)
    codes = indices[:-1] * len(symbols) + indices[1:]
    return codes.astype(np.uint16), len(symbols)


def _log_sum_exp(w: np.ndarray) -> np.ndarray:
    largest = w.max(axis=-1, keepdims=True)
    return largest[..., 0] + np.log(np.exp(w - largest).sum(axis=-1))


def _conditional_entropy(frequency: np.ndarray) -> float:
    """−Σ pᵢⱼ log(pᵢⱼ / pᵢ), in nats, of relative frequencies p, `[last, next]`."""
    rows = np.broadcast_to(frequency.sum(axis=1, keepdims=True), frequency.shape)
    seen = frequency > 0
    return float(-np.sum(frequency[seen] * np.log(frequency[seen] / rows[seen])))


def problem() -> Problem:
    """The table of logits, evaluated on the whole text."""
    pairs, symbols = _pairs(_text())
    shape = (symbols, symbols)
    counts = np.bincount(pairs, minlength=symbols**2).reshape(shape)
    frequencies = counts / len(pairs)

    def sample(key: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        drawn = jax.random.bits(key, (BATCH_SIZE,)) % len(pairs)
        codes = data["pairs"][drawn].astype(jnp.int32)
        frequency = jnp.zeros((symbols**2,), jnp.float32).at[codes].add(1.0)
        return frequency.reshape(shape) / BATCH_SIZE

    def full_batch(data: dict[str, np.ndarray]) -> np.ndarray:
        del data
        return frequencies.astype(np.float32)

    def loss(w: jax.Array, frequency: jax.Array) -> jax.Array:
        log_normalizers = jax.nn.logsumexp(w, axis=1)
        rows = jnp.sum(frequency, axis=1)
        return jnp.sum(rows * log_normalizers) - jnp.sum(frequency * w)

    def evaluate_exact(w: np.ndarray) -> dict[str, np.ndarray]:
        log_normalizers = _log_sum_exp(w) @ frequencies.sum(axis=1)
        return {"loss": log_normalizers - np.einsum("...ij,ij->...", w, frequencies)}

    return Problem(
        name="bigram_text",
        summary="Convex language model in which a few rows get most of the gradient.",
        formula="f(W) = mean −log softmax(W[last])[next] over pairs, batches of 256",
        source="Help texts of Python, pydoc_data.topics",
        tags=frozenset({"convex", "stochastic", "data", "sparse"}),
        budget=1000,
        init=lambda key: START_DEVIATION * jax.random.normal(key, shape, jnp.float32),
        loss=loss,
        sample=sample,
        full_batch=full_batch,
        data={"pairs": pairs},
        evaluate_exact=evaluate_exact,
        f_star=_conditional_entropy(frequencies),
    )
