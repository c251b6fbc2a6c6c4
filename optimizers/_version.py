"""The version, which the build reads from here; CITATION.cff repeats it."""

__version__ = "0.1.0"
