"""Golden files: trajectories on disk, and what changed since they were recorded."""
