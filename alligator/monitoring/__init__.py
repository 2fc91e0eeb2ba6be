"""Health, stats and metrics of the stores, for operators and probes."""
