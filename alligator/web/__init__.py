"""The middleware, the endpoint and the dashboard that all web adapters share.

Its public names, by module:

- dashboard: Actions, Dashboard
- endpoint: Endpoint
- http: Request, Response, is_websocket, read_length
- idempotency: IdempotencyKeys, RequestLine
- middleware: Middleware

Used only in this package: same_origin.
"""
