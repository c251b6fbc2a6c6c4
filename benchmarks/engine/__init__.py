"""Trains: one program per optimizer and problem, one lane per learning rate."""
