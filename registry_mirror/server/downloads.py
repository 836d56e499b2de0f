"""Serves blobs by their MD5, whole or a range of them, in pieces."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import os
import re
import time
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from ..errors import NotFoundError
from ..files import open_regular
from ..store.layout import SUFFIXES
from .auth import holder_of
from .bodies import LARGEST_PIECE, RangeVerdict, http_date, range_verdict
from .errors import BrokenOffError, Endpoint, error_response
from .lookups import look
from .proxies import client_address, client_network
from .requests import parameters
from .signing import BadSignatureError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Self

    from starlette.types import Receive, Scope, Send

    from ..index.values import WeightsEntry
    from .bodies import Bodies
    from .context import Call, ServerContext

PREFIX = "/blobs/"
_NAME = re.compile(rb"/blobs/([0-9a-f]{32})(\.[a-z]{1,16})")
_FORMATS = {suffix: weights_format for weights_format, suffix in SUFFIXES.items()}
_BLOCKS = 4
_TAKEN_WITHIN = 60.0
_IN_MEMORY = ("tmpfs", "ramfs")
_BELIEVED = 60.0
_MESSAGES = {
    412: "the weights have another ETag",
    416: "the weights have no such bytes",
}


class BlobsEndpoint(Endpoint):
    """The endpoint of blobs."""

    async def answer(self, call: Call) -> Response:
        """Answers one request for a blob."""
        if call.method not in ("GET", "HEAD"):
            return error_response(405, "weights can be read only", {"Allow": "GET, HEAD"})
        match = _NAME.fullmatch(call.raw_path)
        weights_format = _FORMATS.get(match[2].decode()) if match else None
        if match is None or weights_format is None:
            raise NotFoundError("no such address here", status=404)
        name = admitted(self.site, call)
        md5 = match[1].decode()
        entry = self._entry(md5, weights_format)
        return blob_response(self.site, self.site.layout.blob(md5, weights_format), entry, call, name)

    def _entry(self, md5: str, weights_format: str) -> WeightsEntry:
        entry = self.site.reader.read(lambda snapshot: snapshot.by_md5(md5, weights_format))
        if entry is None:
            raise NotFoundError("this mirror has no such weights", status=404)
        return entry


def admitted(site: ServerContext, call: Call) -> str:
    """Checks the signature of a request's address, or its client key. Returns the file name for the client, or "".

    Raises:
        BadSignatureError: the signature is wrong or expired, or its client key was revoked.
        UnauthorizedError: the request has neither a signature nor a valid key.
    """
    given = parameters(call.query)
    if "signature" not in given:
        call.holder = site.guard.admit(call.headers)
        return ""
    grant = site.signer.check(call.raw_path.decode("latin-1"), given, site.metrics.now())
    if not site.guard.still_admits(grant.holder):
        raise BadSignatureError("the client key that this address was made for was revoked or has ended")
    call.holder = holder_of(grant.holder)
    return grant.name


def blob_response(site: ServerContext, path: Path, entry: WeightsEntry, call: Call, name: str) -> Response:
    """Returns the answer for one blob.

    Args:
        path: the blob's file.
        entry: what the index says of it.
        name: for `Content-Disposition`; empty for none.
    """
    try:
        found = look(path)
    except OSError:
        return error_response(404, "the weights are missing from this mirror's store; the next sync fetches them again")
    if found.st_size != entry.size:
        return error_response(409, f"the weights have {found.st_size} bytes here instead of {entry.size}")
    etag = f'"{entry.md5}"'
    ruling = range_verdict(call.headers, etag, found.st_mtime, entry.size)
    headers = _headers(entry, etag, found.st_mtime, asks=site.guard.asks)
    if ruling.status == 304:
        return Response(None, 304, headers)
    if ruling.status >= 400:
        span = {"Content-Range": f"bytes */{entry.size}"} if ruling.status == 416 else {}
        return error_response(ruling.status, _MESSAGES[ruling.status], span)
    if name:
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return FileSlice(path, ruling, entry.size, headers, site=site, call=call)


def _headers(entry: WeightsEntry, etag: str, modified: float, *, asks: bool) -> dict[str, str]:
    """Returns the headers of every answer about a blob. Both digests are of the whole blob, as in object stores.

    Args:
        asks: whether requests need a key. Then no shared cache may keep the body.
    """
    digest = base64.b64encode(bytes.fromhex(entry.md5)).decode()
    return {
        "ETag": etag,
        "Last-Modified": http_date(modified),
        "Cache-Control": f"{'private' if asks else 'public'}, max-age=31536000, immutable",
        "Accept-Ranges": "bytes",
        "x-goog-hash": f"md5={digest}",
        "Content-MD5": digest,
        "X-Content-Type-Options": "nosniff",
    }


class FileSlice(Response):
    """Sends a file or a part of it in pieces."""

    media_type = "application/octet-stream"

    def __init__(
        self,
        path: Path,
        ruling: RangeVerdict,
        size: int,
        headers: Mapping[str, str],
        *,
        site: ServerContext,
        call: Call,
    ) -> None:
        self._path, self._ruling, self._site, self._call = path, ruling, site, call
        self.status_code = ruling.status
        self.background = None
        self.body = b""
        self.init_headers({**headers, "Content-Length": str(ruling.length)})
        if ruling.status == 206:
            del self.headers["Content-MD5"]  # RFC 2616 defines it as the digest of the part
            self.headers["Content-Range"] = f"bytes {ruling.start}-{ruling.stop - 1}/{size}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer. It stops reading when the client goes away."""
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if scope["method"] == "HEAD":
            await send(start)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            with admitted_body(self._site, self._call):
                await self._pieces(start, receive, send)

    async def _pieces(self, start: dict[str, object], receive: Receive, send: Send) -> None:
        # Opens the file before the status is sent, so that a file that cannot be opened is an error in JSON.
        with open_regular(self._path) as file:
            await send(start)
            if not self._ruling.length:
                await send({"type": "http.response.body", "body": b""})
            place, stop = self._ruling.start, self._ruling.stop

            async def following(size: int) -> bytes:
                nonlocal place
                piece = await read_at(file.fileno(), place, stop, size)
                if not piece:
                    raise BrokenOffError(f"{self._path.name} ended early")
                place += len(piece)
                return piece

            await send_pieces(self._site.bodies, following, self._ruling.length, receive, send)


