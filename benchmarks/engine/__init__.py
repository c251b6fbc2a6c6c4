"""Trains: one program per optimizer and problem, all learning rates side by side."""
