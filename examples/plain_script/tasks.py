"""The tasks of an order."""


def send_receipt(address: str, amount: int) -> None:
    """Write to a customer."""
    print(f"  to {address}: thank you for {amount} apples")


async def update_stock(amount: int) -> None:
    """Notify the warehouse; a coroutine function can be a task, too."""
    print(f"  to the warehouse: {amount} apples less")
