"""Run tasks in child processes (``--isolate``), so that a crash does not end the worker."""
