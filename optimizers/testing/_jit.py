"""Compiling quickly what runs a few steps of something small."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax


@cache
def _options() -> dict[str, Any]:
    options = {
        "xla_backend_optimization_level": 0,
        "xla_cpu_use_fusion_emitters": False,
    }
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:  # another XLA, which knows other options
        return {}
    return options


def quick_jit(function: Callable[..., Any], **kwargs: Any) -> Callable[..., Any]:
    """Returns `jax.jit(function, **kwargs)` that compiles in a third of the time.

    Nearly all time of a check is the compiler's. Not for functions that are called
    inside another jit.
    """
    return jax.jit(function, compiler_options=_options(), **kwargs)
