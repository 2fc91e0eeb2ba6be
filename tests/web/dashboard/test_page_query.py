"""The query of the dashboard's address."""

import re
from html import unescape

import pytest

from alligator import Gator
from alligator.web.dashboard import page_query
from alligator.web.endpoint import Endpoint
from tests.harness.dashboard import (
    BEARER,
    bury,
    header,
    post,
    show,
    text_of,
)


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=1e9",
        "limit=" + "9" * 5000,
        "limit=%00",
        "limit=\u00b2",
        "live=%ff",
        "\udc80=\udc80",
        "queue=<b>&task=<b>&done=<b>",
        "&".join(f"f{number}=<b>" for number in range(100)),
    ],
)
def test_query_that_is_invalid_is_ignored_and_not_repeated(endpoint: Endpoint, query: str) -> None:
    html = show(endpoint, query)

    assert "<b>" not in html
    assert "&lt;b&gt;" not in html


def test_query_limit_has_a_bound(
    endpoint: Endpoint, gator: Gator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_query, "MAX_LISTED", 3)
    bury(gator, *"abcde")

    assert text_of(show(endpoint, "limit=99999")).count("no luck") == 3


def test_query_is_kept_after_an_action(endpoint: Endpoint, gator: Gator) -> None:
    bury(gator, "a", "b", queue="mail & co")
    query = "queue=mail+%26+co&limit=200&task=deadbeef&of=all"
    html = show(endpoint, query)
    (action,) = set(re.findall(r'action="(.*?)"', html))

    response = post(endpoint, BEARER, query, do="drop", queue="mail+%26+co", task="a")

    assert unescape(action) == "actions?queue=mail+%26+co&limit=200"
    assert header(response, "Location") == "./?queue=mail+%26+co&limit=200&done=drop#dead"
