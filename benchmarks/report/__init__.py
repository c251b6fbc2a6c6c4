"""Renders an analysis as terminal table, HTML, Markdown, CSV and figures."""
