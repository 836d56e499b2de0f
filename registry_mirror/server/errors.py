"""Turns errors into HTTP answers, and the base class of endpoints that do so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from starlette.responses import Response

from ..errors import ConflictError, MirrorError, NoIndexError, NotFoundError
from ..log import logger
from . import answers
from .auth import KeysUnreadableError, UnauthorizedError
from .context import call_of
from .proxies import BadHostError
from .requests import BadPathError, BadQueryError
from .signing import BadSignatureError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from .context import Call, ServerContext


_log = logger("server")

JSON = "application/json"
_WRONG_KEY = "this mirror does not know the client key that came; it was revoked, has ended, or is for another server"
_NO_KEY = "this mirror asks for a client key; send one that `mirror keys add` made as X-API-Key"


class BrokenOffError(Exception):
    """A body that has begun cannot be completed: the connection has to end before its announced length."""


def json_response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Returns an answer of the API. No cache may store it, because every sync may change it."""
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, JSON)


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Returns an error as an answer."""
    return json_response(answers.error(status, message), status, headers)


def response_of(error: Exception) -> Response:
    """Returns the answer for an error. An unexpected one is a 500, and its traceback is logged."""
    if isinstance(error, BadQueryError):
        return json_response(answers.refused(error.errors), 422)
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return error_response(status, str(error))
    if isinstance(error, UnauthorizedError):
        said = _WRONG_KEY if error.presented else _NO_KEY
        return error_response(401, said, {"WWW-Authenticate": 'Basic realm="registry-mirror", charset="UTF-8"'})
    if isinstance(error, KeysUnreadableError):
        return error_response(503, "this mirror cannot read its client keys at the moment; see the server's log")
    if isinstance(error, NoIndexError):
        _log.error("%s", error)
        return error_response(
            503, "this mirror has no index yet: `mirror sync` has not run, or its folder is not there"
        )
    _log.error("a fault in registry-mirror", exc_info=error)
    return error_response(500, "a fault in registry-mirror; the server's log has it under this request's id")


_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (BadPathError, 400),
    (BadHostError, 400),
    (BadSignatureError, 403),
    (NotFoundError, 404),
    (ConflictError, 409),
)


def in_words(error: MirrorError) -> str:
    """Returns an error's text for a client, without hints that are for the operator."""
    return error.message


class Endpoint(ABC):
    """An endpoint is an ASGI application, because it needs the path before it is decoded."""

    def __init__(self, site: ServerContext) -> None:
        self.site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        try:
            response = await self.answer(call_of(scope))
        except Exception as error:  # noqa: BLE001 - the client gets an answer in JSON for any error
            response = response_of(error)
        await response(scope, receive, send)

    @abstractmethod
    async def answer(self, call: Call) -> Response:
        """Returns the answer, or raises an error that `response_of` turns into one."""
