"""All figures of the report."""

from benchmarks.analysis.summary import Analysis
from benchmarks.report import svg
from benchmarks.report.front_figure import front_figure
from benchmarks.report.panels import problem_panels
from benchmarks.report.plotting import line_styles
from benchmarks.report.summary_figures import ecdf_figure, speedup_figure
from benchmarks.report.svg import RenderedFigure
from benchmarks.report.trajectories import trajectory_panels


def render_figures(analysis: Analysis) -> list[RenderedFigure]:
    """Every figure that the analysis has numbers for."""
    styles, comparison = line_styles(analysis), analysis.comparison
    with svg.style():
        figures = problem_panels(analysis, styles)
        figures += trajectory_panels(analysis, styles)
        for problem, fronts in analysis.fronts.items():
            entry = analysis.manifest.problems[problem]
            if fronts and entry.front is not None:
                figures.append(front_figure(problem, entry.metric, entry.front, fronts))
        if comparison is not None:
            figures.append(ecdf_figure(analysis.reached, styles))
            if comparison.p_values is not None and len(comparison.optimizers) > 1:
                figures.append(speedup_figure(comparison, analysis.groups))
    return figures
