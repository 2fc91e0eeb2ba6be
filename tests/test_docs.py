"""The documentation is true: its examples run, its links lead somewhere, and it leaves nothing out.

For what is run, and how an example opts out, see
`tests/harness/doc_examples.py`.
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
from shutil import which

import click
import pytest

from alligator.cli import main as latergator
from alligator.options import TaskOptions
from tests.harness.doc_examples import PAGES, ROOT, Block, blocks, tabs
from tests.harness.programs import environment

PROGRAMS = [*(ROOT / "alligator").rglob("*.py"), *(ROOT / "integrations").rglob("*.py")]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<text>.+)$", re.M)
CODE = re.compile(r"^```.*?^```$", re.M | re.S)
TAB_SET = re.compile(r"^::::\{tab-set\}\n.*?^::::$", re.M | re.S)


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
def test_examples_of_a_page_run(page: Path, tab: str, tmp_path: Path) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("ALLIGATOR_")}
    paths = [str(ROOT), str(ROOT / "integrations"), environ.get("PYTHONPATH", "")]
    warnings = ["-W", "error", "-W", "ignore:Using `httpx` with `starlette.testclient`"]
    command = [sys.executable, *warnings, "-m", "tests.harness.doc_examples", str(page), tab]

    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if tabs(page) != [""]], ids=name_of)
def test_each_set_of_tabs_has_a_tab_for_each_reader(page: Path) -> None:
    """A reader who chose a tab would be shown that of others, or none."""
    text = page.read_text("utf-8")

    for found in TAB_SET.finditer(text):
        names = re.findall(r"^:::\{tab-item\} (.+)$", found[0], re.M)
        assert names == tabs(page), f"line {text.count(chr(10), 0, found.start()) + 1}"


def test_examples_are_python() -> None:
    for page in PAGES:
        for block in blocks(page, "python"):
            block.compile()  # an error names the page and the line


MODULES = [
    pytest.param(ast.parse(text), id=str(where))
    for where, text in [
        *((f"{name_of(b.page)}:{b.line}", b.code) for p in PAGES for b in blocks(p, "python")),
        *((path.relative_to(ROOT), path.read_text()) for path in (ROOT / "examples").rglob("*.py")),
    ]
    if "ALLIGATOR_CONN" in text
]


@pytest.mark.parametrize("module", MODULES)
def test_no_example_has_a_dsn_that_hides_that_of_the_environment(module: ast.Module) -> None:
    assert [ast.unparse(value) for value in fixed_dsns(module)] == []


def fixed_dsns(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield the DSNs that a program sets, whatever the environment says; locmem:// is for tests."""
    for node in ast.walk(tree):
        given: list[tuple[ast.expr | None, ast.expr]] = []
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            target = node.targets[0]
            given = [(target.slice, node.value)] * (ast.unparse(target.value) != "os.environ")
        elif isinstance(node, ast.Call) and not ast.unparse(node.func).startswith("os.environ"):
            given = [(ast.Constant(each.arg), each.value) for each in node.keywords]
            given += [(node.args[0], node.args[1])] if len(node.args) == 2 else []
        elif isinstance(node, ast.Dict) and "os.environ" not in ast.unparse(node):
            given = list(zip(node.keys, node.values, strict=True))
        for key, value in given:
            is_conn = isinstance(key, ast.Constant) and key.value == "ALLIGATOR_CONN"
            if is_conn and isinstance(value, ast.Constant) and value.value != "locmem://":
                yield value


@pytest.mark.parametrize("variable", ["ALLIGATOR_CONN", "FLASK_ALLIGATOR_CONN"])
def test_factory_of_the_flask_page_takes_the_dsn_of_the_environment(
    tmp_path: Path, variable: str
) -> None:
    page = ROOT / "docs" / "integrations" / "flask.md"
    [factory] = [block for block in blocks(page, "python") if block.file == "factory.py"]
    (tmp_path / "factory.py").write_text(factory.code)
    code = "import factory; print(factory.create_app().extensions['alligator'].conn_string)"
    environ = {variable: "sqlite:///srv/of-the-environment.db"}

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment({"PYTHONPATH": f"{ROOT}:{ROOT / 'integrations'}", **environ}),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.strip() == environ[variable], done.stderr


