"""Run tasks in child processes (``--isolate``), so that a crash does not end the worker.

Its public names, by module:

- parent: Isolation

Used only in this package: child, client, forkserver, messages, process.
"""
