"""Helpers for the process: forks, signals, threads, timeouts, standard streams and the logger."""
