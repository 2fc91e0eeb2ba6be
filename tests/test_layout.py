"""The layout: which package may import which, and what every package and module has."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "alligator"
INTEGRATIONS = sorted(path for path in (ROOT / "integrations").iterdir() if path.is_dir())
PACKAGES = [CORE, *INTEGRATIONS]
NAMES = {package.name for package in PACKAGES}

#: Every module of the core, from the bottom to the top. A unit (a top-level module, or a package with
#: its modules) imports itself and units of lower layers, nothing else.
LAYERS: list[dict[str, str]] = [
    {
        "constants": "",
        "exceptions": "",
    },
    {
        "_runtime": (
            "backoff cancellation coroutines environment event_loops exits failures flags "
            "forks home_loop ids interrupts locks "
            "log overrides predicates remote_errors signatures streams threads timeouts"
        ),
    },
    {
        "options": "",
    },
    {
        "payload": (
            "arguments batch conversion encoding envelope equality functions hints signing"
        ),
    },
    {
        "backends": (
            "base canceling controls follow_ups legacy limits locmem_backend locmem_backend.batches "
            "locmem_backend.dead_tasks locmem_backend.entry locmem_backend.keys "
            "locmem_backend.limits locmem_backend.listing locmem_backend.queue "
            "locmem_backend.replaced locmem_backend.samples locmem_backend.schedules "
            "locmem_backend.waiting "
            "pending_aborts postgres_backend postgres_backend.checks postgres_backend.codec "
            "postgres_backend.commits postgres_backend.dsn postgres_backend.errors "
            "postgres_backend.event_loop postgres_backend.marks postgres_backend.outcomes "
            "postgres_backend.schema postgres_backend.sessions "
            "postgres_backend.shared_database postgres_backend.statements "
            "postgres_backend.waiting postgres_backend.wire records redaction redis_backend "
            "redis_backend.blocking redis_backend.checks redis_backend.commits "
            "redis_backend.connection redis_backend.dsn redis_backend.error_messages "
            "redis_backend.event_loop redis_backend.limits redis_backend.outcomes "
            "redis_backend.protocol redis_backend.replies redis_backend.schedules redis_backend.server "
            "redis_backend.topology schedules shared_database sqlite_backend "
            "sqlite_backend.batches sqlite_backend.clock sqlite_backend.database "
            "sqlite_backend.dsn sqlite_backend.errors sqlite_backend.files "
            "sqlite_backend.forks sqlite_backend.key_limits sqlite_backend.keys "
            "sqlite_backend.limits sqlite_backend.lines "
            "sqlite_backend.measures sqlite_backend.migration sqlite_backend.replaced "
            "sqlite_backend.schedules sqlite_backend.schema sqlite_backend.tables "
            "sqlite_backend.wakeup sqlite_backend.writes sqs_backend sqs_backend.checks "
            "sqs_backend.commits sqs_backend.connection sqs_backend.credentials "
            "sqs_backend.dead_letters sqs_backend.dsn sqs_backend.envelope "
            "sqs_backend.errors sqs_backend.outcomes sqs_backend.prefetched "
            "sqs_backend.queue_stats sqs_backend.receiver sqs_backend.reservation "
            "sqs_backend.unbatching stats unique"
        ),
    },
    {
        "tasks": "decisions stored_options",
        "utils": "",
    },
    {
        "commits": (
            "breaker committer counters databases deferred interception "
            "outbox relay same_server spool trips wakeups"
        ),
        "execution": "attempt coroutines heartbeat inline lease_ends lifespan",
    },
    {
        "transaction": "connection enlistment scope",
    },
    {
        "telemetry": "histogram logs opentelemetry propagation",
    },
    {
        "schedules": "moments schedule ticker",
    },
    {
        "gator": "",
    },
    {
        "workers": (
            "announcements backlog cancellations coroutines demand dispatcher event_loop failure_log "
            "idle_barrier isolation isolation.child isolation.client isolation.forkserver "
            "isolation.messages isolation.parent isolation.process liveness loop loop_watch "
            "old_tasks outcome_log places prefork reservations shared_health supervisor task_limit "
            "threads timetable timings"
        ),
        "testing": "",
    },
    {
        "monitoring": (
            "commit_checks custom_probe entries health metrics probe queue_checks "
            "schedule_checks schedule_states stats store_probe stores worker_checks"
        ),
        "": "",
    },
    {
        "web": (
            "dashboard dashboard.actions dashboard.chart dashboard.formats dashboard.login "
            "dashboard.page dashboard.page_query dashboard.view endpoint http idempotency middleware "
            "same_origin"
        ),
    },
    {
        "cli": (
            "canceling check dead errors latergator letters limiting outbox pausing processes program "
            "progress schedules selection show source suggest tables worker"
        ),
    },
    {
        "__main__": "",
        "__pyinstaller": "",
    },
]

#: The tests of the modules that have no test file of their own, at their own path.
TESTED_BY = {
    "__main__": "cli/test_latergator.py",
    "backends.shared_database": "backends/postgres_backend/test_shared_database.py",
    "constants": "test_layout.py",
    "backends.follow_ups": "backends/contract/test_follow_ups.py",
    "backends.locmem_backend.batches": "backends/contract/test_follow_ups.py",
    "backends.locmem_backend.dead_tasks": "backends/contract/test_dead_letters.py",
    "backends.locmem_backend.listing": "backends/contract/test_inspection.py",
    "backends.locmem_backend.replaced": "backends/contract/test_unique.py",
    "backends.locmem_backend.samples": "backends/contract/test_inspection.py",
    "backends.sqlite_backend.replaced": "backends/contract/test_unique.py",
    "backends.schedules": "backends/contract/test_schedules.py",
    "backends.canceling": "backends/contract/test_canceling.py",
    "backends.limits": "backends/contract/test_limits.py",
    "backends.locmem_backend.limits": "backends/contract/test_limits.py",
    "backends.locmem_backend.waiting": "backends/contract/test_limit_keys.py",
    "backends.sqlite_backend.key_limits": "backends/contract/test_limit_keys.py",
    "backends.sqlite_backend.limits": "backends/contract/test_limits.py",
    "backends.sqlite_backend.measures": "backends/sqlite_backend/test_writes.py",
    "backends.locmem_backend.schedules": "backends/contract/test_schedules.py",
    "backends.redis_backend.limits": "backends/contract/test_limits.py",
    "backends.redis_backend.schedules": "backends/contract/test_schedules.py",
    "backends.sqlite_backend.schedules": "backends/contract/test_schedules.py",
}

MAX_LINES = 400
MAX_TEST_LINES = 800
MAX_NESTING = 4  # blocks in blocks
MAX_TEST_NAME = 70  # characters, "test_" included

#: Words that the name of a test does not begin with: it begins with what is tested.
NO_SUBJECT = {
    *("a", "an", "the", "it", "its", "they", "their", "there", "this", "that", "these", "those"),
    *("he", "she", "who", "whoever", "whose", "what", "whatever", "nobody", "nothing"),
    *("at", "by", "for", "from", "in", "of", "on", "over", "to", "under", "with", "without"),
    *("and", "as", "but", "if", "so", "when", "while"),
}

#: What may stand at the top of the package; all else belongs in a package.
TOP = {
    *("gator", "tasks", "options", "transaction", "testing"),  # the nouns of the tutorial
    *("constants", "exceptions", "utils"),  # paths of Alligator 1.0
    *("", "__main__", "__pyinstaller"),
}

#: What a module or package may import besides the standard library; the longest path decides.
FOREIGN = {
    "_runtime/signatures.py": {"annotationlib"},  # of the standard library, from Python 3.14 on
    "payload": {"annotationlib", "msgspec"},
    "schedules/moments.py": {"cronsim"},
    "backends/redis_backend": {"redis"},
    "backends/postgres_backend": {"psycopg"},
    "backends/sqs_backend": {"boto3", "botocore"},
    "telemetry/opentelemetry.py": {"opentelemetry"},
    "monitoring/metrics.py": {"prometheus_client"},
    "web/dashboard": {"jinja2"},
    "workers/event_loop.py": {"uvloop"},
    "cli": {"click", "rich"},
    "__pyinstaller": {"PyInstaller"},
}

#: The only imports between integrations: a framework is built on a protocol.
PROTOCOLS = {
    "django_alligator": {"wsgi_alligator"},
    "flask_alligator": {"wsgi_alligator"},
    "starlette_alligator": {"asgi_alligator"},
}

#: The framework that an integration is for; all else is the standard library.
FRAMEWORKS = {
    "django_alligator": {"django", "asgiref", "click"},  # Django brings the second
    "flask_alligator": {"flask", "click", "werkzeug"},  # Flask brings the other two
    "starlette_alligator": {"starlette"},
    "pytest_alligator": {"pytest", "_pytest"},
    "sqlalchemy_alligator": {"sqlalchemy"},
}


def modules(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def every_module() -> list[Path]:
    return [path for package in PACKAGES for path in modules(package)]


def ident(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def parse(path: Path) -> ast.Module:
    for _ in range(5):
        # CPython 3.11 (gh-106905): threads that parse at the same time disturb each other, and to
        # format a traceback is to parse. A thread that an earlier test has left may log one.
        with suppress(SystemError):
            return ast.parse(path.read_text(), str(path))
    raise RuntimeError(f"{path} could not be parsed")


def name_of(path: Path) -> str:
    """Return the name of a module of the core, without ``alligator.``; empty for its root."""
    parts = path.relative_to(CORE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield ``(module, name)`` for all that is imported; *name* is empty for ``import module``."""
    for node in ast.walk(parse(path)):
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
    """Find the package that *path* is in, or the folder of the tests."""
    return next(folder for folder in (*PACKAGES, ROOT / "tests") if folder in path.parents)