def admitted_body(site: ServerContext, call: Call, size: int = 0) -> AbstractContextManager[None]:
    """Counts a body while it is sent.

    Args:
        size: bytes of the body that are in memory.

    Raises:
        TooManyBodiesError: too many bodies are being sent.
    """
    client = client_address(call.headers, call.peer, site.proxies)
    exempt = site.proxies.trust(client)
    return site.bodies.admit(client if exempt else client_network(client), size, exempt=exempt)


async def send_pieces(
    bodies: Bodies, following: Callable[[int], Awaitable[bytes]], length: int, receive: Receive, send: Send
) -> None:
    """Sends a body of `length` bytes in pieces. It ends early when the client goes away.

    Args:
        following: returns the next piece, of about as many bytes as its argument says.

    Raises:
        BrokenOffError: the client read nothing for `_TAKEN_WITHIN` seconds.
    """
    gone, number = asyncio.ensure_future(_disconnected(receive)), 0
    try:
        with Patience() as patience:
            while length and not gone.done():
                piece = await following(bodies.piece(number))
                number += 1
                length -= len(piece)
                patience.renew()
                await send({"type": "http.response.body", "body": piece, "more_body": length > 0})
    finally:
        gone.cancel()


class Patience:
    """Ends the current task after `_TAKEN_WITHIN` seconds without progress: an idle client holds a descriptor.

    It uses one timer for a whole body, because one for each piece costs more than the piece.
    """

    def __init__(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._until, self._over = 0.0, False

    def __enter__(self) -> Self:
        self.renew()
        self._timer = self._loop.call_later(_TAKEN_WITHIN, self._look)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        self._timer.cancel()
        if self._over and kind is asyncio.CancelledError and self._task is not None:
            self._task.uncancel()
            raise BrokenOffError(f"the client took nothing for {_TAKEN_WITHIN:g} s") from None

    def renew(self) -> None:
        """Notes that there was progress."""
        self._until = self._loop.time() + _TAKEN_WITHIN

    def _look(self) -> None:
        left = self._until - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        elif self._task is not None:
            self._over = True
            self._task.cancel()


async def hand_over(send: Send, message: dict[str, Any]) -> None:
    """Sends a piece, and waits at most `_TAKEN_WITHIN` seconds until the client takes it.

    Raises:
        BrokenOffError: the client took nothing in that time.
    """
    try:
        async with asyncio.timeout(_TAKEN_WITHIN):
            await send(message)
    except TimeoutError:
        raise BrokenOffError(f"the client took nothing for {_TAKEN_WITHIN:g} s") from None


async def read_at(descriptor: int, place: int, stop: int, piece: int = LARGEST_PIECE) -> bytes:
    """Returns some bytes of a file from `place` on, none beyond `stop`.

    It reads at once if the page cache has both ends of the piece, else on a thread, so that a slow disk does not block
    other clients. A thread reads more at a time, because switching to it costs as much as reading a piece.
    """
    count = min(piece, stop - place)
    if _is_cached(descriptor, place) and _is_cached(descriptor, place + count - 1):
        return os.pread(descriptor, count, place)
    count = min(_BLOCKS * piece, stop - place)
    return await asyncio.to_thread(os.pread, descriptor, count, place)


def _is_cached(descriptor: int, place: int) -> bool:
    """Returns whether a byte can be read without waiting; False if the system does not tell."""
    try:
        return os.preadv(descriptor, [bytearray(1)], place, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    except (OSError, AttributeError):
        return in_memory(os.fstat(descriptor).st_dev, int(time.monotonic() // _BELIEVED))


@functools.lru_cache(maxsize=64)
def in_memory(device: int, _moment: int) -> bool:
    """Returns whether a file system keeps its files in memory. Only Linux tells.

    tmpfs does not support `RWF_NOWAIT`, and a thread for each piece costs twice as much as the piece.

    Args:
        device: the `st_dev` of its files.
        _moment: a new value asks the system again: after an unmount, another file system may get the number.
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    with (
        contextlib.suppress(OSError, ValueError),
        open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as said,
    ):
        mounts = [line.split(" ") for line in said]
        return any(each[2] == number and each[each.index("-") + 1] in _IN_MEMORY for each in mounts)
    return False


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
