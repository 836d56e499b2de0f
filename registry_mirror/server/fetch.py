"""Fetches weights that clients ask for before they are cached: once for all who wait, streamed as they arrive.

The last piece of a body is held back until the weights are complete, checked and stored. If they turn out to be wrong,
the connection ends before its announced length, so that no client takes what it got for success.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import os
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from starlette.responses import Response

from ..errors import (
    ApiError,
    ConflictError,
    Interrupted,
    MirrorError,
    NetworkError,
    NoSpaceError,
    NotFoundError,
    TransferError,
)
from ..log import logger
from .artifacts import WantedArtifact, check_variant
from .downloads import admitted, admitted_body, blob_response, hand_over, read_at
from .errors import BrokenOffError, Endpoint, error_response, in_words, response_of
from .lookups import by_id, current, current_weights
from .proxies import client_address, client_network
from .requests import decode_segment, parameters
from .signing import BadSignatureError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from .context import Call, ServerContext

_log = logger("server")
PREFIX = "/fetch/"
_TAIL = 64 << 10
_TELL_EVERY = 0.02
_CLEAR_UP_WITHIN = 1.0
_MOST_AT_ONCE = 100
"""Fetches that may run or wait. Further requests are told to come again."""
_SHARE = _MOST_AT_ONCE // 4
"""How many of them one client key may cause, or one client without a key: an IPv4 address or an IPv6 /64."""
_REMEMBERED = 10.0
"""Seconds for which a failed fetch is not tried again."""
_STALLS_AFTER = 2.0
"""Seconds without a byte after which another fetch may begin beside a stalled one."""
_LOOK_EVERY = 0.5


class PendingFetch:
    """One fetch. Its thread reports progress here, and any number of clients watch it on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client: str = "") -> None:
        self._loop, self.client = loop, client
        self.moved: float | None = None
        """The monotonic time of its last progress; None before its turn."""
        self._changed = asyncio.Event()
        self._due = False
        self.path: Path | None = None
        self.size: int | None = None
        self.done = 0
        self.attempt = 0
        self.stored = False
        self.error: Exception | None = None

    # -- called on the fetching thread ----------------------------------------------------------------------------

    def begins(self) -> None:
        """The fetch begins."""
        self._tell()

    def opened(self, path: Path) -> None:
        """A new part file begins to grow. A former one did not hold the weights."""
        self.size, self.done, self.path = None, 0, path
        self.moved = time.monotonic()
        self.attempt += 1  # written last and read first: who sees the new number sees the new path
        self._tell()

    def sized(self, size: int | None) -> None:
        """The size is known now, or None: it will not be known."""
        self.size = size
        self._tell()

    def grew(self, done: int) -> None:
        """`done` bytes are in the file."""
        self.done, self.moved = done, time.monotonic()
        if not self._due:  # one wake-up at a time: one for each piece would cost more than the bytes
            self._due = True
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._loop.call_later, _TELL_EVERY, self._wake)

    def ended(self, error: Exception | None) -> None:
        """The weights are stored and published, or will never be. Only the first call counts."""
        if self.over:
            return
        self.error, self.stored = error, error is None
        self._tell()

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            self._loop.call_soon_threadsafe(self._wake)

    # -- called on the event loop ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._due = False
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @property
    def over(self) -> bool:
        """Whether the fetch has ended."""
        return self.stored or self.error is not None

    @property
    def safe(self) -> int:
        """How many bytes may be sent before the whole is checked: never all of them."""
        return max(0, self.done - _TAIL) if self.size is None else min(self.done, self.size - 1)

    def stalls(self, now: float) -> bool:
        """Returns whether it has begun and makes no progress."""
        return self.moved is not None and now - self.moved > _STALLS_AFTER

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until a condition on this fetch holds, or the fetch has ended."""
        while not self.over and not condition():
            await self._changed.wait()


class PendingFetches:
    """All fetches of this process.

    Args:
        fetch: fetches and publishes one model's weights and reports to its `PendingFetch`. Blocks; raises errors.
        workers: how many fetches run at once.
        stop: ends all fetches.
    """

    def __init__(self, fetch: Callable[[str, str, PendingFetch], None], workers: int, stop: Callable[[], None]) -> None:
        self._fetch, self._stop, self._workers = fetch, stop, workers
        self._lock = threading.Lock()
        self._threads = 0
        self._by_key: dict[tuple[str, str], PendingFetch] = {}
        self._waiting: list[tuple[PendingFetch, Callable[[], None]]] = []
        self._failures: dict[tuple[str, str], tuple[float, Exception]] = {}

    def end(self) -> None:
        """Ends the answers of all clients that wait, and asks the fetches to end."""
        self._stop()
        with self._lock:
            running = list(self._by_key.values())
        for pending in running:
            pending.ended(Interrupted("the server was told to stop"))

    def close(self) -> None:
        """Gives the fetches a moment to clean up. It does not wait for storage that does not answer."""
        self.end()
        until = time.monotonic() + _CLEAR_UP_WITHIN
        while self._by_key and time.monotonic() < until:
            time.sleep(0.02)

    async def respond(self, site: ServerContext, call: Call, model_id: str, weights_format: str, name: str) -> Response:
        """Returns the weights from the cache if they are there, else a stream of the one fetch that brings them."""
        if (cached := self._cached(site, call, model_id, weights_format, name)) is not None:
            return cached
        if (remembered := self._failed_just_now((model_id, weights_format))) is not None:
            return remembered
        pending = self._join(site, call, model_id, weights_format)
        if pending is None:
            return error_response(503, "too many models are being fetched; ask again", {"Retry-After": "10"})
        while pending.moved is None and not pending.over:
            self._start_thread()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await pending.until(lambda: pending.moved is not None)
        # An answer that has begun cannot become an error, so it begins when there is something to send.
        await pending.until(lambda: pending.safe > 0)
        if not pending.over and pending.path is not None:
            with contextlib.suppress(FileNotFoundError):  # the part was moved into the cache just now
                return Stream(site, call, pending, name)
        await pending.until(lambda: False)
        if pending.error is not None:
            return failed(pending.error)
        return self._cached(site, call, model_id, weights_format, name) or error_response(
            409, "the weights were fetched and are gone already"
        )

    def _cached(
        self, site: ServerContext, call: Call, model_id: str, weights_format: str, name: str
    ) -> Response | None:
        found = site.reader.read(lambda snapshot: by_id(snapshot, model_id))
        check_variant(found, WantedArtifact(weights_format))
        entry = current(found, weights_format)
        path = None if entry is None else site.layout.blob(entry.md5, weights_format)
        if entry is not None and path is not None and path.exists():
            return blob_response(site, path, entry, call, name)
        if found.status != "ready":  # the model may have changed since the address was made
            current_weights(site, found, weights_format)
        return None

    def _failed_just_now(self, key: tuple[str, str]) -> Response | None:
        """Returns the answer of a recent failure: trying again at once would only burden the upstream."""
        with self._lock:
            now = time.monotonic()
            self._failures = {each: told for each, told in self._failures.items() if told[0] > now}
            until, error = self._failures.get(key, (now, None))
        if error is None:
            return None
        answer = failed(error)
        answer.headers["Retry-After"] = str(math.ceil(until - now))
        return answer

    def _join(self, site: ServerContext, call: Call, model_id: str, weights_format: str) -> PendingFetch | None:
        key = model_id, weights_format
        client = call.holder or client_network(client_address(call.headers, call.peer, site.proxies))
        with self._lock:
            pending = self._by_key.get(key)
            if pending is not None:
                return pending
            shares = sum(each.client == client for each in self._by_key.values())
            if len(self._by_key) >= _MOST_AT_ONCE or shares >= _SHARE:
                return None
            pending = self._by_key[key] = PendingFetch(asyncio.get_running_loop(), client)
            self._waiting.append((pending, functools.partial(self._run, site, key, pending)))
        try:
            self._start_thread()
        except RuntimeError:  # the system allows no thread, and none is running
            with self._lock:
                if not self._threads:
                    self._waiting.clear()
                    del self._by_key[key]
                    raise
        return pending

    def _start_thread(self) -> None:
        """Starts one more thread if fetches wait and fewer than `workers` make progress."""
        with self._lock:
            if self._waiting and self._moving() < self._workers and self._threads < _MOST_AT_ONCE:
                # Daemon threads: the process would wait for an executor's threads at its end.
                threading.Thread(target=self._work, name="fetch", daemon=True).start()
                self._threads += 1

    def _moving(self) -> int:
        """Returns how many threads make progress or have no fetch yet."""
        now = time.monotonic()
        return self._threads - sum(each.stalls(now) for each in self._by_key.values())

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or self._moving() > self._workers:
                    self._threads -= 1
                    return
                pending, act = self._waiting.pop(self._next())
                pending.moved = time.monotonic()
            act()

    def _next(self) -> int:
        """Returns the index of the next fetch: the first of the client with the fewest running."""
        under_way = Counter(each.client for each in self._by_key.values() if each.moved is not None)
        return min(range(len(self._waiting)), key=lambda place: under_way[self._waiting[place][0].client])

    def _run(self, site: ServerContext, key: tuple[str, str], pending: PendingFetch) -> None:
        pending.begins()
        error: Exception | None = None
        try:
            self._fetch(*key, pending)
        except Exception as raised:  # noqa: BLE001 - the clients that wait must hear of any error
            error = raised
        with self._lock:
            del self._by_key[key]
            if error is not None and not isinstance(error, Interrupted):
                self._failures[key] = time.monotonic() + _REMEMBERED, error
        pending.ended(error)
        site.metrics.fetched("ok" if error is None else "failed")


class Stream(Response):
    """Sends the bytes of a fetch as they arrive."""

    media_type = "application/octet-stream"

    def __init__(self, site: ServerContext, call: Call, pending: PendingFetch, name: str) -> None:
        self._site, self._call, self._pieces = site, call, 0
        assert pending.path is not None  # noqa: S101 - `safe` is above 0 only when there is a path
        self._pending, self._attempt, self._size = pending, pending.attempt, pending.size
        self._descriptor = os.open(pending.path, os.O_RDONLY)
        self.status_code, self.background, self.body = 200, None, b""
        length = {} if self._size is None else {"Content-Length": str(self._size)}
        disposition = {"Content-Disposition": f'attachment; filename="{name}"'} if name else {}
        self.init_headers({"Cache-Control": "no-store", **length, **disposition})
        if self._size is None:
            del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer. If wrong weights arrived, it raises in the middle, which ends the connection."""
        try:
            if self._lost:  # the part was replaced; nothing was sent yet, so an error can still be answered
                error = self._pending.error
                again = error_response(503, "the weights begin to come anew; ask again")
                answer = again if error is None else failed(error)
                await answer(scope, receive, send)
                return
            with admitted_body(self._site, self._call):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._body(send)
        finally:
            os.close(self._descriptor)

    async def _body(self, send: Send) -> None:
        pending, place = self._pending, 0
        while not pending.over and pending.attempt == self._attempt:
            sent = place
            await pending.until(lambda: pending.attempt != self._attempt or self._safe() > sent)  # noqa: B023 - awaited
            place = await self._send_up_to(self._safe(), place, send)
        if self._lost:
            why = "they began anew" if pending.error is None else in_short(pending.error)
            raise BrokenOffError(f"the weights that were coming are not to be: {why}")
        await self._send_up_to(os.fstat(self._descriptor).st_size, place, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    @property
    def _lost(self) -> bool:
        return self._pending.error is not None or self._pending.attempt != self._attempt

    def _safe(self) -> int:
        return self._pending.safe if self._pending.attempt == self._attempt else 0

    async def _send_up_to(self, stop: int, place: int, send: Send) -> int:
        while place < stop:
            piece = await read_at(self._descriptor, place, stop, self._site.bodies.piece(self._pieces))
            if not piece:
                break
            self._pieces += 1
            place += len(piece)
            await hand_over(send, {"type": "http.response.body", "body": piece, "more_body": True})
        return place


def failed(error: Exception) -> Response:
    """Returns the answer to a failed fetch when nothing was sent yet."""
    if isinstance(error, (NotFoundError, ConflictError)):
        return response_of(error)
    if isinstance(error, NoSpaceError):
        return error_response(507, "this mirror has no space left for the weights")
    if isinstance(error, Interrupted):
        return error_response(503, "this mirror is about to stop; ask again")
    if isinstance(error, (ApiError, NetworkError, TransferError)):
        return error_response(502, f"the weights could not be fetched: {in_words(error)}")
    if isinstance(error, MirrorError):  # its text may name paths and settings of this machine
        _log.error("%s", error)
        return error_response(503, "this mirror cannot fetch at the moment; see the server's log")
    return response_of(error)


def in_short(error: Exception) -> str:
    """Formats an error as one line of the log."""
    return in_words(error) if isinstance(error, MirrorError) else type(error).__name__


class FetchRoute(Endpoint):
    """The endpoint of weights that are not cached yet."""

    async def answer(self, call: Call) -> Response:
        """Answers one request."""
        site, parts = self.site, call.raw_path[len(PREFIX) :].split(b"/")
        if site.fetcher is None or len(parts) != 2:
            return error_response(404, "no such address here")
        if call.method != "GET":
            return error_response(405, "weights can be read only", {"Allow": "GET"})
        model_id, weights_format = decode_segment(parts[0]), decode_segment(parts[1])
        if "signature" not in parameters(call.query):  # each costs the upstream a call, so only signed addresses may
            raise BadSignatureError("this address has no signature; ask for the model's download")
        return await site.fetcher.respond(site, call, model_id, weights_format, admitted(site, call))
