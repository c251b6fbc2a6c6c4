"""Conformance: the rules of optax's contract, and reports of what breaks them."""
