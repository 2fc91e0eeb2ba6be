"""Take orders: an order and its tasks are committed together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import uuid4

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from alligator import Gator
from alligator.options import TaskOptions
from sqlalchemy_alligator import enlist
from starlette_alligator import AlligatorEndpoint, AlligatorMiddleware

from .clients import clients
from .database import DATA, Order, Session, Stock, create_tables, database
from .tasks import refill_stock, send_receipt

gator = Gator.from_env(lifespan=clients)
enlist(gator, Session)

# scope="function" has FastAPI commit the database before the response begins. So a client that sees a
# success knows that its order and the tasks of its order are there.
Database = Annotated[AsyncSession, Depends(database, scope="function")]


class NewOrder(BaseModel):
    """The order that a customer sends."""

    item: str
    pieces: int = Field(gt=0)
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")


def options(request: Request) -> TaskOptions:
    """Give all tasks of a request its id, so that a worker's log names the request."""
    request_id = request.headers.get("x-request-id") or uuid4().hex
    return {"retries": 3, "headers": {"request_id": request_id}}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Share the clients that the worker's tasks share, and create the tables."""
    async with clients():
        await create_tables()
        yield


app = FastAPI(title="Orders", lifespan=lifespan)
app.add_middleware(AlligatorMiddleware, gator=gator, options=options)
app.mount("/alligator", AlligatorEndpoint(gator))


@app.post("/orders", status_code=201)
async def place(new: NewOrder, session: Database) -> dict[str, int]:
    """Place an order. An invalid one never gets here, and queues nothing."""
    order = Order(**new.model_dump())
    session.add(order)
    await session.flush()
    gator.task(send_receipt, order.id)
    gator.task(refill_stock, order.item)
    stock = await session.get(Stock, new.item, with_for_update=True)
    if stock is None:
        raise HTTPException(404, "We do not sell that.")
    stock.pieces -= new.pieces
    try:
        await session.flush()
    except IntegrityError:
        raise HTTPException(409, "We have not that many.") from None
    return {"order": order.id}


@app.get("/letters")
def letters() -> PlainTextResponse:
    """Show the mails that the worker has written."""
    path = DATA / "letters.txt"
    return PlainTextResponse(path.read_text() if path.exists() else "None yet.\n")
