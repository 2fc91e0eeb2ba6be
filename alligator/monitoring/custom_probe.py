"""Probe that runs a check of the project's own, such as a query to its database."""

from collections.abc import Awaitable
from inspect import isawaitable
from time import monotonic

from .._runtime.predicates import Predicate
from ..constants import FAIL, PASS, WARN
from .entries import Checks, Entries
from .probe import Probe


class CustomProbe(Probe):
    """One run of a project's own check; it fails or, if not *critical*, warns."""

    def __init__(self, name: str, call: Predicate, *, critical: bool, timeout: float) -> None:
        super().__init__(timeout)
        self._name = name
        self._call = call
        self._bad = FAIL if critical else WARN
        self._took: float | None = None
        self._output = ""

    def run(self) -> None:
        answer = self._call.func()
        if isawaitable(answer):
            from asyncio import run  # imported only for asynchronous checks

            answer = run(_wait_for(answer))
        self._took = monotonic() - self.began
        passes = answer is None or self._call.judge(answer)
        if passes is None:
            self._output = f"the check returned a {type(answer).__name__}, not True, False or None"
        elif not passes:
            self._output = "the check returned False"

    def findings(self) -> Checks:
        observed = {}
        if self.wait() and self._took is not None and self._took <= self.timeout:
            observed = {"observedValue": round(self._took * 1000, 3), "observedUnit": "ms"}
            output = self._output
        else:
            output = self.error or f"no answer within {self.timeout * 1000:.0f} ms"
        entry = Entries(self._name, self.time).make(
            self._bad if output else PASS, output, componentType="component", **observed
        )
        return {f"{self._name}:responseTime": [entry]}


async def _wait_for(answer: Awaitable[object]) -> object:
    return await answer
