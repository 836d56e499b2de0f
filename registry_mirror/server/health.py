"""The endpoints for monitoring: liveness, readiness and metrics. None of them names a model."""

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
    """The endpoints for monitoring."""

    def __init__(self, site: ServerContext) -> None:
        self._site = site

    async def alive(self, _request: Request) -> Response:
        """Answers 200 as long as the process runs."""
        return _json({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Answers 200 when an index can be read, else 503. It says no more, because it needs no key."""
        try:
            self._site.reader.read(lambda snapshot: snapshot.meta())
        except NoIndexError:
            return _json({"status": "no index"}, 503)
        return _json({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """Answers the metrics. It needs a client key if the server asks for one."""
        call = call_of(request.scope)
        try:
            call.holder = self._site.guard.admit(call.headers)
            body = await run_in_threadpool(self._numbers)
        except Exception as error:  # noqa: BLE001 - any error gets an answer in JSON
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
    """Returns the mirror's status.

    Raises:
        NoIndexError: the root has no index.
    """

    def ask(snapshot: Snapshot) -> tuple[Totals, list[OpenFailure], CheckTotals]:
        return snapshot.totals(), snapshot.open_failures(), snapshot.check_totals()

    totals, failures, checks = site.reader.read(ask)
    # It does not look at every file, because monitoring asks every few seconds.
    return MirrorStatus(site.layout.root, utc_now(), totals, tuple(failures), site.last_run(), Upkeep(checks))


def published_at(site: ServerContext) -> datetime | None:
    """Returns when the index was published, or None if there is none."""
    try:
        meta = site.reader.read(lambda snapshot: snapshot.meta())
    except NoIndexError:
        return None
    return parse_time(meta.get("published_at"))


def _json(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value), status, {"Cache-Control": "no-store"}, JSON)
