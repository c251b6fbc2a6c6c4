"""Tests of the convergence suite."""
