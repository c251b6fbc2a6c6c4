"""Flax modules that the problems train."""