def tops(path: Path) -> set[str]:
    """Name the top-level packages that *path* imports, except those of the standard library."""
    return {module.partition(".")[0] for module, _ in imports(path)} - sys.stdlib_module_names


def core_imports(path: Path) -> set[str]:
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
    return found


@cache
def graph() -> dict[str, frozenset[str]]:
    """Return the imports between the modules of the core."""
    paths = [path for path in modules(CORE) if path.stem.isidentifier()]
    return {name_of(path): frozenset(core_imports(path) - {name_of(path)}) for path in paths}


def unit_of(module: str) -> str:
    return module.partition(".")[0]


def layers() -> dict[str, int]:
    """Return the layer of each module that `LAYERS` names."""
    return {
        ".".join(filter(None, [unit, name])): number
        for number, layer in enumerate(LAYERS)
        for unit, names in layer.items()
        for name in ("", *names.split())
    }


def has_names(init: Path) -> bool:
    """Return whether the module of a package has public names, or is that of the root."""
    return not all(isinstance(node, ast.Expr) for node in parse(init).body)


def listed_names(init: Path) -> dict[str, list[str]]:
    """Return the names that the docstring of a package lists, by module."""
    text = re.sub(r"\n  +", " ", ast.get_docstring(parse(init)) or "")
    _, _, text = text.partition("Its public names, by module:")
    text, _, rest = text.partition("Used only in this package:")
    lines = re.findall(r"- (\w+): (.+)", text)
    alone = re.findall(r"\w+", rest)
    return {module: names.split(", ") for module, names in lines} | {name: [] for name in alone}


