"""The public names, signatures and state fields change only on purpose."""

import optimizers
from tools import public_api, sync


def test_public_api_is_the_recorded_one() -> None:
    assert public_api.render().splitlines() == sync.API.read_text().splitlines(), (
        "The public API differs from tests/public_api.txt; if that is meant, "
        "run make sync and tell users in CHANGELOG.md."
    )


def test_all_is_sorted_and_complete() -> None:
    public = {name for name in vars(optimizers) if not name.startswith("_")}
    assert optimizers.__all__ == sorted(optimizers.__all__)
    assert public - {"testing"} == set(optimizers.__all__)
