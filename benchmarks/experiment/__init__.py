"""What a run will do: suites, settings, cells, targets and cost."""
