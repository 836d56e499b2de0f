"""Moving one body from storage to a sink, in constant memory, hashed while it moves, checked before it counts.

The rules are promise 2 of the architecture: what the storage declares about the object (`x-goog-hash`, `Content-MD5`,
`Content-Length`) must hold; an ETag of 32 hex digits is a hint that some stores give another meaning; where nothing
was declared, a web page must not pass for weights.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import re
import socket
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx

from ..digests import Digest, Hasher
from ..errors import IntegrityError, MirrorError, TransferError
from ..model import utc_now
from .answers import TRANSIENT, looks_like_html, retry_after
from .session import Connections, Counter, network_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from .retry import RetryPolicy

_HEX_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_HEAD = 64
_log = logging.getLogger("registry_mirror.upstream")


@dataclass(frozen=True, slots=True)
class Declared:
    """What the headers of a storage answer say about the object.

    Attributes:
        size: bytes of the body; None when not said, or when the body is encoded on its way.
        md5: of `x-goog-hash` or `Content-MD5`: binding.
        hint: an ETag of 32 hex digits, mostly the MD5, but not in every store.
        validator: a strong ETag, verbatim.
        content_type: the media type alone, lower case.
        framed: whether a cut body shows (by a length or chunks) without a digest.
        encoded: whether the body is compressed on its way although identity was asked for.
    """

    size: int | None
    md5: str | None
    hint: str | None
    validator: str | None
    content_type: str
    framed: bool
    encoded: bool


def declared(headers: Mapping[str, str]) -> Declared:
    """Reads the headers; keys in lower case."""
    length = headers.get("content-length", "")
    encoded = headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")
    etag = headers.get("etag", "").strip()
    bare = etag.removeprefix("W/").strip('"')
    return Declared(
        size=int(length) if length.isdecimal() and not encoded else None,
        md5=_google_md5(headers.get("x-goog-hash", "")) or _base64_md5(headers.get("content-md5", "")),
        hint=bare.lower() if _HEX_MD5.fullmatch(bare) else None,
        validator=etag if etag.startswith('"') else None,
        content_type=headers.get("content-type", "").partition(";")[0].strip().lower(),
        framed=length.isdecimal() or "chunked" in headers.get("transfer-encoding", "").lower(),
        encoded=encoded,
    )


def _google_md5(value: str) -> str | None:
    """`crc32c=…,md5=…`, in one header or several that the client joined with commas."""
    for part in value.split(","):
        name, _, digest = part.strip().partition("=")
        if name == "md5":
            return _base64_md5(digest)
    return None


def _base64_md5(value: str) -> str | None:
    try:
        raw = base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw.hex() if len(raw) == 16 else None


class Verdict(Enum):
    """What a whole body is worth."""

    ACCEPT = "accept"
    CONFIRM = "confirm"
    """Only if a second whole fetch brings the same bytes."""
    REFUSE = "refuse"


def judge(what: Declared, got: Digest, head: bytes) -> tuple[Verdict, str]:
    """The verdict on a body that ended, and its reason."""
    if got.size == 0:
        return Verdict.REFUSE, "the body is empty"
    if what.size is not None and got.size != what.size:
        return Verdict.REFUSE, f"{got.size} bytes came, Content-Length said {what.size}"
    if what.md5 is not None:
        if got.md5 == what.md5:
            return Verdict.ACCEPT, "MD5 declared by storage"
        page = ", and the body looks like a sign-in page" if looks_like_html(head) else ""
        return Verdict.REFUSE, f"MD5 is {got.md5}, storage declared {what.md5}{page}"
    if what.hint is not None and got.md5 == what.hint:
        return Verdict.ACCEPT, "MD5 equals the ETag"
    if refusal := refuse_unsigned(what, head):
        return Verdict.REFUSE, refusal
    if what.hint is not None:
        return Verdict.CONFIRM, f"MD5 is {got.md5}, the ETag reads {what.hint}"
    if not what.framed:
        return Verdict.CONFIRM, "storage gave neither a digest nor a length, so a cut body would not show"
    return Verdict.ACCEPT, "storage declared no digest"


def refuse_unsigned(what: Declared, head: bytes) -> str | None:
    """Why a body without a binding digest cannot be weights; None when it may be."""
    if looks_like_html(head):
        return "the body looks like a sign-in page"
    if _looks_like_json(head):
        return "the body looks like JSON, not weights"
    if what.content_type.startswith("text/") or what.content_type.endswith(("json", "xml", "html")):
        return f"the body is {what.content_type}, not weights"
    return None


def _looks_like_json(head: bytes) -> bool:
    """Printable from a brace on. A binary format that happens to begin with one has other bytes close behind."""
    start = head.lstrip()
    return start[:1] in (b"{", b"[") and len(start) > 1 and start.isascii() and start.decode().isprintable()


class Sink(Protocol):
    """Where a body goes. `discard` forgets what came; it may be called at any time, also twice."""

    def write(self, data: bytes) -> None:
        """Takes the next bytes."""

    def discard(self) -> None:
        """Removes what was written."""


S = TypeVar("S", bound=Sink)
H = TypeVar("H")


@dataclass(frozen=True, slots=True)
class Received(Generic[S]):
    """A whole and checked body. `declared_md5` says whether its MD5 is the storage's word or ours alone."""

    sink: S
    digest: Digest
    declared: Declared
    declared_md5: bool


