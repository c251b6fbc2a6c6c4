"""The report of finished and unfinished runs: well-formed and true to the numbers."""

import copy
import csv
import dataclasses
import html
import io
import itertools
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks.analysis import accuracies, comparison, fronts, summary
from benchmarks.analysis.comparison import Comparison
from benchmarks.analysis.stats import median_interval
from benchmarks.analysis.summary import Analysis, analyse
from benchmarks.cli.main import main
from benchmarks.engine import compilation_cache
from benchmarks.errors import UserError
from benchmarks.experiment.plan import run_key
from benchmarks.report import formats, panels, plotting, reproduce, summary_figures
from benchmarks.report.csv_files import render_csv
from benchmarks.report.figures import render_figures
from benchmarks.report.pages import render_pages
from benchmarks.report.plotting import LINE_STYLES
from benchmarks.report.readme import readme_figure
from benchmarks.report.svg import RenderedFigure
from benchmarks.report.terminal import render_terminal
from benchmarks.report.verdict import verdict
from benchmarks.report.write import write_report
from benchmarks.results import blocks, files, paths, store
from benchmarks.results.manifest import Failure, FrontEntry, Skipped
from benchmarks.results.store import Results
from tests.benchmarks import fakes
from tools.readme_figure import write_readme_figure

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
        self.tables: list[bool] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.tables.append("thead" in self.open)
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


FOLDER = Path("results/quick")


