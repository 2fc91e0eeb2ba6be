"""Make the package's page of the README: there, a link into the checkout would lead nowhere."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)(\[[^]]*\]\()(?!\w+:|#)")
"""What stands before the target of a link, or of an image, that is a path of the checkout."""


class Readme(MetadataHookInterface):
    """Make the links of the README point to the source repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the description of the package."""
        source = metadata["urls"]["Source"]

        def link(found: re.Match[str]) -> str:
            return f"{found[0]}{source}/{'raw' if found[1] else 'blob'}/main/"

        text = Path(self.root, "README.md").read_text("utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": LINK.sub(link, text)}
