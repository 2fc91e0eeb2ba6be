"""Vetoes: which responses discard the tasks of their requests."""

from collections.abc import Sequence


def veto_errors(status: int, headers: Sequence[tuple[str, str]] = ()) -> bool:
    """Veto the commit of a response that reports an error; true means do not commit.

    >>> veto_errors(201), veto_errors(302), veto_errors(404), veto_errors(500)
    (False, False, True, True)
    """
    return status >= 400
