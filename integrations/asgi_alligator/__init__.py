"""Alligator for ASGI applications: the middleware and the endpoint."""

from .endpoint import AlligatorEndpoint as AlligatorEndpoint
from .middleware import AlligatorMiddleware as AlligatorMiddleware
