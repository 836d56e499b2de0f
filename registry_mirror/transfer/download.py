"""Moves one body from storage to a sink in constant memory: hashes it on the way, checks it before accepting it.

A body may take several responses: a fetch that is cut goes on where it was cut, and so does a part file that an
earlier process left. A body that does not match its digests is fetched once more, from its first byte.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from ..errors import IntegrityError, MirrorError, TransferError
from .body import Body
from .parallel import ConnectionLimit
from .partial_body import Beginning, PartialBody, S, ScratchSink
from .responses import Counter
from .streaming import Transfer, stream
from .throttle import RateLimit
from .verdicts import BodyVerdict, RangeFit, Rest, judge_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from ..digests import Digest
    from .declared import Declared
    from .http import Connections
    from .retry import RetryPolicy

H = TypeVar("H")
_log = logging.getLogger("registry_mirror.upstream")


@dataclass(frozen=True, slots=True)
class Received(Generic[S]):
    """A whole and checked body.

    Attributes:
        declared_md5: whether storage declared this MD5; else only we have computed it.
        kept: how many of its bytes came from the part file of an earlier fetch.
    """

    sink: S
    digest: Digest
    declared: Declared
    declared_md5: bool
    kept: int = 0


@dataclass(frozen=True, slots=True)
class _Order(Generic[S, H]):
    """The arguments of one fetch; see `Storage.fetch`."""

    what: str
    address: Callable[[], str]
    sink: Callable[[Declared], S]
    held: Callable[[Declared], H | None]
    progress: Callable[[int, int | None], None]
    rate: RateLimit | None


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A whole body that was not accepted. If `digest` is set, a second body with the same digest will be accepted."""

    reason: str
    digest: Digest | None


@dataclass(frozen=True, slots=True)
class _Unusable:
    """A response whose body is not read. Next, the whole object is asked for; compressed if `packed` is set."""

    reason: str
    packed: bool = False


class _NoAddressError(Exception):
    """The upstream gave no address. The API client has already retried that call, so the fetch must not."""

    def __init__(self, error: MirrorError) -> None:
        super().__init__(str(error))
        self.error = error


class Storage:
    """Fetches bodies by signed address. It never sees the API key.

    Args:
        connections: makes the HTTP client.
        base_url: of the upstream that gives the addresses.
        retry: how often a failed response is tried again.
        max_rate: bytes a second over all connections; None for no limit.
        lines: connections at once. Every body gets its first connection beyond that too, but no further one.
    """

    def __init__(
        self,
        connections: Connections,
        base_url: str,
        *,
        retry: RetryPolicy,
        max_rate: int | None = None,
        lines: int = 1,
    ) -> None:
        # identity: a body compressed in transit has another MD5, no length to check, and cannot be continued.
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        self._client = connections.client(headers, given_by=base_url)
        self._retry = retry
        self._rate = None if max_rate is None else RateLimit(max_rate, retry.sleep)
        self._open: set[Body] = set()
        self.lines = ConnectionLimit(lines)
        self.requests = Counter()

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()

    def abort(self) -> None:
        """Wakes every thread that waits for bytes. Their fetches fail as if the connection had been cut."""
        for body in list(self._open):
            body.abort()

    def look(self, what: str, url: str) -> Declared:
        """Asks storage for an object and returns what its headers say, without reading the body."""
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
        begun: Beginning[S] | None = None,
    ) -> Received[S] | H:
        """Fetches one whole body and checks it.

        Args:
            what: the model, for errors.
            address: returns a fresh signed address; called for every request.
            sink: makes an empty sink for the body. If the fetch fails, a `KeepingSink` may keep the bytes for a later
                fetch to continue; other sinks are discarded.
            held: looks at the headers, and returns a value to use instead of the body, or None to fetch the body.
            progress: called with bytes done and bytes in all (None when not known) after every chunk; may raise.
            begun: the beginning of the body that an earlier fetch kept.

        Returns:
            The checked body, or the value that `held` returned.

        Raises:
            IntegrityError: two fetches did not match what storage declares.
            TransferError: storage does not give the body.
            NetworkError: storage cannot be reached.
            ApiError: the upstream gives no address.
        """
        order = _Order(what, address, sink, held, progress, self._rate)
        first = self._whole(order, PartialBody(begun))
        if not isinstance(first, _Doubt):
            return first
        _log.debug("%s: fetched once more from its first byte: %s", what, first.reason)
        second = self._whole(order, PartialBody(), twin=first)
        if not isinstance(second, _Doubt):
            return second
        raise IntegrityError(
            f"{what}: fetched twice, and neither body is good: {second.reason}",
            hint="the next sync tries again; if it stays, the object in storage is damaged",
        )

    def _whole(
        self, order: _Order[S, H], partial: PartialBody[S], twin: _Doubt | None = None
    ) -> Received[S] | H | _Doubt:
        """Fetches one whole body in as many responses as needed. Only a try without progress counts as a failure."""
        try:
            return self._retry.call(lambda: self._go_on(order, partial, twin), partial.progressed)
        except _NoAddressError as failed:
            partial.leave(failed.error)
            raise failed.error from None
        except BaseException as error:
            partial.leave(error)
            raise

    def _go_on(self, order: _Order[S, H], partial: PartialBody[S], twin: _Doubt | None) -> Received[S] | H | _Doubt:
        """Makes one try: asks for the rest of the body, and for the whole object if that response is unusable."""
        asked, packed = partial.rest, False
        rest = asked
        try:
            while True:
                found = self._answer(order, partial, rest, twin, instead=rest is not asked, packed=packed)
                if not isinstance(found, _Unusable):
                    return found
                _log.debug("%s: asks once more: %s", order.what, found.reason)
                rest, packed = None, found.packed  # at most three responses: a range, the whole, the whole compressed
        finally:
            partial.asked(asked)

    def _answer(
        self,
        order: _Order[S, H],
        partial: PartialBody[S],
        rest: Rest | None,
        twin: _Doubt | None,
        *,
        instead: bool,
        packed: bool,
    ) -> Received[S] | H | _Doubt | _Unusable:
        """Sends one request with a fresh address and takes its body.

        Args:
            instead: whether a range was asked for before, and storage did not give it.
        """
        try:
            url = order.address()
        except MirrorError as error:
            raise _NoAddressError(error) from error
        self.requests.add()
        with self._first(order, partial, url) as source, self._body(order.what, url, rest, packed=packed) as body:
            if body.fit in (RangeFit.MISFIT, RangeFit.REFUSED):
                return _Unusable(body.reason)
            if body.declared.unpacked and body.declared.digests and not packed:
                return _Unusable("the digests are of the compressed bytes that storage keeps", packed=True)
            if body.fit is RangeFit.WHOLE:
                partial.distrust() if instead else partial.drop()
            return _take(order, partial, body, source, twin)

    @contextlib.contextmanager
    def _first(self, order: _Order[S, H], partial: PartialBody[S], url: str) -> Iterator[_RangeSource[S, H]]:
        """Counts the first connection of a body, and yields the source of its further connections."""
        source = _RangeSource(self, order, partial, url)
        self.lines.enter()
        try:
            yield source
        finally:
            source.pass_on(leave=True)

    @contextlib.contextmanager
    def body_of(self, what: str, url: str, rest: Rest) -> Iterator[Body]:
        """Opens a further connection for one range of a body that is being fetched."""
        self.requests.add()
        with self._body(what, url, rest) as body:
            yield body

    @contextlib.contextmanager
    def _body(self, what: str, url: str, rest: Rest | None, *, packed: bool = False) -> Iterator[Body]:
        with Body(what, url, self._client, rest, packed=packed) as body:
            self._open.add(body)
            try:
                yield body
            finally:
                self._open.discard(body)


