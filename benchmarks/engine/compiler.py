"""Compiler options of the programs that are run or timed."""

import functools
import os
from typing import Any

import jax

# One thread per program, so that numbers do not depend on the number of devices that
# share the cores.
_ONE_THREAD = "xla_cpu_multi_thread_eigen"


def compile_on_one_thread(lowered: jax.stages.Lowered) -> Any:
    """Compiles for one thread on a CPU, unless `XLA_FLAGS` sets the number itself.

    An option of one program cannot end the process, as a flag does if XLA does not
    know it.
    """
    return lowered.compile(_options())


@functools.cache
def _options() -> dict[str, str | bool]:
    if jax.default_backend() != "cpu" or _ONE_THREAD in os.environ.get("XLA_FLAGS", ""):
        return {}
    try:
        jax.jit(lambda: 0).lower().compile({_ONE_THREAD: False})
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return {}
    return {_ONE_THREAD: False}
