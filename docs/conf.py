"""How Sphinx makes the site out of these pages: ``make docs``."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "integrations")]

import alligator  # noqa: E402 - found by way of the line above

project = "Alligator"
author = "the authors of Alligator"
version = release = alligator.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx_design",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

# The same anchors that GitHub makes of headings, so that the pages can be read there as well.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
autodoc_use_legacy_class_based = False
# Docstrings write `Gator` for a name of ours.
default_role = "py:obj"
# Names of others, and those that signatures mention but nobody calls: there is nothing to link to.
nitpick_ignore_regex = [
    ("py:.*", r"(?!alligator|(asgi|flask|pytest|starlette|wsgi)_alligator).*"),
    ("py:(class|obj|data)", r".*\.(App|P|R|T|Delivers|Enqueues)"),
]

copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = "Alligator"
html_static_path = ["_static"]
html_css_files = ["alligator.css"]
html_copy_source = False

OUTSIDE = re.compile(r"\]\((?:\.\./)+(CONTRIBUTING|CHANGELOG|SECURITY)\.md")


def setup(app: Sphinx) -> None:
    """Mend two things that Sphinx would take amiss."""
    app.connect("source-read", link_to_pages)
    app.connect("autodoc-process-docstring", keep_the_tree)


def link_to_pages(app: Sphinx, page: str, source: list[str]) -> None:
    """Let a link to a file at the root lead to its page."""
    up = "../" * page.count("/")
    source[0] = OUTSIDE.sub(lambda found: f"]({up}{found[1].lower()}.md", source[0])


def keep_the_tree(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Let the tree of exceptions be one, and not a paragraph."""
    if name == "alligator.exceptions":
        lines[2:] = ["::", "", *(f"    {line}" for line in lines[2:])]
