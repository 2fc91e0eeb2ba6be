"""What the usual test run does not do: other Pythons, the oldest libraries, empty environments.

``nox`` runs all of it, ``nox -s lowest`` one session, ``nox -l`` lists them. A Python that is not
installed is skipped.
"""

import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.11", "3.12", "3.13"]

#: The oldest versions that pyproject.toml allows, and of what they stand on or are tested with.
LOWEST = [
    "click==8.1.3",
    "rich==13.0.0",
    "flask==3.0.0",
    "werkzeug==3.0.0",
    "starlette==0.40.0",
    "fastapi==0.121.0",
    "redis==5.1.0",
    "hiredis==3.0.0",
    "boto3==1.35.0",
    "httpx==0.27.0",
]
#: Tests of the libraries whose versions are at stake.
OF_LIBRARIES = [
    "tests/test_cli.py",
    "tests/backends/test_contract.py",
    "tests/backends/test_redis.py",
    "tests/backends/test_sqs.py",
    "tests/integrations",
]

#: For each extra, a program that needs it and nothing more.
EXTRAS = {
    "": "import alligator.cli, asgi_alligator, wsgi_alligator; alligator.Gator('sqlite://queue.db').len()",
    "redis": "import alligator; alligator.Gator('redis://localhost:1/0')",
    "sqs": "import alligator; alligator.Gator('sqs://eu-west-1/')",
    "flask": "import flask, flask_alligator; app = flask.Flask('shop'); "
    "app.config['ALLIGATOR_CONN'] = 'locmem://'; flask_alligator.Alligator(app); "
    "assert app.test_client().get('/alligator/health/live').status_code == 200",
    "dashboard": "import alligator; from alligator.endpoint import Endpoint; "
    "from alligator.dashboard import page",
    "metrics": "import alligator; from alligator.metrics import Metrics",
    "otel": "import alligator, opentelemetry.trace, alligator.spans",
    "starlette": "import alligator, starlette_alligator as s; "
    "s.AlligatorMiddleware(s.AlligatorEndpoint(alligator.Gator('locmem://')), alligator.Gator('locmem://'))",
}


def wheel(session: nox.Session) -> Path:
    """Build the wheel of what is checked out, with the hatchling that stands beside nox."""
    folder = session.create_tmp()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    session.run(*command, silent=True, external=True)
    (built,) = Path(folder).glob("*.whl")
    return built


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run every test with the newest libraries."""
    session.install("-e", ".[test]", "hatchling>=1.26")  # some build the wheel
    session.run("python", "-m", "pytest", "-n", "auto", "--dist", "loadfile", *session.posargs)


@nox.session(python=PYTHONS)
def lowest(session: nox.Session) -> None:
    """Run the tests of each library at the oldest version that is allowed."""
    session.install("-e", ".[test]", *LOWEST)
    # What the old ones warn of on a newer Python has been mended in the newer ones.
    session.run("python", "-m", "pytest", "-W", "default", *(session.posargs or OF_LIBRARIES))


@nox.session(python=PYTHONS)
@nox.parametrize("extra", list(EXTRAS))
def extras(session: nox.Session, extra: str) -> None:
    """Install the wheel with one extra into an empty environment, and use it."""
    built = wheel(session)
    session.install(f"{built}[{extra}]" if extra else str(built))
    session.cd(session.create_tmp())
    session.run("python", "-W", "error", "-c", EXTRAS[extra])
    session.run("latergator", "--help", silent=True)
    session.run("python", "-m", "pip", "check")


@nox.session
def frameworks(session: nox.Session) -> None:
    """Run the examples of the frameworks that have no adapter of their own."""
    session.install("-e", ".[test]", "pyramid", "bottle", "falcon", "quart", "litestar")
    session.run("python", "-m", "pytest", "tests/integrations/test_frameworks.py")


@nox.session
def tutorial(session: nox.Session) -> None:
    """Follow the tutorial in each of its tabs."""
    session.install("-e", ".[test]", "hatchling>=1.26")
    session.run("python", "-m", "pytest", "tests/test_tutorial.py", "-m", "")
