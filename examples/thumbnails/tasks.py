"""Make pictures small: seconds of work, and none of it in a request."""

import os
from pathlib import Path

from PIL import Image

DATA = Path(os.environ.get("DATA", "data"))
"""Where pictures and thumbnails are kept."""

SIZE = 240, 240


def make_thumbnail(name: str) -> None:
    """Make the thumbnail of the picture of that name."""
    thumbnail = thumbnail_file(name)
    unfinished = thumbnail.with_suffix(".part")
    with Image.open(picture_file(name)) as picture:
        picture.thumbnail(SIZE)
        picture.convert("RGB").save(unfinished, "JPEG")
    unfinished.replace(thumbnail)  # the page never sees half of one


def picture_file(name: str) -> Path:
    """Say where a picture is."""
    return DATA / name


def thumbnail_file(name: str) -> Path:
    """Say where the thumbnail of a picture is, or will be."""
    return DATA / f"{name}.jpg"
