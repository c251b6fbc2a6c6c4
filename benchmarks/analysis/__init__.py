"""Statistics of loaded results; pure functions."""
