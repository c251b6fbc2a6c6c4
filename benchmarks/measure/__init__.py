"""Measures cost and throughput, and calibrates targets."""