def used_elsewhere(package: Path) -> Iterator[tuple[str, str]]:
    """Yield ``(module, name)`` of the classes and functions that other packages import."""
    dotted = f"alligator.{name_of(package)}"
    outside = [path for path in every_module() if package not in path.parents]
    for module, name in chain.from_iterable(map(imports, outside)):
        found, _, leaf = module.rpartition(".")
        if found == dotted and not name.isupper():
            yield leaf, name


# Imports inside the core.


def test_layers_name_every_module() -> None:
    assert sorted(layers()) == sorted(graph())


def test_top_level_holds_only_nouns_1_0_paths_and_packages() -> None:
    packages = {path.parent.name for path in CORE.glob("*/__init__.py")}

    assert {unit_of(module) for module in graph()} - packages <= TOP


def test_imports_point_to_lower_layers() -> None:
    layer = layers()

    upward = [
        f"{module} -> {other}"
        for module, others in graph().items()
        for other in others
        if unit_of(other) != unit_of(module) and layer[other] >= layer[module]
    ]

    assert upward == []


def test_core_has_no_import_cycles() -> None:
    TopologicalSorter(graph()).prepare()  # raises CycleError, which names them


def test_contract_of_a_store_is_imported_from_one_module() -> None:
    contract = set(import_module("alligator.backends.base").__all__)
    parts = {
        "alligator.backends.canceling",
        "alligator.backends.limits",
        "alligator.backends.records",
        "alligator.backends.redaction",
        "alligator.backends.schedules",
        "alligator.backends.stats",
    }
    names = ("base.py", "canceling.py", "schedules.py", "stats.py")
    own = {CORE / "backends" / name for name in names}
    paths = [path for folder in (*PACKAGES, ROOT / "tests") for path in modules(folder)]

    elsewhere = [
        f"{ident(path)}: {module}.{name}"
        for path in paths
        if path not in own
        for module, name in imports(path)
        if module in parts and name in contract
    ]

    assert elsewhere == []


