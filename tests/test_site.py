"""The documentation as a site: it is complete, and built without a warning."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import alligator
from tests.harness.doc_examples import ROOT

pytest.importorskip("sphinx")

pytestmark = pytest.mark.timeout(300)


class Links(HTMLParser):
    """The links of a page, what it loads, and the places that it can be linked to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.loads: set[str] = set()
        self.places = {""}
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.places.add(value)
            elif name == "href" and value and tag == "a":
                self.targets.add(value)
            elif name in {"src", "href"} and value and tag != "a":
                self.loads.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make docs`` makes."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "-q", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(folder / "trees"), str(ROOT / "docs"), str(folder / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    """The pages of the site, and what each leads to."""
    return {page.resolve(): Links(page) for page in site.rglob("*.html")}


def test_every_internal_link_of_the_site_leads_somewhere(pages: dict[Path, Links]) -> None:
    broken = []
    for page, links in pages.items():
        for target in links.targets:
            url = urlsplit(target)
            if url.scheme or url.netloc:
                continue
            file = (page.parent / unquote(url.path)).resolve() if url.path else page
            known = pages.get(file)
            if not file.exists() or (known and unquote(url.fragment) not in known.places):
                broken.append(f"{page.name}: {target}")

    assert broken == []


def test_page_needs_no_network(pages: dict[Path, Links]) -> None:
    loaded = {url for links in pages.values() for url in links.loads}

    assert {url for url in loaded if urlsplit(url).netloc} == set()


def test_every_page_is_in_the_navigation(site: Path, pages: dict[Path, Links]) -> None:
    written = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}

    linked = pages[(site / "index.html").resolve()].targets
    assert {page.replace(".md", ".html") for page in written - {"index.md"}} <= linked


def test_every_public_name_is_in_the_reference(pages: dict[Path, Links]) -> None:
    places = set().union(*(links.places for links in pages.values()))

    names = [
        name
        for name, value in vars(alligator).items()
        if callable(value) and not name.startswith("_")
    ]
    assert {f"alligator.{name}" for name in names} - places <= {
        "alligator.AlligatorException",  # it is described as what it is defined as
        "alligator.Lease",
    }


DIAGRAMS = sorted(path.stem for path in (ROOT / "docs" / "diagrams").glob("*.svg"))


@pytest.mark.parametrize("name", DIAGRAMS)
def test_diagram_has_a_description(name: str) -> None:
    drawing = (ROOT / "docs" / "diagrams" / f"{name}.svg").read_text("utf-8")

    title = re.search(rf'<title id="{name}-title">(.+)</title>', drawing)
    assert title
    assert f'aria-labelledby="{name}-title"' in drawing
    assert not re.search(r'(?:fill|stroke)="#', drawing)  # colours are the theme's, light or dark


def test_chart_of_the_performance_page_shows_figures_of_its_table() -> None:
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    chart = (ROOT / "docs" / "diagrams" / "performance.svg").read_text("utf-8")
    opening, _, table = page.partition("<!-- the table of python -m tests.benchmarks -->")

    figures = re.compile(r"\b(?:Alligator|huey|saq|streaq|taskiq) ([\d,.]*\d)")
    shown = {*figures.findall(chart), *figures.findall(opening)}
    # A row of the summary has its two figures in cells.
    shown |= set(re.findall(r"^\| \w.* \| ([\d,.]+) \|", opening, re.M))

    assert len(shown) > 12
    assert {figure for figure in shown if not re.search(rf"\b{figure}\b", table)} == set()
