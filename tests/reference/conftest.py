"""The library's arithmetic is tested without implicit promotion."""

import pytest


@pytest.fixture(autouse=True)
def _strict(strict_arithmetic: None) -> None:
    pass
