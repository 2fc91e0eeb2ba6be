"""Make thumbnails: seconds of work, outside of the request."""

import os
from pathlib import Path

from PIL import Image

DATA = Path(os.environ.get("DATA", "data"))
"""The folder of pictures and thumbnails."""

SIZE = 240, 240


def make_thumbnail(name: str) -> None:
    """Make the thumbnail of the picture *name*."""
    thumbnail = thumbnail_file(name)
    unfinished = thumbnail.with_suffix(".part")
    with Image.open(picture_file(name)) as picture:
        picture.thumbnail(SIZE)
        picture.convert("RGB").save(unfinished, "JPEG")
    unfinished.replace(thumbnail)  # the page never sees half of one


def picture_file(name: str) -> Path:
    """Return the path of a picture."""
    return DATA / name


def thumbnail_file(name: str) -> Path:
    """Return the path of a picture's thumbnail."""
    return DATA / f"{name}.jpg"
