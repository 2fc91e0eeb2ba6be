"""Upload pictures, show thumbnails."""

from io import BytesIO
from pathlib import Path
from string import Template
from uuid import uuid4

from PIL import Image, UnidentifiedImageError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from alligator import Gator
from starlette_alligator import AlligatorEndpoint, AlligatorMiddleware

from .tasks import DATA, make_thumbnail, picture_file, thumbnail_file

MAX_BYTES = 10_000_000
PAGE = Path(__file__).with_name("page.html")

gator = Gator.from_env()


async def upload(request: Request) -> Response:
    """Store a picture, and start a task that makes its thumbnail."""
    async with request.form(max_files=1) as form:
        sent = form.get("picture")
        if not isinstance(sent, UploadFile) or (sent.size or 0) > MAX_BYTES:
            raise HTTPException(413, "One picture of up to 10 MB, please.")
        content = await sent.read()
    name = uuid4().hex
    await run_in_threadpool(keep, name, content)
    # No await, and nothing to wait for: the task is held until the response is known to be good.
    gator.task(make_thumbnail, name)
    return RedirectResponse("/", status_code=303)


def keep(name: str, content: bytes) -> None:
    """Store a picture, if it is one."""
    try:
        Image.open(BytesIO(content)).close()  # reads its first bytes only
    except UnidentifiedImageError as error:
        raise HTTPException(415, "That is not a picture.") from error
    DATA.mkdir(parents=True, exist_ok=True)
    picture_file(name).write_bytes(content)


def index(request: Request) -> Response:
    """Show all pictures, the latest first, with their thumbnails if they are ready."""
    DATA.mkdir(parents=True, exist_ok=True)
    pictures = [path for path in DATA.iterdir() if len(path.name) == 32]
    pictures.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    items, again = [], ""
    for picture in pictures:
        if thumbnail_file(picture.name).exists():
            items.append(f'<li><img src="/thumbnails/{picture.name}" alt=""></li>')
        else:
            items.append("<li>in the works…</li>")
            again = '<meta http-equiv="refresh" content="1">'
    page = Template(PAGE.read_text("utf-8"))
    return HTMLResponse(page.substitute(items="\n".join(items), again=again))


def show(request: Request) -> Response:
    """Return a thumbnail."""
    return FileResponse(thumbnail_file(request.path_params["name"].hex))


app = Starlette(
    routes=[
        Route("/", index),
        Route("/pictures", upload, methods=["POST"]),
        Route("/thumbnails/{name:uuid}", show),
        Mount("/alligator", AlligatorEndpoint(gator)),
    ],
    middleware=[Middleware(AlligatorMiddleware, gator=gator, options={"retries": 2})],
)
