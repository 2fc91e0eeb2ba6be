"""Frameworks without an adapter of their own, as the documentation shows them."""

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from starlette.testclient import TestClient
from werkzeug.test import Client, TestResponse

from tests.harness.doc_examples import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "write-an-adapter.md"
ASGI = {"quart", "litestar"}
MOUNTED = {"pyramid", "bottle", "litestar"}
"""Those whose example has the endpoint."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the frameworks


@pytest.fixture(params=["pyramid", "bottle", "falcon", "quart", "litestar"])
def shop(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """The program of the page, imported from an empty folder."""
    framework: str = request.param
    pytest.importorskip(framework)
    written = [block for block in blocks(PAGE, "python") if block.file]
    for block in written:
        (tmp_path / block.file).write_text(block.code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ALLIGATOR_TOKEN", "")
    module = import_module(f"{framework}_shop")
    yield module
    module.gator.client.close()
    for block in written:
        sys.modules.pop(block.file.removesuffix(".py"), None)


@pytest.fixture
def status_of(shop: ModuleType) -> Callable[[str, str], int]:
    """Send a request, and return the status of its answer."""
    framework = shop.__name__.removesuffix("_shop")

    def send(method: str, path: str) -> int:
        if framework in ASGI:
            return int(TestClient(shop.application).request(method, path).status_code)
        answer: TestResponse = Client(shop.application).open(path, method=method)
        return int(answer.status_code)

    return send


def test_success_queues_its_task(shop: ModuleType, status_of: Callable[[str, str], int]) -> None:
    status = status_of("POST", "/orders/7")

    assert (status, shop.gator.len()) == (201, 1)


def test_failure_queues_nothing(shop: ModuleType, status_of: Callable[[str, str], int]) -> None:
    status = status_of("POST", "/orders/101")

    assert (status, shop.gator.len()) == (422, 0)


def test_endpoint_is_where_it_was_mounted(
    shop: ModuleType, status_of: Callable[[str, str], int]
) -> None:
    if shop.__name__.removesuffix("_shop") not in MOUNTED:
        pytest.skip("the page shows no endpoint for it")

    assert status_of("GET", "/alligator/health/live") == 200
    assert status_of("GET", "/alligator/stats") == 403
