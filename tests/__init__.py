"""Tests of the library and the suite; run them with `make test`."""
