"""Measures the cost of updates and the throughput, and calibrates targets."""
