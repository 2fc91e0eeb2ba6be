"""What is done for each order."""


def send_receipt(address: str, amount: int) -> None:
    """Write to a customer."""
    print(f"  to {address}: thank you for {amount} apples")


async def update_stock(amount: int) -> None:
    """Tell the warehouse; a coroutine function is as good a task as any."""
    print(f"  to the warehouse: {amount} apples less")
