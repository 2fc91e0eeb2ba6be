"""Take orders: what follows an order is queued exactly when the order stands."""

from sqlite3 import Connection, IntegrityError
from typing import Annotated
from uuid import uuid4

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from alligator import Gator
from alligator.options import TaskOptions
from starlette_alligator import AlligatorEndpoint, AlligatorMiddleware

from .database import DATA, database
from .tasks import refill_stock, send_receipt

gator = Gator.from_env()

# scope="function" has FastAPI commit the database before the response begins, which is when
# Alligator queues the tasks: they find their order. FastAPI's other scope commits after the response;
# for that, give the middleware commit_at="end", and a store that is away can only be logged.
Database = Annotated[Connection, Depends(database, scope="function")]


class Order(BaseModel):
    """What a customer sends."""

    item: str
    pieces: int = Field(gt=0)
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")


def options(request: Request) -> TaskOptions:
    """Give all tasks of a request its id, so that the log of a worker leads back to it."""
    request_id = request.headers.get("x-request-id") or uuid4().hex
    return {"retries": 3, "headers": {"request_id": request_id}}


app = FastAPI(title="Orders")
app.add_middleware(AlligatorMiddleware, gator=gator, options=options)
app.mount("/alligator", AlligatorEndpoint(gator))


@app.post("/orders", status_code=201)
def place(order: Order, db: Database) -> dict[str, int]:
    """Place an order. One that does not fit its model never comes here, and queues nothing."""
    order_id = db.execute(
        "INSERT INTO orders (item, pieces, email) VALUES (?, ?, ?)",
        [order.item, order.pieces, order.email],
    ).lastrowid
    assert order_id is not None
    gator.task(send_receipt, order_id)
    gator.task(refill_stock, order.item)
    try:
        sold = db.execute(
            "UPDATE stock SET pieces = pieces - ? WHERE item = ?", [order.pieces, order.item]
        ).rowcount
    except IntegrityError:
        raise HTTPException(409, "We have not that many.") from None
    if not sold:
        raise HTTPException(404, "We do not sell that.")
    return {"order": order_id}


@app.get("/letters")
def letters() -> PlainTextResponse:
    """Show what the worker has written."""
    path = DATA / "letters.txt"
    return PlainTextResponse(path.read_text() if path.exists() else "None yet.\n")
