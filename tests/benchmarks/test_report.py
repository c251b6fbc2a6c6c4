"""The report: whole or of an unfinished run, well-formed, true to the statistics."""

import copy
import csv
import html
import io
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks.analysis.comparison import compare
from benchmarks.analysis.stats import median_interval, summarize
from benchmarks.errors import UserError
from benchmarks.report import figures, tables
from benchmarks.report.plotting import LOOKS
from benchmarks.report.verdict import verdict
from benchmarks.report.write import summary_table, write_report
from benchmarks.results import store
from benchmarks.results.store import Results
from tests.benchmarks import fakes

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "br", "hr", "img", "input", "link"}
SMALL: dict[str, Any] = {
    "problems": ("quad_diag", "rosen2", "softmax_digits"),
    "optimizers": ("adam", "optax.adam"),
    "learning_rates": fakes.FEW_RATES,
}


class Page(HTMLParser):
    """Checks that tags are closed in order; keeps attributes, headings, cells."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def write(made: Results, out: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The report of results that were never stored: HTML and Markdown."""
    monkeypatch.setattr(store, "load", lambda _: made)
    path = write_report(out)
    assert path == out / "report.html"
    return path.read_text("utf-8"), (out / "report.md").read_text("utf-8")


def check(made: Results, out: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    """A report is written, parses, and needs nothing but itself."""
    text, _ = write(made, out, monkeypatch)
    page = Page(text)
    assert_self_contained(text, page)
    for file in out.glob("figures/*.svg"):
        assert_well_formed(file)
    terminal(made)
    assert not [p for p in out.rglob("*") if p.name.startswith(".")]
    return page


def assert_self_contained(text: str, page: Page) -> None:
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "img"}
        for name, value in attributes.items():
            if name in {"src", "srcset", "action", "data", "poster", "background"}:
                pytest.fail(f"<{tag} {name}={value}> loads something")
            if name.endswith("href"):
                assert value is not None
                assert value.startswith("#")
                assert value[1:] in ids
    # Addresses name the SVG vocabularies only.
    addresses = re.findall(r'([\w:]+)="https?://', text)
    assert set(addresses) <= {"xmlns", "xmlns:xlink"}
    assert "@import" not in text
    assert all(u.startswith("#") for u in re.findall(r"url\(([^)]*)\)", text))


def assert_well_formed(file: Path) -> None:
    root = ET.fromstring(file.read_text("utf-8"))
    assert root.tag == f"{SVG}svg"
    for name in ("title", "desc"):
        (found,) = root.findall(f"{SVG}{name}")
        assert found.text
        assert found.text.strip()
    assert root.get("width")
    assert root.get("height")


