"""Checks beyond the usual test run: other Pythons, the oldest libraries, empty environments.

``nox`` runs all sessions, ``nox -s lowest`` runs one, ``nox -l`` lists them. A Python that is not
installed is skipped.
"""

import shutil
import sys
import tarfile
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.11", "3.12", "3.13"]

#: The oldest versions that pyproject.toml allows, and those of their dependencies and test libraries.
LOWEST = [
    "click==8.1.3",
    "rich==13.0.0",
    "django==5.2",
    "flask==3.0.0",
    "werkzeug==3.0.0",
    "starlette==0.40.0",
    "fastapi==0.121.0",
    "redis==5.1.0",
    "hiredis==3.0.0",
    "boto3==1.35.0",
    "psycopg[binary]==3.1.18",
    "httpx==0.27.0",
    "sqlalchemy==2.0.24; python_version < '3.13'",
]
#: The tests that use these libraries.
OF_LIBRARIES = [
    "tests/cli",
    "tests/backends/contract",
    "tests/backends/test_base.py",
    "tests/backends/redis_backend",
    "tests/backends/postgres_backend",
    "tests/backends/sqs_backend",
    "tests/integrations",
]

#: The versions of Django, with the Pythons that each supports of ours.
DJANGO = {"5.2": PYTHONS, "6.0": PYTHONS[1:], "6.1": PYTHONS[1:]}

#: For each extra, a program that needs only this extra.
EXTRAS = {
    "": "import alligator.cli, asgi_alligator, wsgi_alligator; alligator.Gator('sqlite://queue.db').len()",
    "redis": "import alligator; alligator.Gator('redis://localhost:1/0')",
    "sqs": "import alligator; alligator.Gator('sqs://eu-west-1/')",
    "postgres": "import alligator; alligator.Gator('postgresql://localhost:1/shop').client",
    "flask": "import flask, flask_alligator; app = flask.Flask('shop'); "
    "app.config['ALLIGATOR_CONN'] = 'locmem://'; flask_alligator.Alligator(app); "
    "assert app.test_client().get('/alligator/health/live').status_code == 200",
    "django": "from django.conf import settings; "
    "settings.configure(INSTALLED_APPS=['django_alligator'], "
    "MIDDLEWARE=['django_alligator.Middleware'], ALLIGATOR={'CONN': 'locmem://'}); import django; "
    "django.setup(); from django.core.management import call_command; call_command('check'); "
    "call_command('alligator', 'stats')",
    "dashboard": "import alligator; from alligator.web.endpoint import Endpoint; "
    "from alligator.web.dashboard import page",
    "metrics": "import alligator; from alligator.monitoring.metrics import Metrics",
    "otel": "import alligator, opentelemetry.trace, alligator.telemetry.opentelemetry",
    "starlette": "import alligator, starlette_alligator as s; "
    "s.AlligatorMiddleware(s.AlligatorEndpoint(alligator.Gator('locmem://')), alligator.Gator('locmem://'))",
}

#: Python 3.14 as WebAssembly, which has neither threads nor processes, and how pip gets its wheels.
PYODIDE = "314.0.7"
WHEELS = ["--python-version", "3.14", "--implementation", "cp", "--platform"]
WHEELS += ["pyemscripten_2026_0_wasm32", "--only-binary=:all:"]
OF_3_14 = [
    "tests/payload/test_annotations.py",
    "tests/_runtime/test_failures.py",
    "tests/_runtime/test_signatures.py",
    "tests/payload",
    "tests/test_gator.py",
    "tests/payload/test_signing.py",
    "tests/payload/test_functions.py",
    "tests/test_nesting.py",
    "tests/test_options.py",
    "tests/tasks/test_tasks.py",
    "tests/test_testing.py",
    "tests/test_transaction.py",
]


