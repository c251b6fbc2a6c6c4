"""Bigram model of English: a table W of logits, next character given the last.

Source: the help texts of Python's own `pydoc_data.topics`, with this recipe: topics
in the order of their sorted names, joined with nothing between; every character
that is neither printable ASCII nor a newline becomes a space; the symbols are the
characters that occur, sorted (94 of them on Python 3.11.7); the pairs are all
neighbours. The text changes from one Python to the next, so results compare only on
the same one: the pairs are the problem's data and thereby part of its fingerprint.

Hard about it: convex, with the frequencies of language: a few rows of W get most of
the gradient and 21 of 94 hold fewer than 100 pairs, so one rate for all of them is
too large for some and too small for others.

The loss is mean cross-entropy in nats over all pairs. Its infimum, the conditional
entropy of the text, is known in closed form (2.45251 on Python 3.11.7) and not
attained, because a pair that never occurs asks for a logit of −∞.

A batch of 256 pairs is handed over as a table of relative frequencies: one scatter
for all lanes, where indices would cost every lane a gather.
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
            "bigram_text needs the text of pydoc_data.topics, which this Python "
            "lacks: install the full standard library or leave the problem out."
        )
        raise UserError(msg) from error
    joined = "".join(topics[name] for name in sorted(topics))
    return "".join(c if " " <= c <= "~" or c == "\n" else _OTHER for c in joined)


def _pairs(text: str) -> tuple[np.ndarray, int]:
    """Every pair of neighbours as `last * symbols + next`, and the symbols' number."""
    symbols, indices = np.unique(list(text), return_inverse=True)
    codes = indices[:-1] * len(symbols) + indices[1:]
    return codes.astype(np.uint16), len(symbols)


def _log_sum_exp(w: np.ndarray) -> np.ndarray:
    largest = w.max(axis=-1, keepdims=True)
    return largest[..., 0] + np.log(np.exp(w - largest).sum(axis=-1))


def _conditional_entropy(shares: np.ndarray) -> float:
    """−Σ pᵢⱼ log(pᵢⱼ / pᵢ), in nats, of a table `[last, next]` of shares of 1."""
    rows = np.broadcast_to(shares.sum(axis=1, keepdims=True), shares.shape)
    seen = shares > 0
    return float(-np.sum(shares[seen] * np.log(shares[seen] / rows[seen])))


def problem() -> Problem:
    """The table of logits, evaluated on the whole text."""
    pairs, symbols = _pairs(_text())
    shape = (symbols, symbols)
    counts = np.bincount(pairs, minlength=symbols**2).reshape(shape)
    shares = counts / len(pairs)

    def sample(key: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        drawn = jax.random.bits(key, (BATCH_SIZE,)) % len(pairs)
        codes = data["pairs"][drawn].astype(jnp.int32)
        frequency = jnp.zeros((symbols**2,), jnp.float32).at[codes].add(1.0)
        return frequency.reshape(shape) / BATCH_SIZE

    def loss(w: jax.Array, frequency: jax.Array) -> jax.Array:
        log_normalizers = jax.nn.logsumexp(w, axis=1)
        rows = jnp.sum(frequency, axis=1)
        return jnp.sum(rows * log_normalizers) - jnp.sum(frequency * w)

    def evaluate_exact(w: np.ndarray) -> dict[str, np.ndarray]:
        log_normalizers = _log_sum_exp(w) @ shares.sum(axis=1)
        return {"loss": log_normalizers - np.einsum("...ij,ij->...", w, shares)}

    return Problem(
        name="bigram_text",
        summary="Convex language model in which few rows get most of the gradient.",
        formula="f(W) = mean −log softmax(W[last])[next] over pairs, batches of 256",
        source="help texts of Python's pydoc_data.topics",
        tags=frozenset({"convex", "stochastic", "data", "sparse"}),
        budget=1000,
        init=lambda key: START_DEVIATION * jax.random.normal(key, shape, jnp.float32),
        loss=loss,
        sample=sample,
        data={"pairs": pairs},
        evaluate_exact=evaluate_exact,
        f_star=_conditional_entropy(shares),
    )
