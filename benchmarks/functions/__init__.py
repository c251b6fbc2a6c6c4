"""Test functions that several problems share."""
