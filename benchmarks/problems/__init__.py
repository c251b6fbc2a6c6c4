"""One file = one problem: a module with `problem() -> Problem`, found by its name."""