class Storage:
    """Fetches bodies by signed address. It has no key to lose."""

    def __init__(self, connections: Connections, *, retry: RetryPolicy) -> None:
        # identity: a body compressed on its way has no length to check and another MD5.
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        self._client = connections.client(headers)
        self._retry = retry
        self._open: set[Body] = set()
        self.requests = Counter()

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()

    def abort(self) -> None:
        """Wakes every thread that waits for bytes; each of their bodies fails as one that was cut."""
        for body in list(self._open):
            body.abort()

    def look(self, what: str, url: str) -> Declared:
        """What storage says about an object; its body is not read."""
        self.requests.add()
        with Body(what, url, self._client) as body:
            return body.declared

    def fetch(
        self,
        what: str,
        address: Callable[[], str],
        sink: Callable[[Declared], S],
        held: Callable[[Declared], H | None] = lambda _: None,
        progress: Callable[[int, int | None], None] = lambda _done, _total: None,
    ) -> Received[S] | H:
        """One body, whole and checked, or what `held` made of its headers.

        Args:
            what: the model, for errors.
            address: gives a fresh signed address; called for every try.
            sink: makes an empty place for the body.
            held: looks at the headers; anything but None abandons the body.
            progress: called with bytes done and bytes in all (None when not known) after every chunk; may raise.

        Raises:
            IntegrityError: the bytes do not match what storage declares, twice.
            TransferError: storage does not give the body.
            NetworkError: it cannot be reached.
            ApiError: the upstream gives no address.
        """
        first = self._try(what, address, sink, held, progress)
        if not isinstance(first, _Doubt):
            return first
        second = self._try(what, address, sink, held, progress, twin=first)
        if not isinstance(second, _Doubt):
            return second
        raise IntegrityError(
            f"{what}: fetched twice, and neither body is good: {second.reason}",
            hint="the next sync tries again; if it stays, the object in storage is damaged",
        )

    def _try(
        self,
        what: str,
        address: Callable[[], str],
        sink: Callable[[Declared], S],
        held: Callable[[Declared], H | None],
        progress: Callable[[int, int | None], None],
        twin: _Doubt | None = None,
    ) -> Received[S] | H | _Doubt:
        """One whole body. Storage's own failures are retried here, the upstream's where the address is asked for."""

        def once() -> Received[S] | H | _Doubt:
            try:
                url = address()
            except MirrorError as error:
                raise _NoAddressError(error) from error
            self.requests.add()
            with self._body(what, url) as body:
                found = held(body.declared)
                return found if found is not None else _receive(body, sink(body.declared), progress, twin)

        try:
            return self._retry.call(once)
        except _NoAddressError as failed:
            raise failed.error from None

    @contextlib.contextmanager
    def _body(self, what: str, url: str) -> Iterator[Body]:
        with Body(what, url, self._client) as body:
            self._open.add(body)
            try:
                yield body
            finally:
                self._open.discard(body)


