"""The entries of a health document."""

from alligator import Gator
from alligator.monitoring.health import Health


def test_entries_have_the_format_of_the_draft(gator: Gator) -> None:
    document = Health(gator).verdict().document()

    assert document["status"] == "pass"
    for key, entries in document["checks"].items():
        for entry in entries:
            assert entry["status"] in ("pass", "warn", "fail"), key
            assert entry["time"].endswith("Z")
            assert "output" not in entry or entry["status"] != "pass"
