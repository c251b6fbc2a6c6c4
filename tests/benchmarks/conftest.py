"""Settings of the tests of the suite."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _hears_ctrl_c() -> Iterator[None]:
    """Workers of pytest-xdist ignore SIGINT, and so would the processes they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
