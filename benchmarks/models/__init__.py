"""Flax modules that problems train."""
