"""Checks of the schedules of one store: whether each runs when it should."""

from time import time

from .entries import Checks, Entries
from .schedule_states import find_schedules
from .stores import Store

MAX_LATE = 10
"""How many schedules are listed one by one."""


def check_schedules(store: Store, entries: Entries) -> Checks:
    """Return the checks of the schedules; none for a store without any. May raise `BackendError`."""
    found = find_schedules(store)
    if not found:
        return {}
    now = time()
    problems = [(state.name, problem) for state in found if (problem := state.problem(now))]
    outputs = [f"schedule {name} {problem}" for name, problem in problems[:MAX_LATE]]
    observed = {
        "componentType": "component",
        "observedValue": len(problems),
        "observedUnit": "late",
    }
    return {"schedules:late": [entries.warn_if(output, **observed) for output in outputs or [""]]}
