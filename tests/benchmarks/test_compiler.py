"""Programs are compiled for one thread, whatever XLA and the user's flags."""

from collections.abc import Iterator

import jax
import pytest

from benchmarks.engine import compiler

FLAG = "xla_cpu_multi_thread_eigen"


class Lowered:
    """Keeps the options that it is compiled with."""

    def compile(self, options: dict[str, bool]) -> dict[str, bool]:
        return options


@pytest.fixture(autouse=True)
def options(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XLA_FLAGS", "")
    compiler._options.cache_clear()
    yield
    compiler._options.cache_clear()


def test_programs_get_one_thread() -> None:
    cpu = jax.default_backend() == "cpu"
    expected = {FLAG: False} if cpu else {}
    assert compiler.compile_on_one_thread(Lowered()) == expected


def test_the_flag_of_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", f"--xla_a=1 --{FLAG}=true")
    assert compiler.compile_on_one_thread(Lowered()) == {}


def test_an_option_that_xla_does_not_know_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiler, "_ONE_THREAD", "xla_no_such_option")
    lowered = jax.jit(lambda x: x + 1).lower(1)
    assert compiler.compile_on_one_thread(lowered)(1) == 2