def test_stores_do_not_import_each_other() -> None:
    for module, others in graph().items():
        store = re.match(r"backends\.\w+_backend", module)
        if store:
            theirs = {other for other in others if re.match(r"backends\.\w+_backend", other)}
            assert all(other.startswith(store[0]) for other in theirs), module


def allowed_in(path: Path) -> set[str]:
    """Return the top-level packages besides the core that a module of the core may import."""
    name = path.relative_to(CORE).as_posix()
    places = [place for place in FOREIGN if name == place or name.startswith(f"{place}/")]
    return FOREIGN.get(max(places, key=len, default=""), set())


def test_core_imports_third_party_only_where_allowed() -> None:
    foreign = {ident(path): tops(path) - {"alligator"} - allowed_in(path) for path in modules(CORE)}

    assert {name: found for name, found in foreign.items() if found} == {}


#: `alligator.__pyinstaller` names a folder to PyInstaller, and the other shortens tracebacks.
USES_PATHS = {"__pyinstaller/__init__.py", "workers/isolation/process.py"}


def test_package_data_is_read_as_resources() -> None:
    """A program may be a zip archive, where a module's ``__file__`` names no file."""
    found = {
        path.relative_to(CORE).as_posix()
        for path in modules(CORE)
        if any(isinstance(n, ast.Name) and n.id == "__file__" for n in ast.walk(parse(path)))
    }

    assert found == USES_PATHS


# Imports of the integrations.


@pytest.mark.parametrize("package", INTEGRATIONS, ids=lambda package: package.name)
def test_integration_imports_core_and_own_framework_only(package: Path) -> None:
    allowed = {"alligator", package.name}
    allowed |= FRAMEWORKS.get(package.name, set()) | PROTOCOLS.get(package.name, set())

    for path in modules(package):
        assert tops(path) <= allowed, ident(path)


@pytest.mark.parametrize("package", INTEGRATIONS, ids=lambda package: package.name)
def test_integration_has_no_import_cycles(package: Path) -> None:
    names = {f"{package.name}.{path.stem}": path for path in modules(package)}

    TopologicalSorter(
        {
            name: {module for module, _ in imports(path) if module in names and module != name}
            for name, path in names.items()
        }
    ).prepare()


