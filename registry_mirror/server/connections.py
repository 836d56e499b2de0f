"""Ends connections that do nothing, and those beyond an address's share.

Granian accepts connections and does not report them. So a thread inspects the sockets among the process's descriptors,
as `ss` does, and shuts down those that have to go. Linux tells how much of an answer a client has taken; on other
systems only the requests count.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import stat
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..log import logger
from .proxies import client_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

TAKEN_WITHIN = 60.0
"""Seconds after which a client that reads nothing of its answer is disconnected."""
ASKED_WITHIN = 20.0
"""Seconds after which a connection without a request is ended. A TLS handshake is no request."""
ASKED_AGAIN_WITHIN = 60.0
"""Seconds after its last request after which a connection is ended."""

_SOMETHING = 4096  # bytes; a client that reads fewer in that time only occupies a place
_CALM, _BUSY = 1.0, 0.1
_SAID_EVERY = 10.0
_OTHERS = 200  # descriptors that the index, the threads and fetches need
_LEAST_CONNECTIONS = 16
_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
_ABORT = struct.pack("ii", 1, 0)
_TCP_INFO = getattr(socket, "TCP_INFO", None)
_INFO_SIZE = 148

_log = logger("server")

Peer = tuple[str, int]


@dataclass(slots=True)
class ConnectionRequests:
    """The requests of one connection: how many are being answered, and when one last began or ended."""

    under_way: int = 0
    at: float = 0.0


class Activity:
    """The requests on each connection. The event loop writes them, and the watching thread reads them."""

    def __init__(self) -> None:
        self._of: dict[Peer, ConnectionRequests] = {}
        self._lock = threading.Lock()

    def begin(self, peer: Peer, now: float) -> ConnectionRequests:
        """Notes that a request has come."""
        with self._lock:
            requests = self._of.get(peer)
            if requests is None:
                requests = self._of[peer] = ConnectionRequests()
            requests.under_way += 1
        requests.at = now
        return requests

    @staticmethod
    def end(requests: ConnectionRequests, now: float) -> None:
        """Notes that its answer was sent."""
        requests.under_way -= 1
        requests.at = now

    def of(self, peer: Peer) -> ConnectionRequests | None:
        """Returns the requests of a connection, or None before its first request."""
        return self._of.get(peer)

    def keep(self, peers: Iterable[Peer], before: float) -> None:
        """Forgets the connections that are gone.

        Args:
            peers: all that are connected.
            before: when they were listed. A peer that sent a request later may be a new connection.
        """
        gone = self._of.keys() - set(peers)
        with self._lock:
            for peer in gone:
                if (requests := self._of[peer]).under_way == 0 and requests.at < before:
                    del self._of[peer]


@dataclass(slots=True)
class Connection:
    """One connection as it was last looked at.

    Attributes:
        number: the inode of its socket.
        seen: when the watch first saw it.
        moved: when its client last read something.
        taken: how many bytes it had read by then.
        waiting: whether bytes wait for the client.
        requests: None before its first request.
    """

    number: int
    peer: Peer
    seen: float
    moved: float
    taken: int = 0
    waiting: bool = False
    requests: ConnectionRequests | None = None

    def note(self, taken: int, now: float, *, waiting: bool) -> None:
        """Notes how many bytes the client has taken, and whether more wait for it."""
        if taken - self.taken >= _SOMETHING or (waiting and not self.waiting):
            self.moved, self.taken = now, taken
        self.waiting = waiting

    @property
    def is_busy(self) -> bool:
        """Whether the client waits for an answer of ours."""
        return not self.waiting and self.requests is not None and self.requests.under_way > 0

    @property
    def active(self) -> float:
        """When the client last did something."""
        return max(self.moved, self.requests.at if self.requests is not None and not self.waiting else self.seen)


def overdue(connection: Connection, now: float) -> str:
    """Returns in one word why a connection is to be ended; empty when it may stay."""
    if connection.waiting:
        return "unread" if now - connection.moved > TAKEN_WITHIN else ""
    if connection.is_busy:
        return ""
    if connection.requests is None:
        return "silent" if now - connection.seen > ASKED_WITHIN else ""
    return "idle" if now - connection.active > ASKED_AGAIN_WITHIN else ""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections a process keeps.

    Attributes:
        connections: the limit for all addresses together.
        exempt: returns whether an address is a trusted proxy's, which stands for many clients and has no share.
    """

    connections: int
    exempt: Callable[[str], bool] = field(default=lambda _address: False)

    @property
    def share(self) -> int:
        """How many connections one address may have."""
        return max(self.connections // 4, 1)


def excess(connections: Sequence[Connection], limits: ConnectionLimits) -> list[tuple[Connection, str]]:
    """Returns the connections beyond an address's share or beyond the total, each with the reason.

    An address loses those that have been quiet for longest. Beyond the total, the address with the most connections
    loses first, and a proxy last.
    """
    by_client: dict[str, list[Connection]] = {}
    for each in connections:
        address = each.peer[0]
        by_client.setdefault(address if limits.exempt(address) else client_network(address), []).append(each)
    found: list[tuple[Connection, str]] = []
    left: list[tuple[bool, int, Connection]] = []
    for client, those in by_client.items():
        those.sort(key=lambda each: (not each.is_busy, -each.active))  # the quietest comes last
        kept = len(those) if limits.exempt(client) else limits.share
        found += [(each, "share") for each in those[kept:]]
        left += [(limits.exempt(client), -place, each) for place, each in enumerate(those[:kept])]
    left.sort(key=lambda each: each[:2])
    return found + [(each, "full") for _, _, each in left[: max(len(left) - limits.connections, 0)]]


def places(wanted: int, waiting: int) -> tuple[int, int]:
    """Raises this process's limit of descriptors to what so many connections, and as many bodies, need.

    Args:
        wanted: connections.
        waiting: connections that are accepted beyond them, until the watch ends some.

    Returns:
        How many connections there can be, and how many are accepted.

    Raises:
        ConfigurationError: the system allows too few descriptors.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = 2 * wanted + waiting + _OTHERS
    if hard != resource.RLIM_INFINITY:
        allowed = min(allowed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        with contextlib.suppress(OSError, ValueError):  # macOS refuses values below the hard limit that it reports
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
        allowed = soft
    third = (allowed - _OTHERS) // 3
    if third < _LEAST_CONNECTIONS:
        raise ConfigurationError(
            f"this process may have {allowed} files open, and the server needs {_OTHERS + 3 * _LEAST_CONNECTIONS}",
            hint="raise `ulimit -n`, or LimitNOFILE in a systemd unit",
        )
    connections = min(wanted, max(third, (allowed - _OTHERS - waiting) // 2))
    return connections, connections + min(waiting, third)


class ConnectionWatch:
    """Watches the connections of one process on a thread of its own.

    Args:
        port: the port that clients connect to.
        let_go: is called with the reason, one word, for each connection that was ended.
    """

    def __init__(self, port: int, activity: Activity, limits: ConnectionLimits, let_go: Callable[[str], None]) -> None:
        self._port, self._activity, self._limits, self._let_go = port, activity, limits, let_go
        self._known: dict[int, Connection] = {}
        self._unsaid: Counter[tuple[str, str]] = Counter()
        self._said = float("-inf")

    def start(self) -> None:
        """Starts the thread. It runs for as long as the process."""
        threading.Thread(target=self._run, name="connections", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                over = self.look(time.monotonic())
            except Exception:  # noqa: BLE001 - without this thread nothing would limit connections
                _log.exception("looking at the connections")
                over = False
            time.sleep(_BUSY if over else _CALM)

    def look(self, now: float) -> bool:
        """Looks once and ends what has to go. Returns whether there were so many that the next look should be soon."""
        known: dict[int, Connection] = {}
        descriptors: dict[int, int] = {}
        for descriptor, number, peer, told in _connections(self._port):
            one = self._known.get(number)
            if one is None or one.peer != peer:
                one = Connection(number, peer, now, now)
            one.requests = self._activity.of(peer)
            if told is not None:
                one.note(told[0], now, waiting=told[1])
            known[number], descriptors[number] = one, descriptor
        self._known = known
        self._activity.keep([each.peer for each in known.values()], now)
        late = [(each, why) for each in known.values() if (why := overdue(each, now))]
        gone = {each.number for each, _ in late}
        beyond = excess([each for each in known.values() if each.number not in gone], self._limits)
        for each, why in late + beyond:
            if _shut(descriptors[each.number], each.number):
                self._let_go(why)
                self._unsaid[each.peer[0], why] += 1
        self._say(now)
        return bool(beyond) or len(known) > self._limits.connections // 2

    def _say(self, now: float) -> None:
        """Logs what was ended, in at most five lines."""
        if not self._unsaid or now - self._said < _SAID_EVERY:
            return
        for (address, why), count in self._unsaid.most_common(5):
            _log.warning("let go of %d connections of %s: %s", count, address, _WHY[why].format(self._limits))
        self._unsaid.clear()
        self._said = now


_WHY = {
    "unread": f"they took nothing of their answers for {TAKEN_WITHIN:g} s",
    "silent": f"they asked for nothing in {ASKED_WITHIN:g} s",
    "idle": f"they asked for nothing more in {ASKED_AGAIN_WITHIN:g} s",
    "share": "an address may have {0.share} at once (a quarter of serve.max_connections)",
    "full": "there were more than the {0.connections} of serve.max_connections",
}


def _connections(port: int) -> Iterator[tuple[int, int, Peer, tuple[int, bool] | None]]:
    """Yields this process's connections to a port: descriptor, inode, peer, and what `_told` returns."""
    for name in os.listdir(_DESCRIPTORS):
        with contextlib.suppress(OSError, ValueError):
            descriptor = int(name)
            found = os.fstat(descriptor)
            if not stat.S_ISSOCK(found.st_mode):
                continue
            # `detach` below leaves the descriptor open. AF_INET6 has room for an IPv4 address too.
            looked_at = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, fileno=descriptor)
            try:
                own = looked_at.getsockname()
                if isinstance(own, tuple) and own[1] == port:
                    host, peer_port = looked_at.getpeername()[:2]
                    yield descriptor, found.st_ino, (host.partition("%")[0], peer_port), _told(looked_at)
            finally:
                looked_at.detach()


def _told(connection: socket.socket) -> tuple[int, bool] | None:
    """Returns how many bytes the client has taken and whether more wait for it; None if the system does not tell."""
    if _TCP_INFO is None:
        return None
    info = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 256)
    if len(info) < _INFO_SIZE:
        return None
    (unacknowledged,), (taken,), (unsent,) = (
        struct.unpack_from(kind, info, place) for kind, place in (("I", 24), ("Q", 120), ("I", 144))
    )
    return taken, bool(unacknowledged or unsent)


def _shut(descriptor: int, number: int) -> bool:
    """Ends a connection, unless it has ended already and something else has its descriptor now."""
    try:
        own = os.dup(descriptor)
    except OSError:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=own) as connection:
        try:
            if os.fstat(own).st_ino != number:
                return False
            # Discards what waits for the client. The system would keep it beyond the connection's end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False
    return True
