"""Read files of orders: a file with an invalid line starts no task."""

import os
from collections.abc import Iterable

from alligator import Gator, Worker

from .tasks import send_receipt, update_stock

# In this process's memory, unless the environment names a store that others see too.
gator = Gator(os.environ.get("ALLIGATOR_CONN", "locmem://"))

MONDAY = ["ann@example.org 3", "bob@example.org 5"]
TUESDAY = ["cy@example.org 2", "dee@example.org some"]


def read(lines: Iterable[str]) -> None:
    """Start the tasks of one file."""
    with gator.transaction(retries=3):
        total = 0
        for line in lines:
            address, amount = line.split()
            gator.task(send_receipt, address, int(amount))
            total += int(amount)
        gator.task(update_stock, total)


def main() -> None:
    """Read two files, then run their tasks."""
    for name, lines in {"monday": MONDAY, "tuesday": TUESDAY}.items():
        try:
            read(lines)
        except ValueError as error:
            print(f"{name}: {error}, so nothing of it is done")
        print(f"{name}: {gator.len()} tasks are on the queue")
    # Elsewhere, and for ever: latergator $ALLIGATOR_CONN
    Worker(gator, burst=True).run_forever()


if __name__ == "__main__":
    main()