@pytest.mark.parametrize("package", INTEGRATIONS, ids=lambda package: package.name)
def test_integration_uses_public_names_only(package: Path) -> None:
    for path in modules(package):
        for module, name in imports(path):
            if module.partition(".")[0] in NAMES - {package.name}:
                # _runtime is private to this distribution, which the integrations are a part of.
                parts = [*module.replace("alligator._runtime", "alligator").split("."), name]
                private = [part for part in parts if part.startswith("_")]
                assert private == [], f"{ident(path)}: {module}.{name}"
                if name:
                    found = import_module(module)
                    assert hasattr(found, name) or import_module(f"{module}.{name}")


def test_integrations_are_imported_by_their_own_names() -> None:
    for path in [*every_module(), *modules(ROOT / "tests"), *modules(ROOT / "examples")]:
        found = {node for node in ast.walk(parse(path)) if isinstance(node, ast.Import)}
        froms = [node for node in ast.walk(parse(path)) if isinstance(node, ast.ImportFrom)]
        names = [alias.name for node in found for alias in node.names]
        names += [node.module or "" for node in froms if not node.level]
        assert not any(name.partition(".")[0] == "integrations" for name in names), ident(path)


# What an import loads.

#: The only library that the core needs, and what it loads if it is installed.
MSGSPEC = {"msgspec", "typing_extensions"}


