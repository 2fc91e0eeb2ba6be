"""The rules of the house: who may import whom, and what every package and module has."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "alligator"
INTEGRATIONS = sorted(path for path in (ROOT / "integrations").iterdir() if path.is_dir())
PACKAGES = [CORE, *INTEGRATIONS]
NAMES = {package.name for package in PACKAGES}

#: The only arrows between integrations: a framework built on a protocol.
ARROWS = {
    "flask_alligator": {"wsgi_alligator"},
    "starlette_alligator": {"asgi_alligator"},
}

#: The framework that an integration is for; all else is the standard library.
FRAMEWORKS = {
    "flask_alligator": {"flask", "click", "werkzeug"},  # Flask brings the other two
    "starlette_alligator": {"starlette"},
    "pytest_alligator": {"pytest", "_pytest"},
}

#: What a file of the core may import besides the standard library.
FOREIGN = {
    "cli": {"click", "rich"},
    "spans.py": {"opentelemetry"},
    "dashboard": {"jinja2"},
    "metrics.py": {"prometheus_client"},
    "backends/redis_backend.py": {"redis"},
    "backends/redis_pushes.py": {"redis"},
    "backends/redis_connection.py": {"redis"},
    "backends/redis_topology.py": {"redis"},
    "backends/redis_wire.py": {"redis"},
    "backends/sqs_connection.py": {"boto3", "botocore"},
}

#: The modules that make a core of their own: what lies lower knows nothing of what lies higher.
FLOORS = [
    {"exceptions", "constants", "forks"},
    {"importing", "options", "backends.base"},
    {"tasks"},
    {"attempts", "transaction", "guard", "heartbeat"},
    {"spans"},
    {"tracing"},
    {"gator"},
    {"lanes", "workers", "stats", "health", "testing"},
    {"cli"},
]


def modules(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def every_module() -> list[Path]:
    return [path for package in PACKAGES for path in modules(package)]


def ident(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path, tree: ast.AST | None = None) -> Iterator[tuple[str, str]]:
    """Yield ``(module, name)`` for all that is imported; *name* is empty for ``import module``."""
    for node in ast.walk(tree or parse(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = [path_root(path).name, *path.relative_to(path_root(path)).parent.parts]
                base = base[: len(base) - node.level + 1]
                module = ".".join([*base, module] if module else base)
            yield from ((module, alias.name) for alias in node.names)


def path_root(path: Path) -> Path:
    """Find the package that *path* is in."""
    return next(package for package in PACKAGES if package in path.parents)


def tops(path: Path) -> set[str]:
    """Name the top-level packages that *path* imports, but for the standard library."""
    return {module.partition(".")[0] for module, _ in imports(path)} - sys.stdlib_module_names


def core_arrows(path: Path) -> set[str]:
    """Name the modules of the core that *path* imports, such as ``backends.base``."""
    found = set()
    for module, name in imports(path):
        if module.partition(".")[0] != "alligator":
            continue
        for dotted in (f"{module}.{name}", module):
            file = ROOT / (dotted.replace(".", "/") + ".py")
            package = ROOT / dotted.replace(".", "/") / "__init__.py"
            if file.exists() or package.exists():
                found.add(dotted.removeprefix("alligator").removeprefix("."))
                break
    return found - {""}


def graph() -> dict[str, set[str]]:
    """Draw the arrows between the modules of the core."""
    arrows = {}
    for path in modules(CORE):
        parts = path.relative_to(CORE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            arrows[name] = core_arrows(path) - {name}
    return arrows


# Who imports whom.


@pytest.mark.parametrize("path", modules(CORE), ids=ident)
def test_the_core_imports_nothing_foreign_but_where_named(path: Path) -> None:
    name = path.relative_to(CORE).as_posix()
    allowed = FOREIGN.get(name, FOREIGN.get(name.partition("/")[0], set()))

    assert tops(path) - {"alligator"} <= allowed


def test_the_core_has_no_import_circles() -> None:
    arrows = graph()
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way, module])
        if module not in done:
            for other in sorted(arrows.get(module, ())):
                visit(other, (*way, module))
            done.add(module)

    for module in arrows:
        visit(module, ())


def test_the_floors_of_the_core_are_in_order() -> None:
    floor = {module: number for number, names in enumerate(FLOORS) for module in names}

    upward = [
        f"{module} -> {other}"
        for module, others in graph().items()
        for other in others
        if module in floor and other in floor and floor[other] > floor[module]
    ]

    assert upward == []


def test_a_backend_knows_the_contract_and_not_the_gator() -> None:
    low = FLOORS[0] | {"options", "importing", "offload"}

    for module, others in graph().items():
        if module.startswith("backends."):
            own = {other for other in others if other.startswith("backends")}
            assert others - own <= low, module


@pytest.mark.parametrize("package", INTEGRATIONS, ids=lambda package: package.name)
def test_an_integration_imports_the_core_and_its_own_framework(package: Path) -> None:
    allowed = {"alligator", package.name}
    allowed |= FRAMEWORKS.get(package.name, set()) | ARROWS.get(package.name, set())

    for path in modules(package):
        assert tops(path) <= allowed, ident(path)


@pytest.mark.parametrize("package", INTEGRATIONS, ids=lambda package: package.name)
def test_an_integration_uses_public_names_only(package: Path) -> None:
    for path in modules(package):
        for module, name in imports(path):
            if module.partition(".")[0] in NAMES - {package.name}:
                private = [part for part in [*module.split("."), name] if part.startswith("_")]
                assert private == [], f"{ident(path)}: {module}.{name}"
                if name:
                    found = import_module(module)
                    assert hasattr(found, name) or import_module(f"{module}.{name}")


def test_nobody_imports_an_integration_by_its_folder() -> None:
    for path in [*every_module(), *modules(ROOT / "tests"), *modules(ROOT / "examples")]:
        found = {node for node in ast.walk(parse(path)) if isinstance(node, ast.Import)}
        froms = [node for node in ast.walk(parse(path)) if isinstance(node, ast.ImportFrom)]
        names = [alias.name for node in found for alias in node.names]
        names += [node.module or "" for node in froms if not node.level]
        assert not any(name.partition(".")[0] == "integrations" for name in names), ident(path)


def loaded(statement: str) -> set[str]:
    """Name the top-level modules that a fresh interpreter has loaded after *statement*."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'integrations'}"},
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import alligator",
        "import alligator.testing",
        "import alligator; alligator.Gator('locmem://').task(print)",
        "import alligator; alligator.Gator('sqlite://x.db')",
    ],
)
def test_using_alligator_loads_nothing_foreign_and_no_event_loop(statement: str) -> None:
    ours = loaded(statement) - loaded("pass")

    assert ours - sys.stdlib_module_names == {"alligator"}
    assert not ours & {"asyncio", "ctypes", "sqlite3"} - loaded_by_sqlite(statement)


