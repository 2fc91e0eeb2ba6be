"""Sphinx configuration of this site: ``make docs``."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "integrations")]

import alligator  # noqa: E402 - needs the path set above

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

# The same anchors as on GitHub, so that the links of the pages work there as well.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
autodoc_use_legacy_class_based = False
autodoc_typehints_format = "short"
# A signature that is longer has one parameter a line, as a formatter would write it.
maximum_signature_line_length = 76
python_display_short_literal_types = True
# Docstrings write `Gator` for a name of this project.
default_role = "py:obj"
# Names of other projects, and private names in signatures, have no page to link to.
nitpick_ignore_regex = [
    ("py:.*", r"(?!alligator|(asgi|django|flask|pytest|sqlalchemy|starlette|wsgi)_alligator).*"),
    ("py:(class|obj|data)", r".*\.(App|P|R|T|Attempt|Delivers|Enqueues|OutgoingTask|Owner)"),
    ("py:(class|obj|data)", r".*\.(Ends|Reservations|WorkerThread)"),
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
    """Register the corrections of the source and of signatures."""
    app.connect("source-read", link_to_pages)
    app.connect("autodoc-process-docstring", keep_the_tree)
    app.connect("autodoc-process-signature", name_param_specs)


def link_to_pages(app: Sphinx, page: str, source: list[str]) -> None:
    """Turn links to files at the root into links to their pages."""
    up = "../" * page.count("/")
    source[0] = OUTSIDE.sub(lambda found: f"]({up}{found[1].lower()}.md", source[0])


def keep_the_tree(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Keep the tree of exceptions a literal block."""
    if name == "alligator.exceptions":
        lines[2:] = ["::", "", *(f"    {line}" for line in lines[2:])]


def name_param_specs(
    app: Sphinx, what: str, name: str, obj: object, options: object, args: str, returns: str
) -> tuple[str, str]:
    """Write `*args: P.args` as the code does; Sphinx cannot parse what it makes of a ParamSpec."""
    if args:
        for kind in ("args", "kwargs"):
            args = args.replace(f"*{kind}: ~typing.~P", f"*{kind}: P.{kind}")
        args = args.replace("[[~P],", "[P,")
    return args, returns
