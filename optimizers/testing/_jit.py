"""Fast compilation of small programs that run for a few steps."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

_FOLDER = "jax_compilation_cache_dir"


_QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


@cache
def _options() -> dict[str, Any]:
    return {name: value for name, value in _QUICK.items() if _is_known(name, value)}


def _is_known(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:  # this version of XLA has other options
        return False
    return True


def quick_jit(function: Callable[..., Any], **kwargs: Any) -> Callable[..., Any]:
    """Returns `jax.jit(function, **kwargs)` that compiles in a fraction of the time.

    A check spends nearly all its time in the compiler. Do not call the result inside
    another jit.
    """
    return jax.jit(function, compiler_options=_options(), **kwargs)


@contextlib.contextmanager
def equal_programs_compile_once() -> Iterator[None]:
    """Turns on JAX's compilation cache in a temporary folder, unless it is on already.

    Without it, JAX caches by function identity, not by program: it would compile again
    for every function that a rule builds and every loop that runs without jit.
    """
    if getattr(jax.config, _FOLDER) is not None:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            _FOLDER: folder,
            "jax_persistent_cache_min_compile_time_secs": 0.01,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
        before = {name: getattr(jax.config, name) for name in settings}
        try:
            _configure(settings)
            yield
        finally:
            _configure(before)


def _configure(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # or JAX keeps using the old folder
