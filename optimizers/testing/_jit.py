"""Compiling quickly what runs a few steps of something small."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

_FOLDER = "jax_compilation_cache_dir"


@cache
def _options() -> dict[str, Any]:
    options = {
        "xla_backend_optimization_level": 0,
        "xla_cpu_use_fusion_emitters": False,
        "xla_cpu_parallel_codegen_split_count": 1,
    }
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:  # another XLA, which knows other options
        return {}
    return options


def quick_jit(function: Callable[..., Any], **kwargs: Any) -> Callable[..., Any]:
    """Returns `jax.jit(function, **kwargs)` that compiles in a fraction of the time.

    Nearly all time of a check is the compiler's. Not for functions that are called
    inside another jit.
    """
    return jax.jit(function, compiler_options=_options(), **kwargs)


@contextlib.contextmanager
def equal_programs_compile_once() -> Iterator[None]:
    """Keeps JAX's compilation cache in a folder of its own, unless it has one.

    JAX knows a function again, not a program: what a rule builds anew, and each loop
    that runs without jit, would be compiled again.
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
    compilation_cache.reset_cache()  # or JAX stays with the folder it knows
