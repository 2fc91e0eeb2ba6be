"""The code in the documentation, and a program that runs it.

``python -m tests.harness.doc_examples docs/tutorial.md`` runs one page.
A page with tabs, one for each framework, is run once for each: ``docs/tutorial.md FastAPI``.

How the code of a page is taken:

- Its python blocks are run in their order, in one namespace and in an empty folder.
- A block whose first line is the name of a file (``# shop.py``) is that file: it is written down, for
  other blocks to import. Files called ``test_….py`` are run by pytest.
- A block in a tab belongs to the runs of that tab, and all others to every run.
- A block after the line ``<!-- compiles -->`` needs what only a reader has, and is just compiled.
"""

import ast
import asyncio
import importlib
import inspect
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

FENCE = re.compile(
    r"^(?P<mark><!-- compiles -->\n)?```(?P<language>[^\n`]*)\n(?P<code>.*?)^```$", re.M | re.S
)
TAB = re.compile(r"^:::\{tab-item\} (?P<name>.+?)\n(?P<text>.*?)^:::$", re.M | re.S)
FILE = re.compile(r"# (?P<name>[\w/.]+\.\w+)\n")

# What the README uses without saying where it comes from: it is a tour, not a program.
README_MAIL = """
def send_receipt(order): ...
def tell_warehouse(order): ...
def send_mail(user): ...
def update_counts(user): ...
def tell_ops(task, error): ...
def audit(order): ...
"""
README_NAMES = """
from types import SimpleNamespace
from alligator import Gator
from flask import Flask
from flask_alligator import Alligator
from mail import audit, send_mail, send_receipt, tell_ops, tell_warehouse, update_counts
gator = Gator("locmem://")
order, app = SimpleNamespace(id=7), Flask("readme")
app.config["ALLIGATOR_CONN"] = "locmem://"
def save(order): ...
"""


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    """The line of the page on which its code begins."""
    language: str
    code: str
    runs: bool
    tab: str = ""
    """The name of its tab."""

    @property
    def file(self) -> str:
        """The name of its file, if it has one."""
        found = FILE.match(self.code)
        return found["name"] if found else ""

    def compile(self) -> Any:
        """Return its code, compiled so that a traceback shows the page."""
        padding = "\n" * (self.line - 1)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        return compile(padding + self.code, self.page, "exec", flags, dont_inherit=True)


def blocks(page: Path, *languages: str, tab: str | None = None) -> list[Block]:
    """Return the blocks of *page* in these languages; with *tab*, those of this tab's run."""
    text = page.read_text("utf-8")
    tabs = [(found.start("text"), found.end("text"), found["name"]) for found in TAB.finditer(text)]
    found_blocks = [
        Block(
            page,
            text.count("\n", 0, found.start("code")) + 1,
            found["language"],
            found["code"],
            found["mark"] is None,
            next((name for start, end, name in tabs if start <= found.start() < end), ""),
        )
        for found in FENCE.finditer(text)
        if found["language"] in languages
    ]
    return [block for block in found_blocks if tab is None or block.tab in ("", tab)]


def tabs(page: Path) -> list[str]:
    """Return the tabs of *page* in their order; an empty name if there are none."""
    names = (found["name"] for found in TAB.finditer(page.read_text("utf-8")))
    return list(dict.fromkeys(names)) or [""]


def run(page: Path, tab: str = "") -> None:
    """Run the examples of *page* in an empty folder; raise their errors."""
    sys.path.insert(0, os.getcwd())
    sys.dont_write_bytecode = True  # a file may be replaced within the second
    namespace: dict[str, Any] = {"__name__": "example"}
    if page == ROOT / "README.md":
        Path("mail.py").write_text(README_MAIL)
        exec(README_NAMES, namespace)
    tests: dict[str, None] = {}
    for block in blocks(page, "python", tab=tab):
        if not block.runs:
            continue
        if block.file:
            _write(block)
            if Path(block.file).name.startswith("test_"):
                tests[block.file] = None
            continue
        result = eval(block.compile(), namespace)
        if inspect.iscoroutine(result):
            asyncio.run(result)
    if tests:
        run_pytest(list(tests))


def run_pytest(files: list[str]) -> None:
    """Run pytest on *files*, as in the reader's project."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    command += [word for option in sys.warnoptions for word in ("-W", option)]
    if not entry_points(group="pytest11", name="alligator"):  # a checkout that is not installed
        command += ["-p", "pytest_alligator.plugin"]
    subprocess.run([*command, *files], check=True)


def _write(block: Block) -> None:
    path = Path(block.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.code)
    # A later import finds the file as it is now.
    importlib.invalidate_caches()
    module = block.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    sys.modules.pop(module, None)


if __name__ == "__main__":
    chosen = [Path(name).resolve() for name in sys.argv[1:2]] or PAGES
    for one in chosen:
        for tab in sys.argv[2:] or tabs(one):
            # A relay of an example may still write.
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                os.chdir(folder)
                run(one, tab)
                os.chdir(ROOT)