OURS = re.compile(
    r"^(?:\$ |ExecStart=|command=)"
    r"(?P<line>.*(?:\blatergator|--app \w+ alligator|\w\.py alligator)\b.*)$",
    re.M,
)
COMMAND_LINES = {
    found["line"]: None
    for page in PAGES
    for block in blocks(page, "console", "ini")
    for found in OURS.finditer(block.code)
}


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_in_an_example_is_valid(line: str) -> None:
    words = shlex.split(line, comments=True)
    # A command in quotes is for another program to run: watchfiles "latergator …".
    words = next((shlex.split(word) for word in words if word.startswith("latergator ")), words)
    start = next(n for n, w in enumerate(words) if Path(w).name in {"latergator", "alligator"})
    stops = [n for n, word in enumerate(words) if n > start and word in {"&", "|", "||", "&&", ">"}]
    arguments = words[start + 1 : min(stops, default=len(words))]
    if words[start] == "alligator":
        django = words[start - 1].endswith(".py")
        command: click.Command = django_command() if django else flask_command()
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


def django_command() -> click.Group:
    from django_alligator.commands import commands

    return commands()


def flask_command() -> click.Group:
    from flask import Flask

    from flask_alligator import Alligator

    app = Flask(__name__)
    app.config["ALLIGATOR_CONN"] = "locmem://"
    Alligator(app)
    group = app.cli.commands["alligator"]
    assert isinstance(group, click.Group)
    return group


@pytest.mark.skipif(not which("systemd-analyze"), reason="systemd-analyze is not on PATH")
def test_systemd_accepts_the_unit_of_the_deployment_page(tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-to" / "deploy.md"
    [unit] = [block.code for block in blocks(page, "ini") if block.code.startswith("[Unit]")]
    program = tmp_path / "venv" / "bin" / "latergator"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    service = tmp_path / "shop-worker.service"
    service.write_text(unit.replace("/srv/shop", str(tmp_path)))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(service)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Links.


def leads_somewhere(page: Path, target: str) -> bool:
    file, _, anchor = target.partition("#")
    found = (page.parent / file).resolve() if file else page
    return found.exists() and (not anchor or anchor in anchors(found))


def test_links_lead_somewhere() -> None:
    links = [
        (page, link["target"])
        for page in PAGES
        for link in LINK.finditer(CODE.sub("", page.read_text("utf-8")))
        if "://" not in link["target"]
    ]

    assert len(links) > 500
    assert [f"{name_of(page)}: {to}" for page, to in links if not leads_somewhere(page, to)] == []


WRITTEN = [p for p in PAGES if p.parent != ROOT and not p.read_text().startswith("```{include}")]


def test_pages_are_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"

    linked = {
        (index.parent / link["target"].partition("#")[0]).resolve()
        for link in LINK.finditer(index.read_text("utf-8"))
    }

    assert [name_of(page) for page in WRITTEN if page not in {*linked, index}] == []


# Titles.


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "how-to").glob("*.md")), ids=name_of)
def test_title_of_a_how_to_page_begins_as_its_file_name(page: Path) -> None:
    """Both begin with the same imperative, such as "Choose a store" in ``choose-a-store.md``."""
    heading = HEADING.search(page.read_text("utf-8"))

    assert heading is not None
    assert heading["text"].lower().split()[0] == page.stem.split("-")[0]


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
def test_public_name_is_documented(name: str) -> None:
    assert is_told(name)


@pytest.mark.parametrize("option", sorted(TaskOptions.__annotations__))
def test_option_of_a_task_is_documented(option: str) -> None:
    assert is_told(option)


def variables() -> list[str]:
    text = "\n".join(path.read_text("utf-8") for path in PROGRAMS)
    return sorted(set(re.findall(r"""["'](ALLIGATOR_[A-Z_]+)["']""", text)))


@pytest.mark.parametrize("variable", variables())
def test_variable_of_the_environment_or_the_configuration_is_documented(variable: str) -> None:
    assert is_told(variable)


def test_no_page_names_a_variable_that_nothing_reads() -> None:
    documented = {
        name for page in PAGES for name in re.findall(r"\bALLIGATOR_[A-Z_]+\b", page.read_text())
    }

    assert documented <= set(variables())


def test_no_page_names_a_file_that_is_not_there() -> None:
    files = re.compile(r"`((?:alligator|integrations|tests|docs|examples)/[\w/.-]+\.\w+)`")
    named = {name for page in PAGES for name in files.findall(page.read_text("utf-8"))}

    assert {name for name in named if not (ROOT / name).exists() and "NAME" not in name} == set()


LATERGATOR = list(commands(latergator, "latergator"))


@pytest.mark.parametrize("name", [name for name, _ in LATERGATOR])
def test_command_is_documented(name: str) -> None:
    assert is_told(name)


OPTIONS = {
    max(parameter.opts, key=len): name
    for name, command in LATERGATOR
    for parameter in command.params
    if isinstance(parameter, click.Option) and not parameter.hidden
}


@pytest.mark.parametrize("option", OPTIONS)
def test_option_of_a_command_is_documented(option: str) -> None:
    assert is_told(option), f"an option of {OPTIONS[option]}"
