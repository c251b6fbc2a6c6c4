"""Optimizers that fall back to another method because no leaf fits their rule."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.analysis.summary import analyse
from benchmarks.problem import Problem
from benchmarks.report import csv_files, tables, verdict
from benchmarks.results import manifest as manifests
from benchmarks.results.store import Results
from benchmarks.roster import resolver
from benchmarks.roster.leaf_rules import NO_FITTING_MATRIX, NO_MATRIX, fallback
from tests.benchmarks import fakes, toys

VECTOR = {"weights": jnp.ones(6)}
MATRIX = {"weights": jnp.ones((3, 4)), "bias": jnp.ones(3)}


def _problem(params: Any) -> Problem:
    return dataclasses.replace(toys.quadratic(), init=lambda key: params)


def _for_kernels(rate: Any) -> optax.GradientTransformation:
    """Muon for leaves of one name."""

    def label(params: Any) -> Any:
        return jax.tree.map_with_path(lambda path, _: path[-1].key, params)

    kinds = dict.fromkeys(("weights", "bias"), optax.adam(rate))
    return optax.partition({"kernel": optax.contrib.muon(rate), **kinds}, label)


def _decays_matrices(rate: Any) -> optax.GradientTransformation:
    return optax.adamw(rate, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p))


def _make(spec: str | Callable[..., Any]) -> Callable[..., Any]:
    return resolver.resolve(spec).make if isinstance(spec, str) else spec


def test_muon_on_a_vector_is_nadam() -> None:
    params, grads = jnp.arange(1.0, 7.0), jnp.linspace(-1.0, 2.0, 6)
    muon, nadam = optax.contrib.muon(0.1), optax.nadam(0.1)
    updates = [tx.update(grads, tx.init(params), params)[0] for tx in (muon, nadam)]
    np.testing.assert_array_equal(*updates)


@pytest.mark.parametrize(
    ("spec", "on_vectors", "on_matrices"),
    [
        ("optax.contrib.muon", NO_MATRIX, ""),
        ("asam(optax.sgd)", NO_MATRIX, ""),  # SAM, without a matrix
        (_decays_matrices, NO_MATRIX, ""),
        (_for_kernels, NO_MATRIX, NO_FITTING_MATRIX),
        ("optax.adafactor", "", NO_FITTING_MATRIX),
        ("optax.adafactor(min_dim_size_to_factor=2)", "", ""),
        # One rule for vectors and matrices, by coordinate, by leaf or by row.
        ("adam", "", ""),
        ("prodigy", "", ""),
        ("sam(adam)", "", ""),
        ("optax.lars", "", ""),
        ("adaptive_grad_clip(optax.sgd, clipping=0.01)", "", ""),
        ("optax.sm3", "", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_fallbacks_are_found(
    spec: str | Callable[..., Any], on_vectors: str, on_matrices: str
) -> None:
    make = _make(spec)
    assert fallback(make, _problem(VECTOR)) == on_vectors
    assert fallback(make, _problem(MATRIX)) == on_matrices


def test_an_optimizer_that_fails_is_not_a_fallback() -> None:
    def broken(rate: Any) -> Any:
        raise RuntimeError

    assert fallback(broken, _problem(VECTOR)) == ""


def test_a_plan_marks_the_cell_and_its_key_stays() -> None:
    muon = toys.optimizer("muon", optax.contrib.muon)
    problems = [toys.quadratic(), toys.regression()]
    made = toys.plan(problems, [toys.SGD, muon], toys.settings())
    found = {
        (c.problem.name, c.optimizer.name): c.fallback for c in made.cells if c.fallback
    }
    assert found == {("toy_quadratic", "muon"): NO_MATRIX}
    assert not any("fallback" in cell.ingredients for cell in made.cells)
    described = manifests.describe(made)
    assert manifests.from_json(manifests.to_json(described)) == described
    assert [cell.fallback for cell in described.cells] == ["", NO_MATRIX, "", ""]


def _with_fallbacks(made: Results, *pairs: tuple[str, str]) -> Results:
    cells = tuple(
        dataclasses.replace(
            c, fallback=NO_MATRIX if (c.problem, c.optimizer) in pairs else ""
        )
        for c in made.manifest.cells
    )
    return dataclasses.replace(
        made, manifest=dataclasses.replace(made.manifest, cells=cells)
    )


def test_marked_cells_are_shown_and_not_compared() -> None:
    problems, names = ("quad_diag", "quad_rot"), ("optax.adam", "muon", "late")
    # By far the fastest on the first problem.
    made = fakes.results(problems, ("muon", "optax.adam", "late"))
    analysis = analyse(_with_fallbacks(made, ("quad_diag", "muon")))
    comparison = analysis.comparison
    assert comparison is not None
    assert set(comparison.optimizers) == {"optax.adam", "late"}
    assert set(analysis.reached) == {"optax.adam", "late"}
    assert set(analysis.ranked) == set(names)
    assert set(analysis.tuned["quad_diag"]) == {"optax.adam", "late"}
    assert set(analysis.tuned["quad_rot"]) == set(names)
    rows = dict(tables.gradient_rows(analysis))
    marked, itself = rows["muon"]
    assert marked.marks.endswith("‡")
    assert marked.shade == 0
    assert "‡" not in itself.marks
    assert itself.shade == 1
    assert rows["optax.adam"][0].shade == 1
    text = " ".join(p.text for p in verdict.verdict(analysis))
    assert (
        "`muon` falls back to another method (‡) on quad_diag, and is left out of "
        f"comparisons and figures there: {NO_MATRIX}."
    ) in text
    assert "every problem is finished" not in text
    assert "of falling back to another method on a problem: `muon`." in text
    assert "`optax.adam` on quad_diag; `muon` on quad_rot" in text
    lines = csv_files.render_csv(analysis)["cells.csv"].splitlines()
    assert [f'"{NO_MATRIX}"' in line for line in lines[1:]].count(True) == 1


def test_a_report_of_fallbacks_alone_compares_nothing() -> None:
    made = fakes.results(("quad_diag",), ("muon",))
    analysis = analyse(_with_fallbacks(made, ("quad_diag", "muon")))
    assert analysis.comparison is None
    assert "no optimizer has finished every problem without a fallback" in " ".join(
        p.text for p in verdict.verdict(analysis)
    )
