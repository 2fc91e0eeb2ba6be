"""What follows an order. The customer waits for none of it."""

from alligator import current_task

from .database import DATA, open_database


def send_receipt(order_id: int) -> None:
    """Write to the customer."""
    database = open_database()
    item, pieces, email = database.execute(
        "SELECT item, pieces, email FROM orders WHERE id = ?", [order_id]
    ).fetchone()
    database.close()
    _write(f"to {email}: thank you for order {order_id}, {pieces} {item}")


def refill_stock(item: str) -> None:
    """Ask the supplier for more when little is left."""
    database = open_database()
    (left,) = database.execute("SELECT pieces FROM stock WHERE item = ?", [item]).fetchone()
    database.close()
    if left < 5:
        _write(f"to the supplier: {left} {item} left, send more")


def _write(line: str) -> None:
    task = current_task()
    request = task.headers.get("request_id", "-") if task else "-"
    with (DATA / "letters.txt").open("a") as letters:
        letters.write(f"[{request}] {line}\n")
