"""Moving one body from storage to a sink, in constant memory, hashed while it moves, checked before it counts.

A body may come in several answers: one that is cut goes on where it was cut, and a beginning that an earlier process
left goes on as well. A body that does not match is fetched once more, from its first byte.
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
        declared_md5: whether its MD5 is the storage's word or ours alone.
        kept: how many of its bytes an earlier fetch had left.
    """

    sink: S
    digest: Digest
    declared: Declared
    declared_md5: bool
    kept: int = 0


@dataclass(frozen=True, slots=True)
class _Order(Generic[S, H]):
    """What one fetch is asked for; see `Storage.fetch`."""

    what: str
    address: Callable[[], str]
    sink: Callable[[Declared], S]
    held: Callable[[Declared], H | None]
    progress: Callable[[int, int | None], None]
    rate: RateLimit | None


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A whole body that was not accepted. `digest` is set when a second one that agrees would be."""

    reason: str
    digest: Digest | None


@dataclass(frozen=True, slots=True)
class _Unusable:
    """An answer that is not read. The whole is asked for next; `packed`: compressed, as storage keeps it."""

    reason: str
    packed: bool = False


class _NoAddressError(Exception):
    """The upstream gave no address. It has been retried where it was asked; here it must not be again."""

    def __init__(self, error: MirrorError) -> None:
        super().__init__(str(error))
        self.error = error


class Storage:
    """Fetches bodies by signed address. It has no key to lose.

    Args:
        base_url: of the upstream that gives the addresses.
        max_rate: bytes a second, over all its connections; None for as many as come.
        lines: connections at once, beyond one for each body.
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
        # identity: a body compressed on its way has no length to check, another MD5, and no rest to ask for.
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
        begun: Beginning[S] | None = None,
    ) -> Received[S] | H:
        """One body, whole and checked, or what `held` made of its headers.

        Args:
            what: the model, for errors.
            address: gives a fresh signed address; called for every answer.
            sink: makes an empty place for the body. One that is `Keeping` keeps a beginning that a later fetch can
                go on with; others are discarded when the fetch fails.
            held: looks at the headers; anything but None abandons the body.
            progress: called with bytes done and bytes in all (None when not known) after every chunk; may raise.
            begun: a beginning of the body that an earlier fetch left.

        Raises:
            IntegrityError: the bytes do not match what storage declares, twice.
            TransferError: storage does not give the body.
            NetworkError: it cannot be reached.
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

    def _whole(self, order: _Order[S, H], load: PartialBody[S], twin: _Doubt | None = None) -> Received[S] | H | _Doubt:
        """One whole body, in as many answers as it takes. Only a try that brings nothing new is one of the four."""
        try:
            return self._retry.call(lambda: self._go_on(order, load, twin), load.progressed)
        except _NoAddressError as failed:
            load.leave(failed.error)
            raise failed.error from None
        except BaseException as error:
            load.leave(error)
            raise

    def _go_on(self, order: _Order[S, H], load: PartialBody[S], twin: _Doubt | None) -> Received[S] | H | _Doubt:
        """What one try brings: an answer, joined to what is here, or another where the first cannot be used."""
        asked, packed = load.rest, False
        rest = asked
        try:
            while True:
                found = self._answer(order, load, rest, twin, instead=rest is not asked, packed=packed)
                if not isinstance(found, _Unusable):
                    return found
                _log.debug("%s: asks once more: %s", order.what, found.reason)
                rest, packed = None, found.packed  # so the third answer is the last
        finally:
            load.asked(asked)

    def _answer(
        self,
        order: _Order[S, H],
        load: PartialBody[S],
        rest: Rest | None,
        twin: _Doubt | None,
        *,
        instead: bool,
        packed: bool,
    ) -> Received[S] | H | _Doubt | _Unusable:
        """One answer, under a fresh address; `instead` of a rest that was not to be had."""
        try:
            url = order.address()
        except MirrorError as error:
            raise _NoAddressError(error) from error
        self.requests.add()
        with self._first(order, load, url) as source, self._body(order.what, url, rest, packed=packed) as body:
            if body.fit in (RangeFit.MISFIT, RangeFit.REFUSED):
                return _Unusable(body.reason)
            if body.declared.unpacked and body.declared.digests and not packed:
                return _Unusable("the digests are of the compressed bytes that storage keeps", packed=True)
            if body.fit is RangeFit.WHOLE:
                load.distrust() if instead else load.drop()
            return _take(order, load, body, source, twin)

    @contextlib.contextmanager
    def _first(self, order: _Order[S, H], load: PartialBody[S], url: str) -> Iterator[_RangeSource[S, H]]:
        """Counts the first connection of a body, and gives what further ones come from."""
        source = _RangeSource(self, order, load, url)
        self.lines.enter()
        try:
            yield source
        finally:
            source.pass_on(leave=True)

    @contextlib.contextmanager
    def body_of(self, what: str, url: str, rest: Rest) -> Iterator[Body]:
        """One answer more, for a part of a body that comes already."""
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
    """Further connections for one body: see `crew.Source`."""

    def __init__(self, storage: Storage, order: _Order[S, H], load: PartialBody[S], url: str) -> None:
        self._storage, self._order, self._load, self._url = storage, order, load, url
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
        assert self._load.declared is not None  # noqa: S101 - a body that has begun
        with self._storage.body_of(self._order.what, url, Rest(start, self._load.declared, end)) as body:
            if body.fit is not RangeFit.REST:
                # The first connection's address may be past its time.
                transient = body.fit is RangeFit.REFUSED and not fresh
                raise TransferError(f"{self._order.what}: no range came: {body.reason}", transient=transient)
            yield body

    def beside(self) -> BinaryIO:
        sink: object = self._load.sink
        assert isinstance(sink, ScratchSink)  # noqa: S101 - `Load.divisible` says so
        return sink.beside()


def _take(
    order: _Order[S, H], load: PartialBody[S], body: Body, source: _RangeSource[S, H], twin: _Doubt | None
) -> Received[S] | H | _Doubt:
    """What has come with this answer: a whole body, judged, or what was held in its place."""
    if load.declared is not None:
        load.declared = load.declared.joined(body.declared)
    said = load.declared or body.declared
    found = order.held(said)
    if found is not None:
        load.drop()
        return found
    if load.declared is None:
        load.begin(order.sink(said), said)
    if body.fit is not RangeFit.COMPLETE:
        # A body that has to come twice comes the ordinary way the second time, lest a fault of ours comes twice.
        stream(Transfer(order.what, load, order.progress, order.rate, twin is None, source), body)
    return _judged(load, twin, body)


def _judged(load: PartialBody[S], twin: _Doubt | None, body: Body) -> Received[S] | _Doubt:
    """The verdict on a body that ended. What is not accepted is discarded."""
    assert load.sink is not None and load.declared is not None  # noqa: S101, PT018 - it has begun
    digest, said = load.digest, load.declared
    packed = body.packed.digest() if body.packed else None
    verdict, reason = judge_body(said, digest, load.head, packed, body.secrets())
    agrees = twin is not None and twin.digest == digest
    if verdict is BodyVerdict.ACCEPT or (verdict is BodyVerdict.CONFIRM and agrees):
        return Received(load.sink, digest, said, digest.md5 in (said.md5, said.hint), load.kept)
    load.drop()
    return _Doubt(reason, digest if verdict is BodyVerdict.CONFIRM else None)
