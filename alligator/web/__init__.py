"""The middleware, the endpoint and the dashboard that all web adapters share."""