class _NoAddressError(Exception):
    """The upstream gave no address. It has been retried where it was asked; here it must not be again."""

    def __init__(self, error: MirrorError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A whole body that was not accepted. `digest` is set when a second one that agrees would be."""

    reason: str
    digest: Digest | None


def _open(what: str, url: str, client: httpx.Client) -> httpx.Response:
    try:
        return client.send(client.build_request("GET", url), stream=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        failure = network_error(what, url, error)
    # Raised out here: inside, httpx's error, which holds the signed address, would stay attached to ours.
    raise failure


class Body:
    """One open answer of storage.

    Raises:
        TransferError: it is no success; transient unless the object is not there.
        NetworkError: no answer came.
    """

    def __init__(self, what: str, url: str, client: httpx.Client) -> None:
        self._what, self._url = what, url
        self._response = _open(what, url, client)
        try:
            self._check_status()
            self.declared = declared(self._response.headers)
        except BaseException:
            self._response.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._response.close()

    def abort(self) -> None:
        """Ends the connection under a thread that reads from it; closing the descriptor would not wake that thread."""
        stream = self._response.extensions.get("network_stream")
        raw = stream.get_extra_info("socket") if stream is not None else None
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.shutdown(socket.SHUT_RDWR)

    def _check_status(self) -> None:
        status = self._response.status_code
        _log.debug("%s: storage %s answered HTTP %d", self._what, urlsplit(self._url).hostname, status)
        if status == 200:
            return
        host = urlsplit(self._url).hostname
        # 401 and 403 are how signed addresses expire: the next try brings a fresh one.
        raise TransferError(
            f"{self._what}: storage {host} answered HTTP {status}",
            hint="the weights are missing in the upstream's storage" if status in (404, 410) else None,
            transient=status in TRANSIENT or status in (401, 403),
            retry_after=retry_after(self._response.headers.get("retry-after"), utc_now()),
        )

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes, in pieces of tens of KiB."""
        try:
            yield from self._response.iter_bytes() if self.declared.encoded else self._response.iter_raw()
        except httpx.HTTPError as error:
            failure = network_error(self._what, self._url, error)
        else:
            return
        raise failure


def _receive(
    body: Body, sink: S, progress: Callable[[int, int | None], None], twin: _Doubt | None
) -> Received[S] | _Doubt:
    """Streams the body into the sink and judges it. Whatever goes wrong, the sink is left empty."""
    try:
        digest, head = _stream(body, sink, progress)
        verdict, reason = judge(body.declared, digest, head)
        agrees = twin is not None and twin.digest == digest
        if verdict is Verdict.ACCEPT or (verdict is Verdict.CONFIRM and agrees):
            binding = digest.md5 in (body.declared.md5, body.declared.hint)
            return Received(sink, digest, body.declared, binding)
        sink.discard()
        return _Doubt(reason, digest if verdict is Verdict.CONFIRM else None)
    except BaseException:
        sink.discard()
        raise


def _stream(body: Body, sink: Sink, progress: Callable[[int, int | None], None]) -> tuple[Digest, bytes]:
    hasher, head = Hasher(), b""
    progress(0, body.declared.size)
    for chunk in body.chunks():
        hasher.update(chunk)
        sink.write(chunk)
        if len(head) < _HEAD:
            head = (head + chunk)[:_HEAD]
        progress(hasher.size, body.declared.size)
    return hasher.digest(), head
