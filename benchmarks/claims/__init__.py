"""One file = one claim of a paper, as an experiment with its controls."""
