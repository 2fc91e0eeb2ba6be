"""The benchmarks can be run, and their table has its form; how fast anything is, no test says."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.benchmarks import environments, registry, table
from tests.benchmarks.__main__ import main
from tests.benchmarks.bench import TINY, Bench
from tests.benchmarks.figures import EXPERIMENTS, Figure, Goal
from tests.benchmarks.running import measure

CHEAP = ("task", "push-one", "push-ten", "drain", "sqlite-push", "postgres-push-ten")
NUMBERS = ["2", "6", "6b", "7", "7b", "8", "11a", "14", "16b"]

assert registry


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """What comes of the cheapest figures at the smallest size."""
    with Bench(TINY) as bench:
        *_, results = measure(bench, [EXPERIMENTS[name] for name in CHEAP], 2, 0, lambda _: None)
        return results


def test_cheapest_figures_are_measured(results: dict[str, Any]) -> None:
    found = table.rows(results)

    assert [row.figure.number for row in found] == NUMBERS
    assert all(row.ours is not None and row.ours.middle > 0 for row in found)
    assert all(row.raw is not None and row.ratio is not None for row in found)
    assert not any(each["failures"] for each in results["experiments"].values())


@pytest.mark.parametrize("name", ["limited", "features", "sqlite-limited", "postgres-features"])
def test_optional_features_are_measured(name: str) -> None:
    with Bench(TINY) as bench:
        (results,) = measure(bench, [EXPERIMENTS[name]], 1, 0, lambda _: None)

    found = table.rows(results)

    assert [row.figure for row in found] == [*EXPERIMENTS[name].figures]
    assert all(row.ratio is not None and row.ratio.middle > 0 for row in found)
    assert results["experiments"][name]["failures"] == {}


def test_table_has_a_line_for_each_figure(results: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")

    table.write(page, table.markdown(results))

    before, begin, *lines, end, after = page.read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert (before, begin, end, after) == ("before", table.BEGIN, table.END, "after")
    assert rows[0] == f"| {' | '.join(table.HEADINGS)} |"
    assert len(rows) == 2 + len(NUMBERS)
    assert {row.count("|") for row in rows} == {len(table.HEADINGS) + 1}


def test_results_can_be_kept_and_compared(results: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))

    done = CliRunner().invoke(main, ["--compare", str(path), str(path)])

    assert done.exit_code == 0, done.output
    assert done.output.count("+0 %") == len(NUMBERS)
    assert "worse" not in done.output


def test_every_goal_of_the_table_is_measured() -> None:
    numbers = {number for each in EXPERIMENTS.values() for number in each.numbers}

    assert numbers == {str(number) for number in range(1, 18)}


def test_ratio_is_taken_within_each_round() -> None:
    figure = Figure(
        number="6",
        title="push",
        metric="rate",
        unit="tasks/s",
        goals=[Goal(at_least=0.9, to="raw"), Goal(at_least=3, to="best peer")],
    )
    rounds = [
        {"alligator": {"rate": 10.0}, "raw": {"rate": 10.0}, "huey": {"rate": 5.0}},
        {"alligator": {"rate": 30.0}, "raw": {"rate": 30.0}, "huey": {"rate": 15.0}},
    ]

    row = table.read(figure, rounds)

    assert row.ratio == (1.0, 1.0, 1.0)
    assert row.peer == "huey"
    assert [met for _, met in row.verdicts] == [True, False]


def test_peer_may_need_a_newer_python_than_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(environments, "NEEDS", {"oban": (3, 97)})
    monkeypatch.setattr(environments, "NEWEST", (3, 99))
    (tmp_path / "python3.98").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3.98").chmod(0o755)

    assert environments.interpreter("huey") == sys.executable
    assert environments.interpreter("oban") is None

    (tmp_path / "python3.99").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "python3.99").chmod(0o755)
    assert environments.interpreter("oban") == str(tmp_path / "python3.99")