def wheel(session: nox.Session) -> Path:
    """Return the path of a wheel of the working tree, built by the hatchling of nox's environment."""
    folder = session.create_tmp()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    session.run(*command, silent=True, external=True)
    (built,) = Path(folder).glob("*.whl")
    return built


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests with the newest libraries."""
    session.install("-e", ".[test]", "hatchling>=1.26")  # some tests build the wheel
    session.run("python", "-m", "pytest", "-n", "auto", "--dist", "loadfile", *session.posargs)


@nox.session(python=PYTHONS)
def lowest(session: nox.Session) -> None:
    """Run the tests of each library with its oldest supported version."""
    session.install("-e", ".[test]", *LOWEST)
    # Old versions raise warnings on a newer Python.
    session.run("python", "-m", "pytest", "-W", "default", *(session.posargs or OF_LIBRARIES))


@nox.session
@nox.parametrize(
    ("python", "version"),
    [(python, version) for version, pythons in DJANGO.items() for python in pythons],
)
def django(session: nox.Session, version: str) -> None:
    """Run the tests of the web integrations with each version of Django."""
    session.install("-e", ".[test]", f"django=={version}.*")
    chosen = session.posargs or ["tests/integrations", "-k", "django"]
    session.run("python", "-m", "pytest", "-n", "auto", "--dist", "loadfile", *chosen)


@nox.session
@nox.parametrize(
    ("python", "version"),
    [(python, version) for version in ("6.0", "6.1") for python in DJANGO[version]],
)
def django_tasks(session: nox.Session, version: str) -> None:
    """Run Django's own tests of task backends with ours; they are in its source distribution."""
    session.install("-e", ".[django]", f"django=={version}.*")
    ask = ["python", "-c", "import django; print(django.__version__, end='')"]
    name = f"django-{session.run(*ask, silent=True)}"
    folder = session.create_tmp()
    source = ["--no-deps", "--no-binary", "django", "-d", folder, name.replace("-", "==")]
    session.run("python", "-m", "pip", "download", *source, silent=True)
    with tarfile.open(Path(folder) / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    program = "tests.integrations.django_alligator.conformance"
    session.run("python", "-m", program, str(Path(folder) / name / "tests"))


@nox.session(python=PYTHONS)
@nox.parametrize("extra", list(EXTRAS))
def extras(session: nox.Session, extra: str) -> None:
    """Install the wheel with one extra in an empty environment, and use it."""
    built = wheel(session)
    session.install(f"{built}[{extra}]" if extra else str(built))
    session.cd(session.create_tmp())
    session.run("python", "-W", "error", "-c", EXTRAS[extra])
    session.run("latergator", "--help", silent=True)
    session.run("python", "-m", "pip", "check")


@nox.session
def pyodide(session: nox.Session) -> None:
    """Run the tests without threads, processes or event loop on Python 3.14; needs node and npm."""
    if not (shutil.which("node") and shutil.which("npm")):
        session.skip("node or npm is missing")
    checkout, folder = Path.cwd(), Path(session.create_tmp()).absolute()
    npm = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder)]
    session.run(*npm, f"pyodide@{PYODIDE}", external=True, silent=True)
    libraries = [
        "anyio",
        "click",
        "msgspec",
        "rich",
        "hypothesis",
        "pytest",
        "pytest-timeout",
        "redis",
    ]
    libraries += ["attrs", "pydantic", "tzdata"]
    site = str(folder / "site")
    session.install("--upgrade", "--target", site, *WHEELS, *libraries)
    session.cd(folder)
    runner = str(checkout / "tests" / "pyodide.mjs")
    session.run("node", runner, str(checkout), site, *(session.posargs or OF_3_14), external=True)


@nox.session
def frameworks(session: nox.Session) -> None:
    """Run the examples of frameworks that have no integration of their own."""
    session.install("-e", ".[test]", "pyramid", "bottle", "falcon", "quart", "litestar")
    session.run("python", "-m", "pytest", "tests/integrations/test_frameworks.py")


@nox.session
def tutorial(session: nox.Session) -> None:
    """Follow the tutorial in each of its tabs."""
    session.install("-e", ".[test]", "hatchling>=1.26")
    session.run("python", "-m", "pytest", "tests/test_tutorial.py", "-m", "")
