"""Plans an experiment: suites, settings, cells, targets and cost."""
