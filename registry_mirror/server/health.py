"""Is it alive, is it ready, and the numbers. None of it names a model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ..errors import NoIndexError
from ..model import parse_time, utc_now
from ..status import MirrorStatus, Upkeep
from ..store.budget import free_space
from . import metrics
from .context import call_of
from .errors import JSON, response_of

if TYPE_CHECKING:
    from datetime import datetime

    from starlette.requests import Request

    from ..index.queries import Snapshot
    from ..index.values import CheckTotals, OpenFailure, Totals
    from .context import ServerContext


class Health:
    """The pages for machines that watch."""

    def __init__(self, site: ServerContext) -> None:
        self._site = site

    async def alive(self, _request: Request) -> Response:
        """200 as long as the process answers."""
        return _json({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """200 when an index can be read, 503 before; it says no more, because it asks for no key."""
        try:
            self._site.reader.read(lambda snapshot: snapshot.meta())
        except NoIndexError:
            return _json({"status": "no index"}, 503)
        return _json({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """The numbers, for whoever has a key where keys are asked for."""
        call = call_of(request.scope)
        try:
            call.holder = self._site.guard.admit(call.headers)
            body = await run_in_threadpool(self._numbers)
        except Exception as error:  # noqa: BLE001 - an answer in any case
            return response_of(error)
        return Response(body, headers={"Cache-Control": "no-store", "Content-Type": metrics.CONTENT_TYPE})

    def _numbers(self) -> bytes:
        try:
            status = status_of(self._site)
        except NoIndexError:
            status = None
        site = self._site
        return site.metrics.text(status, published_at(site), free_space(site.layout.root))


def status_of(site: ServerContext) -> MirrorStatus:
    """How the mirror is.

    Raises:
        NoIndexError: there is no index here.
    """

    def ask(snapshot: Snapshot) -> tuple[Totals, list[OpenFailure], CheckTotals]:
        return snapshot.totals(), snapshot.open_failures(), snapshot.check_totals()

    totals, failures, checks = site.reader.read(ask)
    # Not a look at every file: this is asked every few seconds.
    return MirrorStatus(site.layout.root, utc_now(), totals, tuple(failures), site.last_run(), Upkeep(checks))


def published_at(site: ServerContext) -> datetime | None:
    """When the index was published; None while there is none."""
    try:
        meta = site.reader.read(lambda snapshot: snapshot.meta())
    except NoIndexError:
        return None
    return parse_time(meta.get("published_at"))


def _json(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value), status, {"Cache-Control": "no-store"}, JSON)
