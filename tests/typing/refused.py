"""What an editor underlines: each line that says so is a mistake, and no other is one.

Type checkers read this file; it is never run. `tests/test_types.py` checks both of them on it.
"""

from datetime import datetime, timedelta

from alligator import Gator, GiveUp, Options, Snooze, Task, Transaction
from asgi_alligator import AlligatorMiddleware as ASGIMiddleware
from flask_alligator import Alligator, current
from starlette_alligator import AlligatorMiddleware as StarletteMiddleware
from wsgi_alligator import AlligatorEndpoint
from wsgi_alligator import AlligatorMiddleware as WSGIMiddleware


def send_receipt(order: int, *, again: bool = False) -> None: ...


async def resize(image: str) -> bytes:
    return image.encode()


gator = Gator("locmem://")
flask = Alligator()

# The function decides what the call takes.
task: Task = gator.task(send_receipt, 7)
gator.task(send_receipt, 7, again=True)
gator.task(resize, "cat.png")
gator.task(send_receipt, "seven")  # refused
gator.task(send_receipt)  # refused
gator.task(send_receipt, 7, 8)  # refused
gator.task(send_receipt, 7, gain=True)  # refused
gator.task(resize, 7)  # refused
gator.task("shop.send_receipt", 7)  # refused
flask.task(send_receipt, 7)
flask.task(send_receipt, "seven")  # refused

# Options have names and types.
with gator.options(retries=3, backoff=[10, 30], headers={"request_id": "a1"}) as opts:
    options: Options[Task] = opts
    opts.task(send_receipt, 7)
    opts.task(send_receipt, "seven")  # refused
gator.options(retries=3, retry_on=(OSError, "shop.errors.Busy"), give_up_on=KeyError)
gator.options(retry_on=OSError())  # refused
gator.options(give_up_on=[int])  # refused
snoozed: float = Snooze(timedelta(minutes=1)).seconds
Snooze("5")  # refused
GiveUp(7)  # refused
gator.options(expires=60)
gator.options(expires=datetime.now())
gator.options(expires="tomorrow")  # refused
gator.options(unique="invoice-7", unique_until="done", unique_for=timedelta(hours=1))
gator.options(unique="invoice-7", replace=True, delay_by=60)
gator.options(unique=7)  # refused
gator.options(unique="invoice-7", unique_until="later")  # refused
gator.options(on_start=lambda task: None, on_error=lambda task, error: None)
gator.options(on_start=lambda: None)  # refused
gator.options(on_success=lambda task: None)  # refused
gator.options(on_error=lambda task, error, more: None)  # refused
Task(on_error=lambda: None)  # refused
gator.options(priority="high")
gator.options(priority="urgent")  # refused
gator.options(retrys=3)  # refused
gator.options(retries="many")  # refused
gator.options(headers={"request_id": 7})  # refused
flask.options(retrys=3)  # refused
Gator("locmem://", defaults={"retries": 3})
Gator("locmem://", defaults={"retrys": 3})  # refused
Gator("locmem://", retries=3)  # refused
Gator()  # refused

# Schedules.
gator.cron("0 3 * * *", send_receipt, 7, timezone="Europe/Berlin", kwargs={"again": True})
gator.every(30, resize, "cat.png", retries=3, catch_up=60, name="cats")
gator.every(30, resize, "cat.png", expires=60, retry_on=OSError, give_up_on=(KeyError, "a.B"))
gator.cron("0 3 * * *", resize, "cat.png", expires=timedelta(minutes=1))
gator.cron("0 3 * * *", resize, "cat.png", expires=datetime.now())  # refused
gator.every(30, resize, "cat.png", retry_on=OSError())  # refused
gator.every(30, send_receipt, "seven")  # refused
gator.every(30, send_receipt)  # refused
gator.cron("0 3 * * *", resize, 7)  # refused
gator.every("30", send_receipt, 7)  # refused
gator.every(30, "shop.send_receipt", 7)  # refused
gator.every(30, send_receipt, 7, retrys=3)  # refused
gator.every(30, send_receipt, 7, timezone="UTC")  # refused
gator.cron("0 3 * * *", send_receipt, 7, delay_by=3)  # refused
name: str = gator.cron("0 3 * * *", send_receipt, 7).name

# Transactions.
with gator.transaction(retries=3) as tx:
    transaction: Transaction = tx
    follow_up: Task = tx.then(send_receipt, 7)
    tx.then(send_receipt, "seven")  # refused
    tx.on_commit(lambda: print("queued"))
    tx.on_commit(print("queued"))  # refused
gator.transaction(retrys=3)  # refused
bound: int = tx.bind(len)("word")
tx.bind(len)(7)  # refused
current.doom()
current.dom()  # refused
gator.current.doom()  # refused


# Adapters.
def options_of(request: object) -> dict[str, int]:
    return {"retries": 3}


def veto(status: int, headers: object) -> bool:
    return status >= 500


def shop(environ: object, start_response: object) -> list[bytes]:
    return []


WSGIMiddleware(shop, gator, options=options_of, commit_veto=veto, commit_at="end")
WSGIMiddleware(shop, gator, commit_at="late")  # refused
WSGIMiddleware(shop, gator, commit_veto=options_of)  # refused
WSGIMiddleware(shop, "redis://localhost")  # refused
WSGIMiddleware(shop, gator, veto=veto)  # refused
ASGIMiddleware(shop, gator)  # refused
StarletteMiddleware(shop, gator)  # refused
AlligatorEndpoint(gator, token=7)  # refused
