"""Optimizers by name: the specs that users type, resolved to checked factories."""
