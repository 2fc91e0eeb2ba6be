"""The output of the demo, for a terminal and for the logs of a CI."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from json import dumps

import httpx
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from alligator.backends.base import QueueStats

SHOWN = ("ready", "leased", "dead", "pushed", "succeeded")
WIDTH = 80


class Screen:
    """Prints the story, and counts failed checks."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.console.width = min(self.console.width, WIDTH)
        unicode = self.console.encoding.startswith("utf")
        self._good, self._bad = ("✓", "✗") if unicode else ("ok", "NOT SO:")
        self._arrow = "→" if unicode else "->"
        self.failures = 0
        self._steps = 0

    def say(self, text: str) -> None:
        """Print a paragraph."""
        self.console.print(text)

    def step(self, title: str, text: str) -> None:
        """Begin a part."""
        self._steps += 1
        self.console.print()
        self.console.rule(f"[bold green]{self._steps}. {title}", align="left", style="green")
        self.console.print(text)

    def facts(self, title: str, facts: dict[str, str]) -> None:
        """Print names with their values."""
        table = Table.grid(padding=(0, 2))
        for name, value in facts.items():
            table.add_row(f"[dim]{name}", escape(value))
        self.console.print(self._panel(title, table))

    def saw(self, response: httpx.Response) -> None:
        """Print the response that a client got."""
        good = response.status_code < 400
        lines = [
            f"{response.request.method} {response.request.url.path} {self._arrow} "
            f"[bold {'green' if good else 'red'}]{response.status_code} {response.reason_phrase}[/] "
            f"[dim]in {response.elapsed.total_seconds() * 1000:.0f} ms[/]"
        ]
        lines += [
            f"[dim]{name}:[/] {escape(response.headers[name])}"
            for name in ("location", "retry-after", "content-type")
            if name in response.headers and not (good and name == "content-type")
        ]
        if not good:
            lines.append(escape(response.text.strip()[:400]))
        self.console.print(self._panel("what the client saw", "\n".join(lines)))

    def queue(self, before: QueueStats, after: QueueStats) -> None:
        """Print how a queue has changed."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("")
        for name in SHOWN:
            table.add_column(name, justify="right")
        for moment, stats in (("before", before), ("after", after)):
            table.add_row(f"[dim]{moment}", *(str(getattr(stats, name)) for name in SHOWN))
        changes = (getattr(after, name) - getattr(before, name) for name in SHOWN)
        table.add_row("[dim]change", *(f"[bold]{c:+}" if c else "[dim]0" for c in changes))
        self.console.print(self._panel("what was on the queue", table))

    def worker(self, lines: Sequence[str]) -> None:
        """Print the log lines of a worker."""
        text = "\n".join(escape(_short(line)) for line in lines if not line.startswith(" "))
        self.console.print(self._panel("what the worker did", text or "[dim]nothing"))

    def lines(self, title: str, lines: Sequence[str]) -> None:
        """Print lines unchanged."""
        self.console.print(self._panel(title, escape("\n".join(lines))))

    def health(self, response: httpx.Response) -> None:
        """Print the health: its status, and one line for each check."""
        verdict = response.json()
        table = Table.grid(padding=(0, 2))
        table.add_row("[bold]status", f"[bold]{escape(verdict['status'])}")
        for name, findings in verdict.get("checks", {}).items():
            for finding in findings:
                value = f"{finding.get('observedValue', '')} {finding.get('observedUnit', '')}"
                text = finding.get("output") or value
                table.add_row(f"[dim]{escape(name)}", finding["status"], escape(text))
        self.console.print(self._panel(self._source(response), table))

    def document(self, response: httpx.Response) -> None:
        """Print a JSON document."""
        text = escape(_as_text(response.json()))
        self.console.print(self._panel(self._source(response), text))

    def check(self, good: bool, promise: str) -> None:
        """Print whether a guarantee was kept."""
        if good:
            self.console.print(f" [bold green]{self._good}[/] {promise}")
        else:
            self.failures += 1
            self.console.print(f" [bold red]{self._bad} {promise}[/]")

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show a spinner during the block; in a log, print a line."""
        if self.console.is_terminal:
            with self.console.status(text):
                yield
        else:
            self.console.print(text)
            yield

    def _source(self, response: httpx.Response) -> str:
        path, kind = response.request.url.path, response.headers.get("content-type", "")
        return f"GET {path} {self._arrow} {response.status_code} {kind}"

    def _panel(self, title: str, content: "str | Table") -> Panel:
        return Panel(content, title=f"[bold]{title}", title_align="left", border_style="dim")


def _short(line: str) -> str:
    """Return a log line without its repeated and unimportant parts."""
    line = re.sub(r"^\S+T(\d\d:\d\d:\d\d)\S* ", r"\1 ", line)
    line = re.sub(r" (task_id|queue|request_id)=\S+", "", line)
    return re.sub(r"task=[\w.]+\.tasks\.", "task=", line)


def _as_text(document: object, width: int = WIDTH - 4, indent: str = "") -> str:
    """Return JSON in as few lines as fit.

    >>> print(_as_text({"a": 1, "b": 2, "c": [{"name": "all", "ready": 0}]}, 32))
    {
      "a": 1, "b": 2,
      "c": [{"name": "all", "ready": 0}]
    }
    """
    whole = dumps(document)
    if not isinstance(document, dict | list) or len(indent) + len(whole) < width:
        return whole
    deeper = f"{indent}  "
    if isinstance(document, list):
        parts = [_as_text(value, width, deeper) for value in document]
    else:
        parts = [f'"{name}": {_as_text(value, width, deeper)}' for name, value in document.items()]
    lines = [deeper + parts[0]]
    for part in parts[1:]:
        lines[-1] += ","
        joined = f"{lines[-1]} {part}"
        if "\n" not in joined and len(joined) < width:
            lines[-1] = joined
        else:
            lines.append(deeper + part)
    start, end = "[]" if isinstance(document, list) else "{}"
    return "\n".join([start, *lines, indent + end])
