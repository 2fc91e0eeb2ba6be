"""Reject subclasses that override a method of Alligator 1.0 which is no longer called."""

from collections.abc import Mapping, Sequence

from ..exceptions import ConfigurationError

NOT_CALLED = {
    "pop": "a worker reserves several tasks at once. Override Worker.check_and_run_task",
    "execute": "override Gator.run, which makes one attempt at a task, or give task_context=, a "
    "function that returns a context manager for each task",
}
"""Methods of `Gator` that the worker of 1.0 called in a subclass, and what to do instead."""


def check_overrides(kinds: Sequence[type], advice: Mapping[str, str]) -> None:
    """Raise `ConfigurationError` if one of *kinds* has an attribute that *advice* names.

    *advice* says for each name what to do instead, as a clause.
    """
    for name, instead in advice.items():
        for kind in kinds:
            if name in vars(kind):
                raise ConfigurationError(
                    f"{kind.__qualname__} overrides {name}, which Alligator 1.0 used and this version "
                    f"does not: {instead}."
                )
