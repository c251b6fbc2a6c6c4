"""Data sets that several problems share."""
