"""`python -m benchmarks`: runs the CLI."""

import io
import sys


def _main() -> None:
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
