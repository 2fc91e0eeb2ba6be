"""The documentation is true: its examples run, its links lead somewhere, and it leaves nothing out.

What is run, and how an example says that it is not to be, stands in `tests/pages.py`.
"""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest

from alligator.cli import main as latergator
from alligator.options import TaskOptions
from tests.pages import PAGES, ROOT, Block, blocks, tabs

PROGRAMS = [*(ROOT / "alligator").rglob("*.py"), *(ROOT / "integrations").rglob("*.py")]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<text>.+)$", re.M)
CODE = re.compile(r"^```.*?^```$", re.M | re.S)


def name_of(value: object) -> str | None:
    if isinstance(value, Path):
        return str(value.relative_to(ROOT))
    return f"{name_of(value.page)}:{value.line}" if isinstance(value, Block) else None


def is_told(words: str) -> bool:
    """Whether any page has *words*, and not just as a part of longer ones."""
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    return re.search(rf"(?<![\w-]){re.escape(words)}(?![\w-])", text) is not None


def anchors(page: Path) -> set[str]:
    """Name the headings of *page* as GitHub and MyST do."""
    text = CODE.sub("", page.read_text("utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading["text"].lower()).replace(" ", "-")
        for heading in HEADING.finditer(text)
    }


def commands(command: click.Command, *names: str) -> Iterator[tuple[str, click.Command]]:
    """Walk a command and those below it, each with its full name."""
    yield " ".join(names), command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, *names, name)


# Examples.


@pytest.mark.parametrize(
    ("page", "tab"),
    [(page, tab) for page in PAGES if blocks(page, "python") for tab in tabs(page)],
    ids=name_of,
)
@pytest.mark.timeout(120)
def test_the_examples_of_a_page_run(page: Path, tab: str, tmp_path: Path) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("ALLIGATOR_")}
    paths = [str(ROOT), str(ROOT / "integrations"), environ.get("PYTHONPATH", "")]
    warnings = ["-W", "error", "-W", "ignore:Using `httpx` with `starlette.testclient`"]
    command = [sys.executable, *warnings, "-m", "tests.pages", str(page), tab]

    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "block", [b for page in PAGES for b in blocks(page, "python")], ids=name_of
)
def test_an_example_is_python(block: Block) -> None:
    block.compile()


OURS = re.compile(r"^\$ (?P<line>.*(?:\blatergator|--app \w+ alligator)\b.*)$", re.M)
COMMAND_LINES = {
    found["line"]: None
    for page in PAGES
    for block in blocks(page, "console")
    for found in OURS.finditer(block.code)
}


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_command_that_is_shown_can_be_given(line: str) -> None:
    words = shlex.split(line, comments=True)
    start = next(n for n, word in enumerate(words) if word in {"latergator", "alligator"})
    stops = [n for n, word in enumerate(words) if n > start and word in {"&", "|", "||", "&&", ">"}]
    arguments = words[start + 1 : min(stops, default=len(words))]
    if words[start] == "alligator":
        command: click.Command = flask_command()
    else:
        command = latergator

    # Parsing raises UsageError for what does not exist; nothing is run.
    with suppress(click.exceptions.Exit):  # --help, --version
        context = command.make_context("it", arguments)
        while isinstance(command, click.Group):
            _, found, rest = command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            assert found is not None
            command, context = found, found.make_context(found.name, rest, parent=context)


def flask_command() -> click.Group:
    from flask import Flask

    from flask_alligator import Alligator

    app = Flask(__name__)
    app.config["ALLIGATOR_CONN"] = "locmem://"
    Alligator(app)
    group = app.cli.commands["alligator"]
    assert isinstance(group, click.Group)
    return group


# Links.


LINKS = [
    pytest.param(page, link["target"], id=f"{name_of(page)}: {link['target']}")
    for page in PAGES
    for link in LINK.finditer(CODE.sub("", page.read_text("utf-8")))
    if "://" not in link["target"]
]


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    file, _, anchor = target.partition("#")

    found = (page.parent / file).resolve() if file else page

    assert found.exists()
    assert not anchor or anchor in anchors(found)


WRITTEN = [p for p in PAGES if p.parent != ROOT and not p.read_text().startswith("```{include}")]


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_a_page_is_reached_from_the_index(page: Path) -> None:
    index = ROOT / "docs" / "index.md"

    linked = {
        (index.parent / link["target"].partition("#")[0]).resolve()
        for link in LINK.finditer(index.read_text("utf-8"))
    }

    assert page in {*linked, index}


# Completeness.


def public_names() -> list[str]:
    tree = ast.parse((ROOT / "alligator" / "__init__.py").read_text("utf-8"))
    imported = [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return sorted([*imported, *defined])


@pytest.mark.parametrize("name", public_names())
def test_a_public_name_is_told_of(name: str) -> None:
    assert is_told(name)


@pytest.mark.parametrize("option", sorted(TaskOptions.__annotations__))
def test_an_option_of_a_task_is_told_of(option: str) -> None:
    assert is_told(option)


def variables() -> list[str]:
    text = "\n".join(path.read_text("utf-8") for path in PROGRAMS)
    return sorted(set(re.findall(r"""["'](ALLIGATOR_[A-Z_]+)["']""", text)))


@pytest.mark.parametrize("variable", variables())
def test_a_variable_of_the_environment_or_the_configuration_is_told_of(variable: str) -> None:
    assert is_told(variable)


def test_no_page_tells_of_a_variable_that_nothing_reads() -> None:
    told = {
        name for page in PAGES for name in re.findall(r"\bALLIGATOR_[A-Z_]+\b", page.read_text())
    }

    assert told <= set(variables())


def test_no_page_names_a_file_that_is_not_there() -> None:
    files = re.compile(r"`((?:alligator|integrations|tests|docs|examples)/[\w/.-]+\.\w+)`")
    named = {name for page in PAGES for name in files.findall(page.read_text("utf-8"))}

    assert {name for name in named if not (ROOT / name).exists() and "NAME" not in name} == set()


LATERGATOR = list(commands(latergator, "latergator"))


@pytest.mark.parametrize("name", [name for name, _ in LATERGATOR])
def test_a_command_is_told_of(name: str) -> None:
    assert is_told(name)


OPTIONS = {
    max(parameter.opts, key=len): name
    for name, command in LATERGATOR
    for parameter in command.params
    if isinstance(parameter, click.Option) and not parameter.hidden
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_of_a_command_is_told_of(option: str) -> None:
    assert is_told(option), f"an option of {OPTIONS[option]}"