def terminal(made: Results, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(summary_table(made))
    return console.file.getvalue()


def main_table(page: Page) -> list[list[str]]:
    """Rows of the first table with their texts."""
    end = next(i for i, r in enumerate(page.rows[1:], 1) if r[0] == "optimizer")
    return page.rows[1:end]


def read_csv(out: Path, name: str) -> list[dict[str, str]]:
    with (out / "summary" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def described(made: Results) -> str:
    manifest, cells = made.manifest, summarize(made)
    problems, names = tuple(manifest["problems"]), tuple(manifest["optimizers"])
    return "\n".join(verdict(made, cells, compare(cells, problems, names)))


# the whole of it


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    """The report of seven problems, eleven optimizers, 13 rates and 13 seeds."""
    made, out = fakes.results(), tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        check(made, out, patch)
    return made, out


def test_a_whole_run_has_every_part(whole: tuple[Results, Path]) -> None:
    made, out = whole
    page = Page((out / "report.html").read_text("utf-8"))
    names = {p.stem for p in out.glob("figures/*.svg")}
    problems = made.manifest["problems"]
    expected = {"ecdf", "speedup"}
    expected |= {f"convergence-{p}" for p in problems}
    expected |= {f"sensitivity-{p}" for p in problems}
    expected |= {f"trajectory-{fakes.PLANE}-{i}" for i in range(len(LOOKS))}
    assert names == expected
    assert sum(tag == "svg" for tag, _ in page.tags) == len(names)
    sections = {a.get("id") for tag, a in page.tags if tag == "h2"}
    assert sections == {
        *("table", "speedup", "convergence", "sensitivity", "ecdf", "trajectory"),
        *("cost", "problems", "failures", "provenance"),
    }
    assert len(main_table(page)) == len(fakes.OPTIMIZERS)


def test_html_markdown_and_csv_show_the_same_numbers(
    whole: tuple[Results, Path],
) -> None:
    made, out = whole
    cells = summarize(made)
    page = Page((out / "report.html").read_text("utf-8"))
    markdown = (out / "report.md").read_text("utf-8").splitlines()
    rows = {r[0]: r[1:] for r in main_table(page)}
    problems = list(made.manifest["problems"])
    for name in fakes.OPTIMIZERS:
        line = next(x for x in markdown if x.startswith(f"| `{name}` |"))
        plain = [x.strip() for x in line.split("|")[2:-1]]
        assert len(plain) == len(problems)
        for problem, shown, text in zip(problems, rows[name], plain, strict=True):
            cell = cells[problem, name]
            found = median_interval(cell.middle)
            interval = f"{found.low:.0f}–{found.high:.0f}"
            assert shown.startswith(f"{found.median:.0f} ")
            assert interval in shown
            assert f"rate {tables.number(cell.learning_rate)}" in shown
            assert text.startswith(f"**{found.median:.0f}**")
            assert f"({interval}); {tables.number(np.median(cell.final))};" in text


def test_csv_files_agree_with_the_statistics(whole: tuple[Results, Path]) -> None:
    made, out = whole
    cells = summarize(made)
    rows = read_csv(out, "cells.csv")
    assert len(rows) == len(cells)
    for row in rows:
        cell = cells[row["problem"], row["optimizer"]]
        found = median_interval(cell.middle)
        assert float(row["gradients_median"]) == found.median
        assert float(row["gradients_low"]) == found.low
        assert float(row["learning_rate"]) == cell.learning_rate
        assert int(row["diverged"]) == cell.diverged.sum()
        assert row["complete"] == "True"
    reached = read_csv(out, "targets.csv")
    assert len(reached) == len(cells) * 10 * 5
    for row in reached[::7]:
        cell = cells[row["problem"], row["optimizer"]]
        s = cell.seeds.tolist().index(int(row["seed"]))
        assert float(row["gradients"]) == cell.needed[s, int(row["target"]) - 1]
    found = compare(cells, tuple(made.manifest["problems"]), fakes.OPTIMIZERS)
    assert found is not None
    for i, row in enumerate(read_csv(out, "comparison.csv")):
        assert row["optimizer"] == found.optimizers[i]
        assert float(row["speedup"]) == found.speedup[i]
        assert float(row["low"]) == found.interval[i, 0]
        assert float(row["iqm"]) == found.iqm[i]


def test_the_verdict_names_the_fastest_and_its_interval(
    whole: tuple[Results, Path],
) -> None:
    made, out = whole
    found = compare(summarize(made), tuple(made.manifest["problems"]), fakes.OPTIMIZERS)
    assert found is not None
    text = described(made).splitlines()[0]
    assert text.startswith(f"On 7 problems `{found.optimizers[0]}` was fastest")
    low, high = found.interval[0]
    assert f"{found.speedup[0]:.2f} times as fast as `optax.adam`" in text
    assert f"{low:.2f} to {high:.2f}" in text
    lead = html.unescape(
        re.sub(
            r"</?code>",
            "`",
            re.search(
                r'<p class="lead">(.*?)</p>', (out / "report.html").read_text("utf-8")
            )[1],
        )
    )
    assert lead == text


def test_the_verdict_counts_the_pairs_that_differ(
    whole: tuple[Results, Path],
) -> None:
    made, _ = whole
    names, problems = fakes.OPTIMIZERS, tuple(made.manifest["problems"])
    found = compare(summarize(made), problems, names)
    assert found is not None
    assert found.p_values is not None
    different = int((found.p_values[np.triu_indices(len(names), 1)] < 0.05).sum())
    _, told_apart, others, *_ = described(made).splitlines()
    assert told_apart.startswith(
        f"Of 55 pairs of optimizers {different} can be told apart and "
        f"{55 - different} cannot"
    )
    home = found.optimizers.index("optax.adam")
    faster = told_apart.split("Faster than `optax.adam`: ")[1].split(". ")[0]
    slower = told_apart.split("Slower: ")[1].split(". ")[0]
    for i, name in enumerate(found.optimizers):
        differs = found.p_values[home, i] < 0.05
        assert (f"`{name}`" in faster) == (differs and i < home)
        assert (f"`{name}`" in slower) == (differs and i > home)
    low, high = found.wide_interval[0]
    assert f"with the problems redrawn too, it is {low:.2f} to {high:.2f}." in others


def test_the_table_fits_a_terminal_with_nine_optimizers() -> None:
    made = fakes.results(
        optimizers=fakes.OPTIMIZERS[:5] + fakes.OPTIMIZERS[7:],
        learning_rates=fakes.FEW_RATES,
    )
    text, cells = terminal(made), summarize(made)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    for name in made.manifest["optimizers"]:
        (line,) = [x for x in text.splitlines() if x.startswith(f"{name} ")]
        for problem in made.manifest["problems"]:
            assert f" {np.median(cells[problem, name].middle):.0f}" in line


# less than the whole


def small(**changes: Any) -> Results:
    return fakes.results(**(SMALL | changes))


def test_one_block_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small()
    first = next(iter(made.curves))
    curves = {first: fakes.first_seeds(made.curves[first], 1)}
    made = Results(made.manifest, curves, {first: made.costs[first]})
    page = check(made, tmp_path, monkeypatch)
    assert {text for row in main_table(page) for text in row[1:]} == {"not run"}
    text = described(made)
    assert "Nothing can be compared yet" in text
    assert "everywhere" not in text
    assert not list(tmp_path.glob("figures/*"))


def test_nothing_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small()
    check(Results(made.manifest, {}, {}), tmp_path, monkeypatch)


def test_one_optimizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small(optimizers=("adam",))
    check(made, tmp_path, monkeypatch)
    assert "nothing to compare with" in described(made)
    assert not (tmp_path / "figures" / "speedup.svg").exists()


@pytest.mark.parametrize("seeds", [1, 5, 7])
def test_few_seeds_claim_no_difference(
    seeds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = small(test_seeds=tuple(range(100, 100 + seeds)))
    if seeds == 5:
        text, markdown = write(made, tmp_path, monkeypatch)
        assert "()" not in markdown
        assert not re.search(r"\bnan\b", text, re.IGNORECASE)
    text = described(made)
    assert "nothing is tested" in text
    for claim in ("told apart", "differs", "interval", "Faster than", "Slower"):
        assert claim not in text


def test_a_failed_and_a_skipped_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fakes.without(small(), ("rosen2", "adam"), ("quad_diag", "adam"))
    made.manifest["failed"] = [
        {
            "problem": "rosen2",
            "optimizer": "adam",
            "message": "ValueError: <no> & never",
            "traceback": "Traceback:\n  <module> & more",
        }
    ]
    made.manifest["skipped"] = [["quad_diag", "adam", "it takes <two> gradients"]]
    page = check(made, tmp_path, monkeypatch)
    texts = [text for _, text in page.texts]
    assert "Traceback:\n  <module> & more" in texts
    assert any("it takes <two> gradients" in text for text in texts)
    row = next(r for r in main_table(page) if r[0] == "adam")
    assert row[1:3] == ["not run", "not run"]
    assert row[3] != "not run"
    text = described(made)
    assert "Left out of the comparison" in text
    assert "2 of 6 cells" in text


def test_a_cell_that_is_not_finished_is_shown_but_not_compared() -> None:
    made = small()
    pair = ("rosen2", "adam")
    made.curves[pair] = fakes.first_seeds(made.curves[pair], 8)
    assert "not every problem is finished: `adam`" in described(made)
    assert "not run" not in terminal(made)


def test_every_rate_diverges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small()
    for problem in made.manifest["problems"]:
        made.curves[problem, "adam"].diverged_at[:] = 0
    page = check(made, tmp_path, monkeypatch)
    row = next(r for r in main_table(page) if r[0] == "adam")
    assert all("∅" in text and "†10" in text and "rate –" in text for text in row[1:])
    assert "30 of 60 reported runs diverged" in described(made)


def test_everything_diverges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small()
    for curves in made.curves.values():
        curves.diverged_at[:] = 2
    check(made, tmp_path, monkeypatch)
    text = described(made)
    assert "no optimizer was faster" in text
    assert "nobody on" in text
    assert "cannot be told apart from `adam`" in text


def test_rates_that_do_well_on_the_tune_seeds_and_diverge_on_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = small()
    for problem in made.manifest["problems"]:
        made.curves[problem, "adam"].diverged_at[3:] = 1
        made.curves[problem, "optax.adam"].diverged_at[3:5] = 1
    page = check(made, tmp_path, monkeypatch)
    rows = {r[0]: r[1:] for r in main_table(page)}
    assert all("†10" in text and "gap ∞" in text for text in rows["adam"])
    assert all("†2" in text and "∅" not in text for text in rows["optax.adam"])


def test_a_median_curve_goes_on_while_most_seeds_do() -> None:
    made = small(problems=("quad_diag",))
    before = median_curve(made)
    made.curves["quad_diag", "optax.adam"].diverged_at[3:5] = 1
    after = median_curve(made)
    assert len(after) == 1
    assert np.isfinite(after).all()
    # Eight of ten seeds are left, so the median is that of a worse one.
    assert (after >= before).all()
    made.curves["quad_diag", "optax.adam"].diverged_at[3:9] = 1
    assert len(median_curve(made)) == 0


def test_the_band_reaches_the_edge_where_seeds_diverge() -> None:
    made = small(problems=("quad_diag",))
    made.curves["quad_diag", "optax.adam"].diverged_at[3:6] = 1
    axes = convergence_axes(made)
    (band,) = axes.collections
    ((_, bottom), (_, top)) = band.get_datalim(axes.transData).get_points()
    assert top > axes.get_ylim()[1]
    assert bottom < axes.get_ylim()[1]


def convergence_axes(made: Results) -> figures.Axes:
    _, axes = figures.plotting.panel(4, 3, 1)
    shown = dict(zip(["optax.adam"], LOOKS, strict=False))
    cells = summarize(made)
    figures.convergence(axes, made, cells, "quad_diag", shown, labels=False)
    return axes


def median_curve(made: Results) -> np.ndarray:
    lines = [
        x for x in convergence_axes(made).lines if x.get_marker() == LOOKS[0].marker
    ]
    return np.array([x.get_ydata() for x in lines], float)


def test_no_finite_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small()
    for (problem, _), curves in made.curves.items():
        offset = made.manifest["problems"][problem]["f_star"] or 0.0
        loss = curves.metrics["loss"]
        loss[:] = offset + 0.9 * (loss[:, :, :1] - offset)
        loss[:, :, 0] = offset + (loss[:, :, 0] - offset) / 0.9
    check(made, tmp_path, monkeypatch)
    assert "∅" in terminal(made)
    assert "In 6 the median run misses the middle target" in described(made)


def test_one_rate_one_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small(problems=("quad_diag",), learning_rates=(1e-2,))
    check(made, tmp_path, monkeypatch)
    speedup = (tmp_path / "figures" / "speedup.svg").read_text("utf-8")
    assert "nan" not in speedup.lower()


def test_the_speedup_axis_holds_every_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    made = small(problems=("quad_diag", "quad_rot"))
    found = compare(
        summarize(made), tuple(made.manifest["problems"]), SMALL["optimizers"]
    )
    assert found is not None
    found.interval[:] = [[0.2, 5.0], [1.0, 1.0]]
    drawn: list[figures.Figure] = []
    monkeypatch.setattr(figures, "draw", lambda figure, *_: drawn.append(figure))
    figures.speedup_figure(found)
    low, high = drawn[0].axes[0].get_xlim()
    assert low < 0.2
    assert high > 5.0


# names, bytes, files


def test_names_are_escaped_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = 'mine:<b>bold</b>&amp(b2=0.9999, name="$x$ $y$")'
    made = small(optimizers=(name, "optax.adam"))
    text, markdown = write(made, tmp_path, monkeypatch)
    page = Page(text)
    assert "<b>bold" not in text
    assert html.escape(name, quote=False) in text
    assert any(r[0] == name for r in main_table(page))
    assert f"| `{name}` |" in markdown
    for file in tmp_path.glob("figures/*.svg"):
        assert_well_formed(file)
    picture = ET.fromstring((tmp_path / "figures" / "ecdf.svg").read_text("utf-8"))
    assert name in [label.text for label in picture.iter(f"{SVG}text")]


def test_equal_input_gives_equal_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    made = small()
    write(made, out, monkeypatch)
    first = contents(out)
    write(copy.deepcopy(made), out, monkeypatch)
    assert contents(out) == first
    assert len(first) > 10


def contents(out: Path) -> dict[str, bytes]:
    files = sorted(p for p in out.rglob("*") if p.is_file())
    return {str(p.relative_to(out)): p.read_bytes() for p in files}


def stored(out: Path) -> Results:
    made = small(problems=("rosen2",), test_seeds=tuple(range(100, 108)))
    fakes.write(made, out)
    return made


def test_a_folder_is_read_and_reported(tmp_path: Path) -> None:
    made = stored(tmp_path)
    text = write_report(tmp_path).read_text("utf-8")
    Page(text)
    cells = summarize(made)
    for row in read_csv(tmp_path, "cells.csv"):
        cell = cells[row["problem"], row["optimizer"]]
        assert float(row["gradients_median"]) == np.median(cell.middle)
    assert not list(tmp_path.rglob(".*"))
    assert f"python -m benchmarks report {tmp_path}" in text


def test_the_command_to_redraw_quotes_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "my results"
    _, markdown = write(small(problems=("quad_diag",)), out, monkeypatch)
    assert f"python -m benchmarks report '{out}'" in markdown


@pytest.mark.parametrize("write_it", [write_report, store.load])
def test_a_missing_folder_is_the_users_error(write_it: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no results"):
        write_it(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_damage_is_the_users_error(tmp_path: Path) -> None:
    stored(tmp_path)
    block = sorted(tmp_path.rglob("*.parquet"))[0]
    whole = block.read_bytes()
    block.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is damaged"):
        write_report(tmp_path)
    block.write_bytes(whole)
    (tmp_path / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="is damaged"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = small(problems=("quad_diag",))
    write(made, tmp_path, monkeypatch)
    before = contents(tmp_path)

    def full(self: Path, *args: Any, **kwargs: Any) -> int:
        with self.open("w") as file:
            file.write("half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match="disk is full"):
        write_report(tmp_path)
    assert contents(tmp_path) == before


# parts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1e-5, "1.0e-5"),
        (0.001, "0.001"),
        (0.0123456, "0.0123"),
        (999.6, "1000"),
        (12345.6, "12346"),
        (1.5e7, "1.5e7"),
        (-0.5, "-0.5"),
        (np.inf, "∞"),
        (np.nan, "–"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert tables.number(value) == text


def test_the_command_of_a_problem_names_what_differs_from_the_defaults() -> None:
    made = small(test_seeds=tuple(range(100, 105)), schedule="cosine")
    words = tables.command(made.manifest, "rosen2")
    assert words == (
        "python -m benchmarks run quick -p rosen2 --only -o adam -o optax.adam "
        "--learning-rates 0.001,0.003,0.01,0.03,0.1 --seeds 5 --schedule cosine "
        "--out results/rosen2"
    )


def test_the_picture_of_the_readme_follows_light_and_dark(tmp_path: Path) -> None:
    out, picture = tmp_path / "out", tmp_path / "picture.svg"
    stored(out)
    figures.write_readme_figure(out, picture)
    assert_well_formed(picture)
    text = picture.read_text("utf-8")
    assert "currentColor" in text
    # Neither a white page nor black ink, which are matplotlib's own.
    assert not re.search("#(ffffff|000000)", text)
    assert "Loss against gradients on rosen2" in text
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    assert all(f">{name}<" in text for name in manifest["optimizers"])
