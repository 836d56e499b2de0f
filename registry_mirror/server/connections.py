"""Who is connected, and which connections are let go: those that do nothing, and those beyond their share.

The server accepts connections and tells nobody of them, so a thread looks at the process's own descriptors, as `ss`
would, and shuts down what has to go. Linux tells how much of an answer a client has taken; elsewhere only the requests
count.
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
"""Seconds in which a client takes something of an answer that waits for it."""
ASKED_WITHIN = 20.0
"""Seconds until the first request of a connection; a handshake is none."""
ASKED_AGAIN_WITHIN = 60.0
"""Seconds between two requests of a connection."""

_SOMETHING = 4096  # fewer bytes in that time are a client that holds a place, not one that reads
_CALM, _BUSY = 1.0, 0.1
_SAID_EVERY = 10.0
_OTHERS = 200  # descriptors of the index, of threads, of fetches
_LEAST_CONNECTIONS = 16
_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
_ABORT = struct.pack("ii", 1, 0)
_TCP_INFO = getattr(socket, "TCP_INFO", None)
_INFO_SIZE = 148

_log = logger("server")

Peer = tuple[str, int]


@dataclass(slots=True)
class Requests:
    """The requests of one connection: how many are under way, and when the last one began or ended."""

    under_way: int = 0
    at: float = 0.0


class Activity:
    """What is asked on each connection. The event loop writes it, and the thread that looks reads it."""

    def __init__(self) -> None:
        self._of: dict[Peer, Requests] = {}
        self._lock = threading.Lock()

    def begin(self, peer: Peer, now: float) -> Requests:
        """A request has come."""
        with self._lock:
            requests = self._of.get(peer)
            if requests is None:
                requests = self._of[peer] = Requests()
            requests.under_way += 1
        requests.at = now
        return requests

    @staticmethod
    def end(requests: Requests, now: float) -> None:
        """Its answer was handed over."""
        requests.under_way -= 1
        requests.at = now

    def of(self, peer: Peer) -> Requests | None:
        """Those of a connection; None before its first."""
        return self._of.get(peer)

    def keep(self, peers: Iterable[Peer], before: float) -> None:
        """Forgets the connections that are gone.

        Args:
            peers: all that are connected.
            before: when they were looked for; one that asked later may be a new one.
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
        number: of its socket, as the system counts them.
        seen: when it was first looked at.
        moved: when its client had last taken something.
        taken: bytes that it had taken by then.
        waiting: whether bytes wait for the client.
        requests: None before the first.
    """

    number: int
    peer: Peer
    seen: float
    moved: float
    taken: int = 0
    waiting: bool = False
    requests: Requests | None = None

    def note(self, taken: int, now: float, *, waiting: bool) -> None:
        """What the system tells of it."""
        if taken - self.taken >= _SOMETHING or (waiting and not self.waiting):
            self.moved, self.taken = now, taken
        self.waiting = waiting

    @property
    def is_busy(self) -> bool:
        """Whether it waits for us."""
        return not self.waiting and self.requests is not None and self.requests.under_way > 0

    @property
    def active(self) -> float:
        """When its client last did something."""
        return max(self.moved, self.requests.at if self.requests is not None and not self.waiting else self.seen)


def overdue(connection: Connection, now: float) -> str:
    """Why a connection is let go, in a word; empty when it may stay."""
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
        connections: of all.
        exempt: tells a trusted proxy's address, which stands for many clients and has no share.
    """

    connections: int
    exempt: Callable[[str], bool] = field(default=lambda _address: False)

    @property
    def share(self) -> int:
        """How many of them one address may have."""
        return max(self.connections // 4, 1)


def excess(connections: Sequence[Connection], limits: ConnectionLimits) -> list[tuple[Connection, str]]:
    """Those beyond a share, or beyond all. Of each address those go that have been quiet for longest.

    Beyond all, the address with most connections loses first, and a proxy last.
    """
    by_client: dict[str, list[Connection]] = {}
    for each in connections:
        address = each.peer[0]
        by_client.setdefault(address if limits.exempt(address) else client_network(address), []).append(each)
    found: list[tuple[Connection, str]] = []
    left: list[tuple[bool, int, Connection]] = []
    for client, those in by_client.items():
        those.sort(key=lambda each: (not each.is_busy, -each.active))  # the quietest stands last
        kept = len(those) if limits.exempt(client) else limits.share
        found += [(each, "share") for each in those[kept:]]
        left += [(limits.exempt(client), -place, each) for place, each in enumerate(those[:kept])]
    left.sort(key=lambda each: each[:2])
    return found + [(each, "full") for _, _, each in left[: max(len(left) - limits.connections, 0)]]


def places(wanted: int, waiting: int) -> tuple[int, int]:
    """Has the system let this process have the descriptors for so many connections, and as many bodies.

    Args:
        wanted: connections.
        waiting: those that are accepted beyond them, until a look lets them go.

    Returns:
        How many connections there can be, and how many are accepted.

    Raises:
        ConfigurationError: the system allows too few descriptors for any.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = 2 * wanted + waiting + _OTHERS
    if hard != resource.RLIM_INFINITY:
        allowed = min(allowed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        with contextlib.suppress(OSError, ValueError):  # macOS has a limit of its own below the one it tells
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
    """Looks after the connections of one process, on a thread of its own.

    Args:
        port: that clients connect to.
        let_go: is told why a connection was let go, in a word.
    """

    def __init__(self, port: int, activity: Activity, limits: ConnectionLimits, let_go: Callable[[str], None]) -> None:
        self._port, self._activity, self._limits, self._let_go = port, activity, limits, let_go
        self._known: dict[int, Connection] = {}
        self._unsaid: Counter[tuple[str, str]] = Counter()
        self._said = float("-inf")

    def start(self) -> None:
        """From now on, for as long as the process lives."""
        threading.Thread(target=self._run, name="connections", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                over = self.look(time.monotonic())
            except Exception:  # noqa: BLE001 - a thread that ends here would leave the door to anybody
                _log.exception("looking at the connections")
                over = False
            time.sleep(_BUSY if over else _CALM)

    def look(self, now: float) -> bool:
        """One look. Tells whether there were too many, so that the next look should be soon."""
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
        """Tells the operator, in few lines however many there were."""
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
    """The connections to a port that this process has open: descriptor, number, peer, and what the system tells."""
    for name in os.listdir(_DESCRIPTORS):
        with contextlib.suppress(OSError, ValueError):
            descriptor = int(name)
            found = os.fstat(descriptor)
            if not stat.S_ISSOCK(found.st_mode):
                continue
            # The descriptor stays the server's. Any family's address fits into the room that is made for one of IPv6.
            looked_at = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, fileno=descriptor)
            try:
                own = looked_at.getsockname()
                if isinstance(own, tuple) and own[1] == port:
                    host, peer_port = looked_at.getpeername()[:2]
                    yield descriptor, found.st_ino, (host.partition("%")[0], peer_port), _told(looked_at)
            finally:
                looked_at.detach()


def _told(connection: socket.socket) -> tuple[int, bool] | None:
    """How many bytes the other side has taken, and whether more wait for it; None where the system does not tell."""
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
    """Ends a connection, unless it ended by itself and the descriptor is another's by now."""
    try:
        own = os.dup(descriptor)
    except OSError:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=own) as connection:
        try:
            if os.fstat(own).st_ino != number:
                return False
            # What waits for the client is thrown away: else the system keeps it after the connection's end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False
    return True