def loaded_by_sqlite(statement: str) -> set[str]:
    return {"sqlite3", "ctypes"} if "sqlite://" in statement else set()


@pytest.mark.parametrize("name", ["wsgi_alligator", "asgi_alligator"])
def test_a_protocol_loads_nothing_foreign(name: str) -> None:
    ours = loaded(f"import {name}") - loaded("pass")

    assert ours - sys.stdlib_module_names == {"alligator", name}


# What every package and module has.


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_package_is_typed_and_shipped(package: Path) -> None:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shipped = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

    assert (package / "py.typed").exists()
    assert (package / "__init__.py").exists()
    assert package.relative_to(ROOT).as_posix() in shipped
    assert not (ROOT / "integrations" / "__init__.py").exists()


def test_only_what_is_there_is_shipped() -> None:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shipped = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

    assert sorted(shipped) == sorted(package.relative_to(ROOT).as_posix() for package in PACKAGES)


@pytest.mark.parametrize("path", every_module(), ids=ident)
def test_a_file_opens_with_one_sentence(path: Path) -> None:
    docstring = ast.get_docstring(parse(path))

    assert docstring, "it has no docstring"
    first = docstring.split("\n")[0]
    assert first.endswith((".", "?")) or docstring.split("\n\n")[0].endswith((".", ":"))


@pytest.mark.parametrize("path", every_module(), ids=ident)
def test_each_public_class_and_function_is_documented(path: Path) -> None:
    bare = [
        node.name
        for node in parse(path).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]

    assert bare == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_an_init_only_re_exports(package: Path) -> None:
    tree = parse(package / "__init__.py")

    for node in tree.body:
        is_import = isinstance(node, ast.ImportFrom | ast.Import)
        is_version = isinstance(node, ast.Assign | ast.FunctionDef) and "version" in (
            node.name if isinstance(node, ast.FunctionDef) else ast.unparse(node.targets[0])
        )
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        assert is_import or is_version or is_docstring or is_all, ast.unparse(node)


def test_the_public_names_are_those_that_the_design_lists() -> None:
    alligator = import_module("alligator")
    names = (
        "Gator Task Options Transaction Worker Lease current_task veto_errors AlligatorException "
        "READY SCHEDULED LEASED DEAD WAITING SUCCESS FAILED DELAYED RETRYING CANCELED DEFERRED "
        "version __version__"
    )

    assert [name for name in names.split() if not hasattr(alligator, name)] == []
    assert alligator.version() == alligator.__version__


def test_each_exception_is_drawn_in_the_tree() -> None:
    exceptions = import_module("alligator.exceptions")
    names = [name for name, kind in vars(exceptions).items() if isinstance(kind, type)]

    assert [name for name in names if name not in (exceptions.__doc__ or "")] == []


@pytest.mark.parametrize(
    "name",
    [
        "alligator.tasks",
        "alligator.workers",
        "alligator.constants",
        "alligator.exceptions",
        "alligator.backends.locmem_backend",
        "alligator.backends.sqlite_backend",
        "alligator.backends.redis_backend",
    ],
)
def test_the_modules_of_1_0_are_where_they_were(name: str) -> None:
    if "redis" in name:
        pytest.importorskip("redis")

    assert import_module(name)


def test_a_test_lies_where_no_package_is() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}

    assert not any((folder / "__init__.py").exists() for folder in folders)


def test_the_house_is_shown_with_all_of_its_files() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    rows = "".join(line for line in page.splitlines() if line.startswith("| `"))
    shown = {Path(name).name for name in re.findall(r"`([\w/]+\.py)`", rows)}

    folders = (CORE, CORE / "backends")
    files = {path.name for folder in folders for path in folder.glob("[!_]*.py")}

    assert shown == files
