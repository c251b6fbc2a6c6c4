"""`python -m benchmarks`: sets XLA's flags, which jax reads once, then the CLI."""

import os
import sys

from benchmarks.cli.main import main

# One thread per program: numbers must not depend on how many devices share the
# cores. Whoever sets the flag keeps his value.
_FLAG = "--xla_cpu_multi_thread_eigen"


def _set_flags() -> None:
    given = os.environ.get("XLA_FLAGS", "")
    if _FLAG not in given:
        os.environ["XLA_FLAGS"] = f"{given} {_FLAG}=false".strip()


if __name__ == "__main__":
    _set_flags()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # × and µ on a terminal without UTF-8
    main(prog_name="python -m benchmarks")