def loaded(statement: str) -> set[str]:
    """Name the modules that a fresh interpreter has loaded after *statement*."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={
            "PYTHONPATH": f"{ROOT}:{ROOT / 'integrations'}:{Path(msgspec.__file__).parent.parent}"
        },
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def loaded_tops(statement: str) -> set[str]:
    return {name.partition(".")[0] for name in loaded(statement)}


@pytest.mark.parametrize(
    "statement",
    [
        "import alligator",
        "import alligator.testing",
        "import alligator; alligator.Gator('locmem://').task(print)",
        "import alligator; alligator.Gator('sqlite://x.db')",
    ],
)
def test_alligator_loads_nothing_foreign_and_no_event_loop(statement: str) -> None:
    ours = loaded_tops(statement) - loaded_tops("pass")

    assert ours - sys.stdlib_module_names - MSGSPEC == {"alligator"}
    assert not ours & {"asyncio", "ctypes", "sqlite3"} - loaded_by_sqlite(statement)


def loaded_by_sqlite(statement: str) -> set[str]:
    return {"sqlite3", "ctypes"} if "sqlite://" in statement else set()


def test_import_alligator_loads_no_store_and_nothing_optional() -> None:
    ours = {name for name in loaded("import alligator") if name.startswith("alligator.")}

    optional = (
        r"alligator\.(backends\.\w+_backend|commits\.spool|workers\.isolation\.\w+"
        r"|workers\.prefork|telemetry\.opentelemetry|monitoring|web|cli|testing)\b"
    )
    assert [name for name in ours if re.match(optional, name)] == []


@pytest.mark.parametrize("name", ["wsgi_alligator", "asgi_alligator"])
def test_protocol_adapter_loads_nothing_foreign(name: str) -> None:
    ours = loaded_tops(f"import {name}") - loaded_tops("pass")

    assert ours - sys.stdlib_module_names - MSGSPEC == {"alligator", name}


# What every package and module has.


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_package_is_typed_and_shipped(package: Path) -> None:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shipped = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

    assert (package / "py.typed").exists()
    assert (package / "__init__.py").exists()
    assert package.relative_to(ROOT).as_posix() in shipped
    assert not (ROOT / "integrations" / "__init__.py").exists()


def test_wheel_ships_only_packages_that_exist() -> None:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shipped = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

    assert sorted(shipped) == sorted(package.relative_to(ROOT).as_posix() for package in PACKAGES)


def test_folders_of_the_core_are_packages() -> None:
    folders = {path.parent for path in modules(CORE)}

    assert [ident(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def opens_with_a_sentence(path: Path) -> bool:
    docstring = ast.get_docstring(parse(path)) or ""
    first = docstring.split("\n")[0]
    return first.endswith((".", "?")) or docstring.split("\n\n")[0].endswith((".", ":"))


def test_file_opens_with_one_sentence() -> None:
    assert [ident(path) for path in every_module() if not opens_with_a_sentence(path)] == []


BARE = [path for path in modules(CORE) if path.stem == "__init__" and not has_names(path)]


@pytest.mark.parametrize("init", BARE, ids=ident)
def test_init_without_names_lists_those_of_its_modules(init: Path) -> None:
    listed = listed_names(init)
    here = {path.stem for path in init.parent.glob("*.py")} - {"__init__"}
    here |= {path.parent.name for path in init.parent.glob("*/__init__.py")}

    assert set(listed) == here
    assert {
        f"{module}.{name}"
        for module, names in listed.items()
        for name in names
        if not hasattr(import_module(f"alligator.{name_of(init)}.{module}"), name)
    } == set()
    assert {
        f"{module}.{name}"
        for module, name in used_elsewhere(init.parent)
        if name not in listed[module]
    } == set()


def test_public_classes_and_functions_have_docstrings() -> None:
    bare = [
        f"{ident(path)}: {node.name}"
        for path in every_module()
        for node in parse(path).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]

    assert bare == []


@pytest.mark.parametrize(
    ("folders", "most"),
    [(PACKAGES, MAX_LINES), ([ROOT / "tests"], MAX_TEST_LINES)],
    ids=["packages", "tests"],
)
def test_no_file_is_too_long_to_read(folders: list[Path], most: int) -> None:
    paths = [path for folder in folders for path in modules(folder)]
    lengths = {ident(path): len(path.read_text().splitlines()) for path in paths}

    assert {name: length for name, length in lengths.items() if length > most} == {}


def nesting(node: ast.AST) -> int:
    """Return how many blocks are inside each other in *node*; `elif` is no further level."""
    blocks = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.With, ast.AsyncWith, ast.Match)
    below = [
        nesting(child)
        - (isinstance(child, ast.If) and isinstance(node, ast.If) and node.orelse == [child])
        for child in ast.iter_child_nodes(node)
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    return max(below, default=0) + isinstance(node, blocks)


def test_no_function_is_nested_too_deeply_to_read() -> None:
    depths = {
        f"{ident(path)}: {node.name}": nesting(node)
        for path in every_module()
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert {name: depth for name, depth in depths.items() if depth > MAX_NESTING} == {}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_init_of_a_distributed_package_only_re_exports(package: Path) -> None:
    tree = parse(package / "__init__.py")

    for node in tree.body:
        is_import = isinstance(node, ast.ImportFrom | ast.Import)
        is_version = isinstance(node, ast.Assign | ast.FunctionDef) and "version" in (
            node.name if isinstance(node, ast.FunctionDef) else ast.unparse(node.targets[0])
        )
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        # A name that is imported when it is first used, and its type.
        is_lazy = (isinstance(node, ast.FunctionDef) and node.name == "__getattr__") or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        )
        assert is_import or is_version or is_docstring or is_all or is_lazy, ast.unparse(node)


# Tests and pages mirror the packages.


def own_test(module: str) -> str:
    """Return the path of a module's test file; a package's is named after the package."""
    unit = CORE.joinpath(*module.split("."))
    *folders, leaf = module.split(".")
    if unit.is_dir():
        folders.append(leaf)
    return "/".join([*folders, f"test_{leaf}.py"])


def has_code(path: Path) -> bool:
    plain = (ast.Import, ast.ImportFrom, ast.Expr)
    return not all(isinstance(node, plain) for node in parse(path).body)


def test_module_has_a_test_file_at_its_own_path() -> None:
    code = {name_of(path) for path in modules(CORE) if has_code(path)}
    code -= {module for module in code if unit_of(module) in ("", "__pyinstaller")}
    tests = {path.relative_to(ROOT / "tests").as_posix() for path in modules(ROOT / "tests")}

    assert {module for module in code if own_test(module) not in tests} == set(TESTED_BY)
    assert set(TESTED_BY.values()) <= tests


def test_folder_of_tests_is_no_package() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}

    assert not any((folder / "__init__.py").exists() for folder in folders)


def test_test_names_begin_with_the_subject_and_stay_short() -> None:
    names = {
        node.name: ident(path)
        for path in modules(ROOT / "tests")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }

    assert {n: f for n, f in names.items() if n.split("_")[1] in NO_SUBJECT} == {}
    assert {n: f for n, f in names.items() if len(n) >= MAX_TEST_NAME} == {}


def rows_of_map() -> list[list[str]]:
    """Return the units of each row of CONTRIBUTING's map, from the bottom to the top."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    return [re.findall(r"`(\w+(?:\.py|/))`", row) for row in rows]


