"""The results folder: its files, its manifest, and how it is loaded."""
