"""Comparisons with equations in NumPy, and properties that optimizers claim."""