def rows_of_diagram() -> list[list[str]]:
    """Return the units of each layer in the diagram of the architecture, from the bottom to the top."""
    drawing = (ROOT / "docs" / "diagrams" / "layers.svg").read_text()
    boxes = drawing.partition(">alligator</text>")[2].partition("</g>")[0]
    return [re.findall(r"\w+", row) for row in re.findall(r">([\w ·]+)</text>", boxes)][::-1]


def test_map_names_each_unit_of_the_core() -> None:
    units = {unit_of(module) for module in graph()} - {"", "__main__", "__pyinstaller"}
    paths = [f"{unit}/" if (CORE / unit).is_dir() else f"{unit}.py" for unit in units]

    assert sorted(chain(*rows_of_map())) == sorted(paths)
    assert sorted(chain(*rows_of_diagram())) == sorted(units)


@pytest.mark.parametrize("rows", [rows_of_map, rows_of_diagram])
def test_map_shows_imports_in_one_direction(rows: Callable[[], list[list[str]]]) -> None:
    height = {
        unit.rstrip("/").removesuffix(".py"): row
        for row, units in enumerate(rows())
        for unit in units
    }

    upward = {
        f"{unit_of(module)} -> {unit_of(other)}"
        for module, others in graph().items()
        for other in others
        if unit_of(module) != unit_of(other)
        and unit_of(other) in height
        and height.get(unit_of(module), len(height)) <= height[unit_of(other)]
    }
    assert upward == set()


# Public names.


def test_public_names_are_those_of_the_design() -> None:
    alligator = import_module("alligator")
    names = (
        "Gator Task Options Transaction Worker Lease current_task veto_errors AlligatorException "
        "READY SCHEDULED LEASED DEAD WAITING SUCCESS FAILED DELAYED RETRYING CANCELED DEFERRED "
        "Snooze GiveUp "
        "version __version__"
    )

    assert [name for name in names.split() if not hasattr(alligator, name)] == []
    assert alligator.version() == alligator.__version__


@pytest.mark.parametrize(
    "name",
    [
        "alligator.gator:Gator",
        "alligator.tasks:Task",
        "alligator.workers:Worker",
        "alligator.constants:ALL",
        "alligator.exceptions:AlligatorException",
        "alligator.utils:import_attr",
        "alligator.backends.locmem_backend:Client",
        "alligator.backends.sqlite_backend:Client",
        "alligator.backends.redis_backend:Client",
    ],
)
def test_module_paths_of_1_0_still_work(name: str) -> None:
    module, _, attribute = name.partition(":")
    if "redis" in name:
        pytest.importorskip("redis")

    found = getattr(import_module(module), attribute)

    assert getattr(found, "__module__", module) == module
