"""Data that problems share."""
