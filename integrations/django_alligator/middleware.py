"""Open a transaction for each request, and commit it when the response is a success."""


class Middleware:
    """Django middleware."""
