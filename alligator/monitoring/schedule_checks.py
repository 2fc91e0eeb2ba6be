"""Checks of the schedules of one store: whether each runs when it should."""

from time import time

from .entries import Checks, Entries, join_names
from .schedule_states import find_schedules
from .stores import Store


def check_schedules(store: Store, entries: Entries) -> Checks:
    """Return the check of the schedules; none for a store without any. May raise `BackendError`."""
    found = find_schedules(store)
    if not found:
        return {}
    now = time()
    problems = {state.name: problem for state in found if (problem := state.problem(now))}
    output = "; ".join(f"schedule {name} {text}" for name, text in [*problems.items()][:3])
    if len(problems) > 3:
        output += f"; others, too: {join_names([*problems][3:])}"
    entry = entries.warn_if(
        output, componentType="component", observedValue=len(problems), observedUnit="late"
    )
    return {"schedules:late": [entry]}
