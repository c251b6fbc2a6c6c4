"""A convergence suite for optax optimizers; run it with `python -m benchmarks`."""