class _RangeSource(Generic[S, H]):
    """Opens further connections for one body; see `parallel.RangeSource`."""

    def __init__(self, storage: Storage, order: _Order[S, H], partial: PartialBody[S], url: str) -> None:
        self._storage, self._order, self._partial, self._url = storage, order, partial, url
        self._first = True

    @property
    def lines(self) -> ConnectionLimit:
        return self._storage.lines

    @property
    def rate(self) -> RateLimit | None:
        return self._order.rate

    def pass_on(self, *, leave: bool = False) -> None:
        if leave and self._first:
            self.lines.leave()
        self._first = False

    @contextlib.contextmanager
    def open(self, start: int, end: int, *, fresh: bool) -> Iterator[Body]:
        url = self._order.address() if fresh else self._url
        assert self._partial.declared is not None  # noqa: S101 - the body has begun
        with self._storage.body_of(self._order.what, url, Rest(start, self._partial.declared, end)) as body:
            if body.fit is not RangeFit.REST:
                # The address of the first connection may have expired; the next try uses a fresh one.
                transient = body.fit is RangeFit.REFUSED and not fresh
                raise TransferError(f"{self._order.what}: no range came: {body.reason}", transient=transient)
            yield body

    def beside(self) -> BinaryIO:
        sink: object = self._partial.sink
        assert isinstance(sink, ScratchSink)  # noqa: S101 - `PartialBody.divisible` says so
        return sink.beside()


def _take(
    order: _Order[S, H], partial: PartialBody[S], body: Body, source: _RangeSource[S, H], twin: _Doubt | None
) -> Received[S] | H | _Doubt:
    """Takes the response's body and judges it, or returns the value that `held` has for it."""
    if partial.declared is not None:
        partial.declared = partial.declared.joined(body.declared)
    said = partial.declared or body.declared
    found = order.held(said)
    if found is not None:
        partial.drop()
        return found
    if partial.declared is None:
        partial.begin(order.sink(said), said)
    if body.fit is not RangeFit.COMPLETE:
        # A second fetch goes through the parser, so that a bug in reading the socket cannot spoil both fetches.
        stream(Transfer(order.what, partial, order.progress, order.rate, twin is None, source), body)
    return _judged(partial, twin, body)


def _judged(partial: PartialBody[S], twin: _Doubt | None, body: Body) -> Received[S] | _Doubt:
    """Judges a complete body. A body that is not accepted is discarded."""
    assert partial.sink is not None and partial.declared is not None  # noqa: S101, PT018 - the body has begun
    digest, said = partial.digest, partial.declared
    packed = body.packed.digest() if body.packed else None
    verdict, reason = judge_body(said, digest, partial.head, packed, body.secrets())
    agrees = twin is not None and twin.digest == digest
    if verdict is BodyVerdict.ACCEPT or (verdict is BodyVerdict.CONFIRM and agrees):
        return Received(partial.sink, digest, said, digest.md5 in (said.md5, said.hint), partial.kept)
    partial.drop()
    return _Doubt(reason, digest if verdict is BodyVerdict.CONFIRM else None)
