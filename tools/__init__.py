"""Commands for those who work on this repository; `make sync` runs them."""
