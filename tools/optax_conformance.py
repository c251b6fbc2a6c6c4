"""Check optax's own optimizers, and write the table of the rules that they break.

`python -m tools.optax_conformance` takes a few minutes and writes the table into
`docs/conformance.md`; `python -m tools.optax_conformance adam lion` prints the reports
of these two instead.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import optax
import optax.contrib

from optimizers import catalog, testing
from optimizers.catalog import Kind

PAGE = Path(__file__).parents[1] / "docs" / "conformance.md"
DEVICES = 8  # for the rules about sharding
BEGIN, END = "<!-- optax: python -m tools.optax_conformance -->\n", "<!-- end -->"
NOT_CHECKED = {
    "contrib.dpsgd": "takes the gradient of every example, not their mean",
    "lookahead": "needs params of its own class and rejects extra arguments",
}
_ASCENT = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
_SAM = partial(optax.contrib.sam, adv_optimizer=_ASCENT)
OTHERS = {
    "adaptive_grad_clip": partial(optax.adaptive_grad_clip, clipping=0.1),
    "clip_by_global_norm": partial(optax.clip_by_global_norm, max_norm=1.0),
    "contrib.normalize": optax.contrib.normalize,
    "contrib.sam": _SAM,
    "contrib.sam(sync_period=1)": partial(_SAM, sync_period=1),
    "contrib.sam(opaque_mode=True)": partial(_SAM, opaque_mode=True),
}


def checked() -> dict[str, Callable[..., Any]]:
    """Returns optax's public optimizers by name, and `OTHERS`."""
    found = {
        prefix + name: factory
        for prefix, module in (("", optax), ("contrib.", optax.contrib))
        for name, factory in catalog.functions(module, Kind.OPTIMIZER).items()
    }
    aliases = {name: found[name] for name in sorted(found) if name not in NOT_CHECKED}
    return aliases | OTHERS


def check(factory: Callable[..., Any]) -> testing.Report:
    """Returns the report of one of them, without optax's deprecation warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return testing.check(factory)


def render(reports: Iterable[tuple[str, testing.Report]]) -> str:
    """Returns the table: how many rules each passes, and which it breaks."""
    rows = [
        f"| `{name}` | {_count(report, 'passed')} | {len(report.failures)} | "
        f"{', '.join(f'`{result.rule}`' for result in report.failures)} |\n"
        for name, report in reports
    ]
    skipped = "; ".join(f"`{name}` {why}" for name, why in NOT_CHECKED.items())
    return (
        f"{len(rows) - len(OTHERS)} aliases and {len(OTHERS)} other functions of optax "
        f"{optax.__version__}, checked on {jax.device_count()} devices ("
        f"{jax.default_backend()}) with jax {jax.__version__}. Not checked: "
        f"{skipped}.\n\n"
        f"| optimizer | passed | failed | rules that failed |\n|---|---:|---:|---|\n"
        f"{''.join(rows)}"
    )


def _count(report: testing.Report, outcome: str) -> int:
    return sum(result.outcome == outcome for result in report.results)


def _main(names: list[str]) -> None:
    jax.config.update("jax_num_cpu_devices", DEVICES)
    # With only one thread per device, as on few cores, sums over devices may deadlock.
    os.environ.setdefault("PJRT_NPROC", str(2 * DEVICES))
    chosen = checked()
    if names:
        for name in names:
            print(check(chosen[name]))
        return
    reports = []
    for name, factory in chosen.items():
        reports.append((name, check(factory)))
        print(f"{name}: {len(reports[-1][1].failures)} failed", flush=True)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{render(reports)}{END}{after}")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    _main(sys.argv[1:])