@dataclasses.dataclass(frozen=True)
class Report:
    """The report of made-up results, with everything it was rendered from."""

    analysis: Analysis
    figures: list[RenderedFigure]
    html: str
    page: Page
    markdown: str
    csv: dict[str, str]
    terminal: str
    verdict: dict[str, str]

    def rows(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV file."""
        return list(csv.DictReader(io.StringIO(self.csv[name])))


def report(made: Results) -> Report:
    """Renders a report; the page must parse and need nothing but itself."""
    analysis = analyse(made)
    figures = render_figures(analysis)
    pages = render_pages(analysis, figures, FOLDER)
    text = pages["report.html"]
    page = Page(text)
    assert_self_contained(text, page)
    for figure in figures:
        assert_well_formed(figure.file())
    return Report(
        analysis,
        figures,
        text,
        page,
        pages["report.md"],
        render_csv(analysis),
        terminal(analysis),
        paragraphs(analysis),
    )


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


def assert_well_formed(picture: str) -> None:
    root = ET.fromstring(picture)
    assert root.tag == f"{SVG}svg"
    for name in ("title", "desc"):
        (found,) = root.findall(f"{SVG}{name}")
        assert found.text
        assert found.text.strip()
    assert root.get("width")
    assert root.get("height")


def terminal(analysis: Analysis, width: int = 100) -> str:
    file = io.StringIO()
    console = Console(width=width, file=file, force_terminal=False)
    console.print(render_terminal(analysis))
    return file.getvalue()


def paragraphs(analysis: Analysis) -> dict[str, str]:
    """The texts of the verdict by their headings, in order."""
    return {p.heading: p.text for p in verdict(analysis)}


def tables(page: Page) -> list[list[list[str]]]:
    """The tables of a page: rows of texts, the first one of headings."""
    starts = [i for i, tag in enumerate(page.tables) if tag]
    return [page.rows[a:b] for a, b in itertools.pairwise([*starts, len(page.rows)])]


def main_table(page: Page) -> list[list[str]]:
    """Rows of the table of gradients."""
    (found,) = (rows for rows in tables(page) if "≤" in rows[0][-1])
    return found[1:]


def compared(analysis: Analysis) -> Comparison:
    assert analysis.comparison is not None
    return analysis.comparison


def described(made: Results) -> str:
    return "\n".join(paragraphs(analyse(made)).values())


# a finished run


@pytest.fixture(scope="module")
def whole() -> Report:
    """The report of seven problems, eleven optimizers, 13 rates and 13 seeds."""
    return report(fakes.results())


def test_a_whole_run_has_every_part(whole: Report) -> None:
    names = {figure.name for figure in whole.figures}
    problems = whole.analysis.manifest.problems
    expected = {"ecdf", "speedup"}
    expected |= {f"convergence-{p}" for p in problems}
    expected |= {f"sensitivity-{p}" for p in problems}
    expected |= {f"trajectory-{fakes.PLANE}-{i}" for i in range(len(LINE_STYLES))}
    assert names == expected
    assert sum(tag == "svg" for tag, _ in whole.page.tags) == len(names)
    sections = {a.get("id") for tag, a in whole.page.tags if tag == "h2"}
    assert sections == {
        *("table", "speedup", "convergence", "sensitivity", "ecdf", "trajectory"),
        *("cost", "problems", "failures", "provenance"),
    }
    assert len(main_table(whole.page)) == len(fakes.OPTIMIZERS)


def test_html_markdown_and_csv_show_the_same_numbers(whole: Report) -> None:
    cells = whole.analysis.cells
    markdown = whole.markdown.partition("## Gradients")[2].splitlines()
    rows = {r[0]: r[1:] for r in main_table(whole.page)}
    problems = list(whole.analysis.manifest.problems)
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
            assert f"lr\xa0{formats.number(cell.learning_rate)}" in shown
            fewest = min(cells[problem, n].middle_interval.median for n in rows)
            bold = "**" if found.median == fewest else ""
            assert text.startswith(f"{bold}{found.median:.0f}{bold} ")
            final = formats.number(float(np.median(cell.final)))
            assert f"({interval}); {final};" in text


def test_csv_files_agree_with_the_statistics(whole: Report) -> None:
    cells = whole.analysis.cells
    rows = whole.rows("cells.csv")
    assert len(rows) == len(cells)
    for row in rows:
        cell = cells[row["problem"], row["optimizer"]]
        found = median_interval(cell.middle)
        assert float(row["gradients_median"]) == found.median
        assert float(row["gradients_low"]) == found.low
        assert float(row["learning_rate"]) == cell.learning_rate
        assert int(row["diverged"]) == cell.diverged.sum()
        assert row["complete"] == "True"
    reached = whole.rows("targets.csv")
    assert len(reached) == len(cells) * 10 * 5
    for row in reached[::7]:
        cell = cells[row["problem"], row["optimizer"]]
        s = cell.seeds.tolist().index(int(row["seed"]))
        assert float(row["gradients"]) == cell.needed[s, int(row["target"]) - 1]
    found = compared(whole.analysis)
    for i, row in enumerate(whole.rows("comparison.csv")):
        assert row["optimizer"] == found.optimizers[i]
        assert float(row["speedup"]) == found.speedup[i]
        assert float(row["low"]) == found.interval[i, 0]
        assert float(row["iqm"]) == found.iqm[i]


def test_how_the_numbers_were_made_stands_before_them(whole: Report) -> None:
    first, second, third, *_ = whole.verdict
    assert (first, second, third) == ("What was run", "What is counted", "Verdict")
    text = whole.verdict[first]
    assert text.startswith("11 optimizers were run on 7 problems ")
    for words in (
        "is the one of 13 values from 1e-05 to 10 that reaches the targets with the "
        "fewest gradients on 3 tuning seeds",
        "10 other seeds, the evaluation seeds",
        "tested only with at least 8 of them",
    ):
        assert words in text
    assert " ".join(whole.terminal.split()).startswith(text)
    text = whole.verdict[second]
    assert "the third is the middle target" in text
    assert "at or below a target for the first time" in text
    assert "for all 55 pairs" in text
    for name, text in whole.verdict.items():
        assert f"**{name}.** {text}" in whole.markdown
        shown = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
        assert f"<b>{name}.</b> {shown}</p>" in whole.html


def test_the_verdict_is_one_on_these_problems_and_one_on_others(whole: Report) -> None:
    found = compared(whole.analysis)
    text = whole.verdict["Verdict"]
    (low, high), (wide_low, wide_high) = found.interval[0], found.wide_interval[0]
    assert text.startswith(
        f"On these 7 problems `{found.optimizers[0]}` was the fastest: it reached the "
        f"targets {found.speedup[0]:.2f} times as fast as the baseline `optax.adam` "
        f"(95 % confidence interval {low:.2f} to {high:.2f}). "
    )
    assert text.count("On other problems of this kind") == 1
    assert f"the interval is {wide_low:.2f} to {wide_high:.2f}" in text
    for words in ("confidence interval", f"{low:.2f} to {high:.2f}", "resampled"):
        others = [t for name, t in whole.verdict.items() if name != "Verdict"]
        assert words not in "".join(others)


def test_a_lead_that_other_problems_may_turn_round_is_not_established() -> None:
    """Clear on these problems, because every seed says the same."""
    made = mixed_results()
    analysis = analyse(made)
    found = compared(analysis)
    name = found.optimizers[0]
    assert name == "mixed"
    pair = found.pair(name, "optax.adam")
    assert pair.p_value < 0.05
    assert pair.interval[0] > 1 > pair.wide_interval[0]
    text = paragraphs(analysis)["Verdict"]
    here, others = text.split("On other problems of this kind ")
    assert "It is significantly faster than every other optimizer." in here
    assert others.startswith("this lead is not established: ")
    assert "so `mixed` may be slower than the baseline there." in others
    assert "on these problems: 1 of 2 significantly faster, 1 slower; " in others
    assert "on others: 0 expected to be faster, 1 slower." in others
    rows = {r[0]: r for r in tables(Page(page_of(analysis)))[0]}
    assert rows["optimizer"][3:] == [
        *("on these problems", "p-value", "with problems resampled"),
        "on others of this kind",
    ]
    assert (rows["mixed"][3], rows["mixed"][6]) == ("faster", "undecided")
    assert (rows["slow"][3], rows["slow"][6]) == ("slower", "slower")
    assert rows["optax.adam"][3:] == ["baseline", "", "", ""]


def test_the_verdict_says_that_a_lead_is_not_significant() -> None:
    analysis = analyse(mixed_results())
    found = compared(analysis)
    unclear = {
        names: dataclasses.replace(pair, p_value=0.07)
        if set(names) == {"mixed", "optax.adam"}
        else pair
        for names, pair in found.pairs.items()
    }
    comparison = dataclasses.replace(found, pairs=unclear)
    text = paragraphs(dataclasses.replace(analysis, comparison=comparison))["Verdict"]
    assert "is not significant after the correction for all pairs. It is" in text
    assert "faster than the 2 others except `optax.adam`." in text


def test_an_incomplete_optimizer_is_named_in_the_verdict() -> None:
    made = fakes.without(small(), ("quad_diag", "adam"))
    text = paragraphs(analyse(made))["Verdict"]
    assert "because of runs that failed or are missing: `adam`." in text


def test_three_problems_say_nothing_about_others() -> None:
    found = report(small())
    text = found.verdict["Verdict"]
    assert "was the fastest" in text
    assert "On other problems of this kind nothing can be said" in text
    assert "takes at least 6 problems, not 3." in text
    for shown in (found.terminal, found.markdown, found.html):
        assert "resampled" not in shown


def mixed_results() -> Results:
    """`mixed` leads by much on some problems and loses by less on the others."""
    problems = fakes.PROBLEMS[:6]
    speeds = {"optax.adam": [1.0] * 6, "slow": [0.5] * 6}
    speeds["mixed"] = [3.0, 0.8, 3.0, 0.8, 3.0, 0.8]
    made = small(problems=problems, optimizers=tuple(speeds))
    for name, each in speeds.items():
        for i, (problem, speed) in enumerate(zip(problems, each, strict=True)):
            entry = made.manifest.problems[problem]
            made.curves[problem, name] = fakes.curves(
                entry.budget,
                made.manifest.settings,
                speed=speed,
                f_star=0.05 if entry.f_star is None else entry.f_star,
                seed=1000 * i,
            )
    return made


def page_of(analysis: Analysis) -> str:
    return render_pages(analysis, [], FOLDER)["report.html"]


def test_every_pair_is_in_the_page_and_the_csv_file(whole: Report) -> None:
    found = compared(whole.analysis)
    assert found.p_values is not None
    rows = whole.rows("pairs.csv")
    (shown,) = (t[1:] for t in tables(whole.page) if t[0][0] == "faster")
    pairs = list(itertools.combinations(range(len(found.optimizers)), 2))
    for (i, j), row, texts in zip(pairs, rows, shown, strict=True):
        names = [found.optimizers[i], found.optimizers[j]]
        assert [row["first"], row["second"]] == texts[:2] == names
        ratio = found.speedup[i] / found.speedup[j]
        assert float(row["ratio"]) == pytest.approx(ratio, rel=1e-12)
        assert float(row["p_value"]) == found.p_values[i, j]
        low, high = float(row["low"]), float(row["high"])
        assert low <= ratio <= high
        assert texts[2] == f"{ratio:.2f}"
        assert texts[3] == formats.factors((low, high))
        if "optax.adam" in names:
            home = names.index("optax.adam")
            at = j if home == 0 else i
            expected = found.interval[at] if home else 1 / found.interval[at][::-1]
            np.testing.assert_allclose([low, high], expected, rtol=1e-12)


def test_a_negligible_speed_up_is_not_reported_as_faster() -> None:
    made = small(optimizers=("optax.adam",))
    name = "almost_the_same"
    for problem in made.manifest.problems:
        curves = made.curves[problem, "optax.adam"]
        faster = {"loss": curves.metrics["loss"] * (1 - 1e-6)}
        made.curves[problem, name] = dataclasses.replace(curves, metrics=faster)
    optimizers = ("optax.adam", name)
    problems, settings = made.manifest.problems, made.manifest.settings
    manifest = fakes.manifest(problems, optimizers, settings)
    analysis = analyse(dataclasses.replace(made, manifest=manifest))
    assert compared(analysis).optimizers[0] == name
    text = paragraphs(analysis)["Verdict"]
    assert "no optimizer was faster on average than the baseline `optax.adam`" in text
    assert "lead" not in text


def test_identical_optimizers_are_named() -> None:
    made = small(optimizers=("optax.adam", "adam"))
    for problem in made.manifest.problems:
        made.curves[problem, "adam"] = made.curves[problem, "optax.adam"]
    analysis = analyse(made)
    assert analysis.identical == {"adam": "optax.adam"}
    text = paragraphs(analysis)["Verdict"]
    assert "`optax.adam` and `adam` gave identical results." in text
    styles = plotting.line_styles(analysis)
    assert {n: s.label for n, s in styles.items()} == {
        "optax.adam": "optax.adam\n= adam"
    }


@pytest.mark.parametrize("width", [80, 100, 10_000])
def test_the_tables_fit_a_terminal_with_nine_optimizers(width: int) -> None:
    analysis = analyse(
        fakes.results(
            optimizers=fakes.OPTIMIZERS[:5] + fakes.OPTIMIZERS[7:],
            learning_rates=fakes.FEW_RATES,
        )
    )
    text = terminal(analysis, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    found = compared(analysis)
    for i, name in enumerate(found.optimizers):
        row = re.compile(rf"{re.escape(name)} +[\d∅]")  # no line of the verdict
        first, *rest = [x for x in text.splitlines() if row.match(x)]
        if name != found.reference:
            for interval in (found.interval[i], found.wide_interval[i]):
                assert formats.factors(interval) in first
        assert f" {found.speedup[i]:.2f}" in first
        if width == 10_000:
            assert len(rest) == 1
        for problem in analysis.manifest.problems:
            cell = analysis.cells[problem, name].middle_interval
            numbers = rf" {cell.median:.0f}◊? \({cell.low:.0f}–{cell.high:.0f}\)"
            assert re.search(numbers, "".join(rest))


# unfinished and unusual runs


def small(**changes: Any) -> Results:
    return fakes.results(**(SMALL | changes))


def test_one_block_only() -> None:
    made = small()
    first = next(iter(made.curves))
    curves = {first: fakes.first_seeds(made.curves[first], 1)}
    made = Results(made.manifest, curves, {first: made.costs[first]})
    found = report(made)
    entries = {text for row in main_table(found.page) for text in row[1:]}
    assert entries == {"not run"}
    text = "\n".join(found.verdict.values())
    assert "Nothing can be compared yet" in text
    assert "every cell" not in text
    assert found.figures == []


def test_nothing_at_all() -> None:
    report(Results(small().manifest, {}, {}))


def test_one_optimizer() -> None:
    found = report(small(optimizers=("adam",)))
    assert "nothing to compare it with" in found.verdict["Verdict"]
    assert "speedup" not in {figure.kind for figure in found.figures}


@pytest.mark.parametrize("seeds", [1, 5, 7])
def test_few_seeds_claim_no_difference(seeds: int) -> None:
    made = small(test_seeds=tuple(range(100, 100 + seeds)))
    if seeds == 5:
        found = report(made)
        assert "()" not in found.markdown
        assert not re.search(r"\bnan\b", found.html, re.IGNORECASE)
    text = described(made)
    assert "no difference was tested for significance" in text
    for claim in ("ignificantly", "interval", "faster than `", "an be expected"):
        assert claim not in text.replace("no optimizer was faster", "")


def test_a_failed_and_a_skipped_cell() -> None:
    made = fakes.without(small(), ("rosen2", "adam"), ("quad_diag", "adam"))
    failure = Failure(
        problem="rosen2",
        optimizer="adam",
        message="ValueError: <no> & never",
        traceback="Traceback:\n  <module> & more",
    )
    skipped = Skipped("quad_diag", "adam", "it takes <two> gradients")
    manifest = dataclasses.replace(made.manifest, failed=(failure,), skipped=(skipped,))
    found = report(dataclasses.replace(made, manifest=manifest))
    texts = [text for _, text in found.page.texts]
    assert "Traceback:\n  <module> & more" in texts
    assert any("it takes <two> gradients" in text for text in texts)
    row = next(r for r in main_table(found.page) if r[0] == "adam")
    assert row[1:3] == ["not run", "not run"]
    assert row[3] != "not run"
    text = "\n".join(found.verdict.values())
    assert "Left out of the comparison" in text
    assert "2 of 6 cells" in text
    assert "1 cell failed with an error. 1 cell was skipped." in text


def test_an_unfinished_cell_is_shown_but_not_compared() -> None:
    made = small()
    pair = ("rosen2", "adam")
    made.curves[pair] = fakes.first_seeds(made.curves[pair], 8)
    assert "not every problem is finished: `adam`" in described(made)
    assert "not run" not in terminal(analyse(made))


def test_every_learning_rate_diverges() -> None:
    made = small()
    for problem in made.manifest.problems:
        made.curves[problem, "adam"].diverged_at[:] = 0
    found = report(made)
    row = next(r for r in main_table(found.page) if r[0] == "adam")
    assert all("∅" in text and "†10" in text and "lr\xa0–" in text for text in row[1:])
    assert "30 of 60 evaluated runs diverged" in "\n".join(found.verdict.values())


def test_everything_diverges() -> None:
    made = small()
    for curves in made.curves.values():
        curves.diverged_at[:] = 2
    text = "\n".join(report(made).verdict.values())
    assert "No run reached any target, so nothing can be said about speed" in text
    assert "no optimizer on" in text
    assert "identical" not in text


def test_learning_rates_that_diverge_on_the_evaluation_seeds_only() -> None:
    made = small()
    for problem in made.manifest.problems:
        made.curves[problem, "adam"].diverged_at[3:] = 1
        made.curves[problem, "optax.adam"].diverged_at[3:5] = 1
    rows = {r[0]: r[1:] for r in main_table(report(made).page)}
    assert all("†10" in text and "final\xa0∞" in text for text in rows["adam"])
    assert all("†2" in text for text in rows["optax.adam"])
    assert not any(text.startswith("∅") for text in rows["optax.adam"])


def test_a_target_that_most_seeds_reach_and_leave_is_marked() -> None:
    made = small()
    curves = made.curves["rosen2", "adam"]
    loss = curves.metrics["loss"]
    offset = made.manifest.problems["rosen2"].f_star or 0.0
    # Seven of the ten evaluation seeds end where they began.
    loss[6:, :, -1] = loss[6:, :, 0]
    loss[5, :, 1:] = loss[5, :, :1] - 0.01 * (loss[5, :, :1] - offset)
    found = report(made)
    row = next(r for r in main_table(found.page) if r[0] == "adam")
    assert "↑7" in row[2]
    assert row[2].endswith("9 of 10 reach it, 2 end below")
    assert not any("end below" in text for text in (row[1], row[3]))
    assert "↑7 (" in found.terminal
    assert "n seeds reach it and end above it" in " ".join(found.terminal.split())
    assert "; 9 of 10 reach it, 2 end below |" in found.markdown
    text = found.verdict["Failures"]
    assert "In 1 cell at least half of the seeds reach the middle target and" in text
    assert "end above it (↑): 1 on rosen2." in text
    (cell,) = (
        row
        for row in found.rows("cells.csv")
        if (row["problem"], row["optimizer"]) == ("rosen2", "adam")
    )
    assert (cell["reached"], cell["ends_below"]) == ("9", "2")


@pytest.mark.parametrize(
    ("leaving", "winner"),
    [
        ({"adam": 5}, "`adam`"),  # the other half of its seeds end below
        ({"adam": 6}, "`optax.adam`"),
        ({"adam": 6, "optax.adam": 10}, "no optimizer"),
    ],
)
def test_the_fewest_gradients_are_of_runs_that_end_below_the_target(
    leaving: dict[str, int], winner: str
) -> None:
    made = small()
    for name, seeds in leaving.items():
        loss = made.curves["rosen2", name].metrics["loss"]
        loss[-seeds:, :, -1] = loss[-seeds:, :, 0]
    found = report(made)
    cells = found.analysis.cells
    medians = [cells["rosen2", n].middle_interval.median for n in SMALL["optimizers"]]
    assert medians[0] < medians[1]
    start, sentence = found.verdict["By problem"].split(": ")
    assert start.endswith("with at least half of their seeds below it at the end")
    (names,) = [
        n for n, p in re.findall(r"(.*?) on (.*?)[;.] ?", sentence) if "n2" in p
    ]
    assert names == winner
    legend = "among optimizers with at least half of their seeds below the target"
    for text in (found.html, found.markdown, found.terminal):
        assert legend in " ".join(text.split())
    for name, median in zip(SMALL["optimizers"], medians, strict=True):
        (row,) = re.findall(
            rf"<code>{name}</code></th>\n((?:<td.*lr&nbsp;.*\n)+)", found.html
        )
        (line,) = re.findall(rf"\| `{name}` \|(.*;.*)", found.markdown)
        html_cell, markdown_cell = row.split("<td")[2], line.split("|")[1]
        is_best = winner == f"`{name}`"
        assert ('class="best"' in html_cell) == is_best
        assert markdown_cell.startswith(f" **{median:.0f}** ") == is_best
        assert ("--shade:0.00" in html_cell) == (leaving.get(name, 0) > 5)


def test_losses_are_named_for_what_they_are() -> None:
    made = small(problems=("quad_diag", "softmax_digits"))
    entry = made.manifest.problems["quad_diag"]
    game = dataclasses.replace(entry, metric="squared distance")
    made.manifest.problems["game"] = game
    for name in made.manifest.optimizers:
        made.curves["game", name] = made.curves["quad_diag", name]
        made.costs["game", name] = made.costs["quad_diag", name]
    found = report(made)
    (heads,) = (t[0] for t in tables(found.page) if "≤" in t[0][-1])
    assert heads[1:] == [
        "quad_diagloss − minimum ≤ 0.001 × start",
        "softmax_digitsvalidation loss ≤ 0.2",
        "gamesquared distance ≤ 0.001 × start",
    ]
    assert (
        f"softmax_digits: {heads[2].removeprefix('softmax_digits')}" in found.markdown
    )
    titles = {figure.name: figure.title for figure in found.figures}
    assert titles["convergence-game"] == "game: squared distance against gradients"
    shown = [text for where, text in found.page.texts if where != "style"]
    for text in (*shown, found.markdown, found.terminal):
        assert not re.search(r"\bgap\b", text)


def test_every_line_of_a_figure_has_a_name(whole: Report) -> None:
    names = set(fakes.OPTIMIZERS)
    for figure in whole.figures:
        if figure.kind in {"convergence", "sensitivity", "ecdf"}:
            picture = ET.fromstring(figure.file())
            lines = [g for g in picture.iter(f"{SVG}g") if g.get("data-line")]
            assert {g.get("data-line") for g in lines} == names
            for line in lines:
                (title,) = line.findall(f"{SVG}title")
                assert title.text == line.get("data-line")
    gray = names - set(plotting.line_styles(whole.analysis))
    buttons = Counter(a.get("data-line") for t, a in whole.page.tags if t == "button")
    del buttons[None]
    assert buttons == dict.fromkeys(gray, 3)
    listed = ", ".join(f"`{name}`" for name in fakes.OPTIMIZERS if name in gray)
    assert whole.markdown.count(f"Thin gray lines: {listed}.") == 3


def test_three_optimizers_that_all_miss_have_a_colour_each() -> None:
    made = small(optimizers=("optax.sgd", "optax.adam", "amsgrad"))
    for curves in made.curves.values():
        loss = curves.metrics["loss"]
        loss[:] = loss[:, :, :1] + 1e-3 * loss
    analysis = analyse(made)
    np.testing.assert_array_equal(compared(analysis).speedup, np.ones(3))
    styles = plotting.line_styles(analysis)
    assert set(styles) == {"optax.sgd", "optax.adam", "amsgrad"}
    assert len({style.color for style in styles.values()}) == 3
    assert "Thin gray lines" not in page_of(analysis)


def test_a_line_on_top_of_another_leaves_it_visible() -> None:
    first, *others = LINE_STYLES
    assert first.width > 1.5 * max(style.width for style in others)
    assert len({style.start for style in LINE_STYLES}) == len(LINE_STYLES)


def test_a_small_screen_gets_folded_commands_and_readable_figures(
    whole: Report,
) -> None:
    assert whole.html.count("<summary>command</summary><code>python -m") == 16
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", whole.html, re.DOTALL)
    for caption in captions:
        assert "python" not in re.sub(r"<details>.*?</details>", "", caption)
    # 390 pixels less the margins hold a panel at three quarters or more of its size.
    for figure in whole.figures:
        size = 8.0 / 72 * 360 / figure.width
        assert size >= 8.0, figure.name
    scrolled = [a for t, a in whole.page.tags if t == "div" and a["class"] == "scroll"]
    assert scrolled
    assert all(a.get("tabindex") == "0" for a in scrolled)
    assert ".scroll.more::before { content:" in whole.html


def test_a_median_curve_is_drawn_while_most_seeds_are_finite() -> None:
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


def convergence_axes(made: Results) -> Axes:
    _, axes = plotting.panel(4, 3, 1)
    styles = dict(zip(["optax.adam"], LINE_STYLES, strict=False))
    panels.convergence(axes, analyse(made), "quad_diag", styles, labels=False)
    return axes


def median_curve(made: Results) -> np.ndarray:
    marker = LINE_STYLES[0].marker
    lines = [x for x in convergence_axes(made).lines if x.get_marker() == marker]
    return np.array([x.get_ydata() for x in lines], float)


def test_no_finite_target() -> None:
    made = small()
    for (problem, _), curves in made.curves.items():
        offset = made.manifest.problems[problem].f_star or 0.0
        loss = curves.metrics["loss"]
        loss[:] = offset + 0.9 * (loss[:, :, :1] - offset)
        loss[:, :, 0] = offset + (loss[:, :, 0] - offset) / 0.9
    found = report(made)
    assert "∅" in found.terminal
    text = "\n".join(found.verdict.values())
    assert "In 6 cells the median run misses the middle target" in text


def test_one_learning_rate_and_one_problem() -> None:
    found = report(small(problems=("quad_diag",), learning_rates=(1e-2,)))
    (speedup,) = (f for f in found.figures if f.name == "speedup")
    assert "nan" not in speedup.file().lower()


def test_the_speedup_axis_holds_every_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    found = compared(analyse(small(problems=("quad_diag", "quad_rot"))))
    found.interval[:] = [[0.2, 5.0], [1.0, 1.0]]
    drawn: list[Figure] = []
    monkeypatch.setattr(
        summary_figures.svg, "render", lambda figure, *_: drawn.append(figure)
    )
    summary_figures.speedup_figure(found, [])
    low, high = drawn[0].axes[0].get_xlim()
    assert low < 0.2
    assert high > 5.0


# names, bytes, files


def test_names_are_escaped_and_kept() -> None:
    name = 'mine:<b>bold</b>&amp(b2=0.9999, name="$x$ $y$")'
    found = report(small(optimizers=(name, "optax.adam")))
    assert "<b>bold" not in found.html
    assert html.escape(name, quote=False) in found.html
    assert any(r[0] == name for r in main_table(found.page))
    assert f"| `{name}` |" in found.markdown
    (figure,) = (f for f in found.figures if f.name == "ecdf")
    picture = ET.fromstring(figure.file())
    labels = [label.text for label in picture.iter(f"{SVG}text")]
    assert {"mine:<b>bold</b>&amp", '(b2=0.9999, name="$x$ $y$")'} <= set(labels)
    assert name in [line.text for line in picture.iter(f"{SVG}title")]


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    made = small()
    write_report(analyse(made), tmp_path)
    first = contents(tmp_path)
    write_report(analyse(copy.deepcopy(made)), tmp_path)
    assert contents(tmp_path) == first
    assert len(first) > 10


def contents(out: Path) -> dict[str, bytes]:
    files = sorted(p for p in out.rglob("*") if p.is_file())
    return {str(p.relative_to(out)): p.read_bytes() for p in files}


def stored(out: Path) -> Results:
    made = small(problems=("rosen2",), test_seeds=tuple(range(100, 108)))
    fakes.write(made, out)
    return made


def test_a_folder_is_read_and_reported(tmp_path: Path) -> None:
    cells = analyse(stored(tmp_path)).cells
    path = write_report(analyse(store.load(tmp_path)), tmp_path)
    assert path == tmp_path / "report.html"
    text = path.read_text("utf-8")
    Page(text)
    with (tmp_path / "summary/cells.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            cell = cells[row["problem"], row["optimizer"]]
            assert float(row["gradients_median"]) == np.median(cell.middle)
    assert not list(tmp_path.rglob(".*"))
    assert f"python -m benchmarks report {tmp_path}" in text


def unscored_too() -> Results:
    """Three scored problems, one with two objectives, one compared by accuracy."""
    made = small(test_seeds=tuple(range(100, 108)))
    front = FrontEntry((10.0, 10.0), 1.0)
    problems = made.manifest.problems | {
        "two": fakes.entry(1000, targets=fakes.UNSCORED, front=front),
        "noisy": fakes.entry(1000, targets=fakes.UNSCORED, metric="test error"),
    }
    curves, costs = dict(made.curves), dict(made.costs)
    for name in made.manifest.optimizers:
        scored = made.curves["quad_diag", name]
        loss = scored.metrics["loss"]
        two = {"loss": loss, "aux": 1.0 + loss}
        noisy = {"loss": loss, "accuracy": 1.0 / (1.0 + loss)}
        curves["two", name] = dataclasses.replace(scored, metrics=two)
        curves["noisy", name] = dataclasses.replace(scored, metrics=noisy)
        costs["two", name] = costs["noisy", name] = made.costs["quad_diag", name]
    names, settings = tuple(made.manifest.optimizers), made.manifest.settings
    return Results(fakes.manifest(problems, names, settings), curves, costs)


ONCE = (
    *((store, "load"), (summary, "analyse"), (summary, "summarize")),
    *((summary, "compare"), (comparison, "pairwise"), (comparison, "sign_flip")),
    (summary, "identical_optimizers"),
)
ONCE_PER_PROBLEM = ((summary, "pareto_fronts"), (summary, "accuracies"))


@pytest.mark.parametrize("command", ["run", "report"])
def test_each_block_is_read_and_analysed_once(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def count(module: Any, name: str, key: Callable[..., str]) -> None:
        original = getattr(module, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls[key(*args, **kwargs)] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)

    count(blocks, "read", lambda path: str(path))
    for module, name in ONCE:
        count(module, name, lambda *_, name=name, **__: name)
    for module, name in ONCE_PER_PROBLEM:
        count(module, name, lambda *args, name=name: f"{name} {args[-1]}")
    for module in (accuracies, fronts):
        count(module, "holm", lambda *_, of=module.__name__: f"holm of {of}")
    count(comparison, "resampled_means", lambda *_, **options: f"resample {options}")
    monkeypatch.setattr(compilation_cache, "enable_compilation_cache", lambda: None)
    out = tmp_path / "out"
    if command == "run":
        chosen = "-p rosen2 --only -o adam -o optax.sgd"
        grid = "--learning-rates 1e-2,1e-1 --seeds 8 --tune-seeds 1"
        words = ["run", *chosen.split(), *grid.split(), "--out", str(out)]
        found = CliRunner().invoke(main, words)
    else:
        fakes.write(unscored_too(), out)
        found = CliRunner().invoke(main, ["report", str(out)])
    assert found.exit_code == 0, found.output
    stored_blocks = {str(path) for path in out.rglob("*.parquet")}
    assert stored_blocks
    assert {name for name in calls if name.endswith(".parquet")} == stored_blocks
    assert {name for _, name in ONCE} <= set(calls)
    assert {name: n for name, n in calls.items() if n != 1} == {}
    if command == "report":
        assert {"pareto_fronts two", "accuracies noisy"} <= set(calls)


def test_the_report_command_quotes_the_folder() -> None:
    analysis = analyse(small(problems=("quad_diag",)))
    markdown = render_pages(analysis, [], Path("my results"))["report.md"]
    assert "python -m benchmarks report 'my results'" in markdown


def test_a_missing_folder_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no results"):
        store.load(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    stored(tmp_path)
    whole = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert whole.stderr == ""
    complete = (tmp_path / "report.md").read_text("utf-8")
    assert "## Missing, failed and skipped runs\n\nNone.\n" in complete

    damaged = paths.block_path(tmp_path, "rosen2", "adam", 102)
    damaged.write_bytes(damaged.read_bytes()[:-20])
    paths.block_path(tmp_path, "rosen2", "adam", 107).unlink()
    for path in paths.block_paths(tmp_path, "rosen2", "optax.adam"):
        path.unlink()
    found = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert found.exit_code == 0
    lines = [
        "13 of 22 seed runs are missing. This command completes the folder: "
        "`python -m benchmarks run quick -p rosen2 --only -o adam -o optax.adam "
        f"--learning-rates 0.001,0.003,0.01,0.03,0.1 --seeds 8 --out {tmp_path}`",
        "rosen2 × adam: 2 of 11 seed runs are missing (seeds 102, 107); "
        f"{damaged} is damaged",
        "rosen2 × optax.adam: nothing is stored",
    ]
    markdown = (tmp_path / "report.md").read_text("utf-8")
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    texts = "".join(text for _, text in page.texts)
    for line in lines:
        plain = line.replace("`", "")
        assert plain in found.stderr.splitlines()
        assert line in markdown
        assert plain in texts
    assert markdown.index(lines[0]) < markdown.index("## Gradients")
    assert "runs\n\nNone.\n" not in markdown


def test_the_terminal_names_the_first_of_many_missing_cells(tmp_path: Path) -> None:
    made = small()
    fakes.write(fakes.without(made, *list(made.curves)[1:]), tmp_path)
    (tmp_path / "runs/quad_diag/adam/seed-000.parquet").unlink()
    found = CliRunner().invoke(main, ["report", str(tmp_path)])
    _, first, *others = found.stderr.splitlines()
    assert first == "quad_diag × adam: 1 of 13 seed runs is missing (seed 0)"
    assert len(others) == 5
    assert others[-1] == "and 1 more, all named in the report"
    markdown = (tmp_path / "report.md").read_text("utf-8")
    assert markdown.count("nothing is stored") == 5


def test_runs_that_the_manifest_does_not_list_are_named(tmp_path: Path) -> None:
    stored(tmp_path)
    path = paths.block_path(tmp_path, "other", "adam", 100)
    grid = {"learning rates": "(0.1, 1.0)", "schedule": "constant"}
    ingredients = {"problem": "other", "optimizer": "adam"} | grid
    template = min((tmp_path / "runs").rglob("*.parquet"))
    read = blocks.read(template)
    assert read is not None
    blocks.write(path, read[0], run_key(ingredients), ingredients)
    found = CliRunner().invoke(main, ["report", str(tmp_path)])
    line = (
        "Not shown, because the manifest does not list them: 1 seed run (other × adam)"
    )
    assert line in found.stderr
    assert line in (tmp_path / "report.md").read_text("utf-8")


def test_figures_and_tables_of_an_earlier_report_are_removed(tmp_path: Path) -> None:
    for name in ("figures/old.svg", "summary/old.csv", "notes.svg", "figures/a.txt"):
        files.write_text(tmp_path / name, "old")
    write_report(analyse(small(problems=("quad_diag",))), tmp_path)
    names = set(contents(tmp_path))
    assert {"notes.svg", "figures/a.txt", "summary/cells.csv"} <= names
    assert not {"figures/old.svg", "summary/old.csv"} & names


def test_a_title_that_is_no_suite_is_not_called_one(tmp_path: Path) -> None:
    made = small(problems=("rosen2",))
    named = dataclasses.replace(made.manifest, suite="rosen2, mine")
    analysis = analyse(dataclasses.replace(made, manifest=named))
    for text in render_pages(analysis, [], FOLDER).values():
        assert "Convergence of optimizers: rosen2, mine\n" in text.replace("</", "\n")
    (command,) = reproduce.run_commands(named).values()
    assert command.startswith("python -m benchmarks run -p rosen2 --only -o adam")


def test_a_damaged_manifest_is_a_user_error(tmp_path: Path) -> None:
    stored(tmp_path)
    (tmp_path / "manifest.json").write_text("{", encoding="utf-8")
    found = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert found.exit_code == 2
    assert "is damaged" in found.stderr
    assert not (tmp_path / "report.html").exists()


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysis = analyse(small(problems=("quad_diag",)))
    write_report(analysis, tmp_path)
    before = contents(tmp_path)

    def full(self: Path, content: bytes) -> int:
        with self.open("w") as file:
            file.write("half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="disk is full"):
        write_report(analysis, tmp_path)
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
    assert formats.number(value) == text


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ((1.229, 1.414), "1.23 to 1.41"),
        ((0.76, 0.9998), "0.76 to <1.00"),
        ((1.0001, 2.0), ">1.00 to 2.00"),
        ((1.0, 1.0), "1.00 to 1.00"),
        ((np.nan, np.nan), ""),
    ],
)
def test_a_bound_on_one_side_of_1_is_not_printed_as_1(
    bounds: tuple[float, float], text: str
) -> None:
    assert formats.factors(bounds) == text


def test_the_command_of_a_problem_names_what_differs_from_the_defaults() -> None:
    made = small(test_seeds=tuple(range(100, 105)), schedule="cosine")
    words = reproduce.run_commands(made.manifest)["rosen2"]
    assert words == (
        "python -m benchmarks run quick -p rosen2 --only -o adam -o optax.adam "
        "--learning-rates 0.001,0.003,0.01,0.03,0.1 --seeds 5 --schedule cosine "
        "--out results/rosen2"
    )


def test_the_picture_of_the_readme_follows_light_and_dark() -> None:
    made = small(problems=("rosen2",), test_seeds=tuple(range(100, 108)))
    text = readme_figure(analyse(made)).file()
    assert_well_formed(text)
    assert "currentColor" in text
    # Neither a white page nor black ink, which are matplotlib's own.
    assert not re.search("#(ffffff|000000)", text)
    assert "Loss against gradients on rosen2" in text
    assert all(f">{name}<" in text for name in made.manifest.optimizers)


def test_the_picture_of_the_readme_is_written(tmp_path: Path) -> None:
    out, picture = tmp_path / "out", tmp_path / "picture.svg"
    made = stored(out)
    write_readme_figure(out, picture)
    assert picture.read_text("utf-8") == readme_figure(analyse(made)).file()
    with pytest.raises(UserError, match="no finished runs to draw"):
        readme_figure(analyse(Results(made.manifest, {}, {})))
