"""`python -m benchmarks`: sets XLA's flags before JAX reads them, then runs the CLI."""

import io
import os
import sys

# One thread per program, so that numbers do not depend on the number of devices that
# share the cores. If the user sets this flag, it is left alone.
_FLAG = "--xla_cpu_multi_thread_eigen"


def _set_flags() -> None:
    given = os.environ.get("XLA_FLAGS", "")
    if _FLAG not in given:
        os.environ["XLA_FLAGS"] = f"{given} {_FLAG}=false".strip()


def _main() -> None:
    _set_flags()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # × and µ on a terminal without UTF-8
    try:
        from benchmarks.cli.main import main

        main(prog_name="python -m benchmarks")
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("benchmarks"):
            raise
        sys.exit(
            f"error: {sys.executable} has no module {error.name!r}: run make install, "
            "then .venv/bin/python -m benchmarks."
        )


if __name__ == "__main__":
    _main()
