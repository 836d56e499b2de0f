"""Strangers who open connections and do nothing with them: nobody else notices, and nothing of it stays."""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import socket
import ssl
import statistics
import threading
import time

import pytest
import trustme
from support.roots import Root
from support.serving import API, Serving, new_key
from support.syncing import wait_for

from registry_mirror.server import connections
from registry_mirror.server.bodies import Bodies, TooManyBodiesError
from registry_mirror.server.connections import (
    Activity,
    Connection,
    ConnectionLimits,
    ConnectionRequests,
    excess,
    overdue,
)

STRANGER, CLIENT = "127.0.0.2", "127.0.0.3"
CONTENT = os.urandom(1 << 20) * 8
SOON = "import registry_mirror.server.connections as c; c.TAKEN_WITHIN = c.ASKED_AGAIN_WITHIN = 2; c.ASKED_WITHIN = 1"


def connection(number=1, address="a", *, moved=0.0, seen=0.0, waiting=False, under_way=None, at=0.0):
    requests = None if under_way is None else ConnectionRequests(under_way, at)
    return Connection(number, (address, number), seen, moved, waiting=waiting, requests=requests)


@pytest.mark.parametrize(
    ("one", "now", "why"),
    [
        (connection(), 20, ""),
        (connection(), 21, "silent"),
        (connection(moved=20), 21, "silent"),  # a handshake moves bytes, and asks for nothing
        (connection(under_way=0, at=5), 65, ""),
        (connection(under_way=0, at=5), 66, "idle"),
        (connection(under_way=0, at=5, moved=30), 66, ""),  # a large body went on after it was handed over
        (connection(under_way=1, at=5), 10_000, ""),  # it waits for us
        (connection(under_way=1, at=5, waiting=True, moved=9), 69, ""),
        (connection(under_way=1, at=5, waiting=True, moved=9), 70, "unread"),
        (connection(under_way=0, at=60, waiting=True, moved=9), 70, "unread"),  # requests do not make up for it
        (connection(waiting=True, moved=0), 61, "unread"),
    ],
)
def test_a_connection_that_does_nothing_is_overdue(one, now, why):
    assert overdue(one, now) == why


def test_a_client_that_takes_a_few_bytes_now_and_then_has_taken_nothing():
    one = connection()
    one.note(0, 0.0, waiting=True)
    for second in range(60):
        one.note(second * 60, float(second), waiting=True)
    assert overdue(one, 61) == "unread"
    one.note(5000, 60.0, waiting=True)
    assert overdue(one, 61) == ""


def test_an_address_keeps_its_share_and_the_quietest_go():
    many = [connection(number, "a", under_way=0, at=float(number)) for number in range(1, 8)]
    few = [connection(10 + number, "b", under_way=0, at=0.0) for number in range(2)]
    busy = connection(20, "a", under_way=1, at=0.0)
    gone = excess([*many, *few, busy], ConnectionLimits(16))
    assert [(each.number, why) for each, why in gone] == [(4, "share"), (3, "share"), (2, "share"), (1, "share")]


def test_a_proxy_has_no_share_and_loses_last_when_all_is_full():
    proxied = [connection(number, "proxy", under_way=0) for number in range(9)]
    direct = [connection(20 + number, f"client {number % 2}", under_way=0) for number in range(4)]
    limits = ConnectionLimits(10, exempt=lambda address: address == "proxy")
    assert excess(proxied, limits) == []
    assert {each.peer[0] for each, _ in excess(proxied + direct, limits)} == {"client 0", "client 1"}
    assert [why for _, why in excess(proxied * 2, limits)] == ["full"] * 8


def test_a_machine_has_one_share_of_all_its_ipv6_addresses():
    many = [connection(number, f"2001:db8::{number:x}", under_way=0) for number in range(9)]
    assert len(excess(many, ConnectionLimits(16))) == 5
    assert (
        excess(
            [connection(number, f"::ffff:192.0.2.{number}", under_way=0) for number in range(9)], ConnectionLimits(16)
        )
        == []
    )


def test_what_was_asked_on_a_connection_is_forgotten_with_it():
    activity = Activity()
    one, other = activity.begin(("a", 1), 1.0), activity.begin(("a", 2), 1.0)
    activity.end(one, 2.0)
    activity.keep([], before=2.0)
    assert activity.of(("a", 1)) is one  # it may have come after the look
    activity.keep([], before=3.0)
    assert (activity.of(("a", 1)), activity.of(("a", 2))) == (None, other)
    activity.keep([("a", 2)], before=9.0)
    assert activity.of(("a", 2)) is other


def test_a_client_has_half_of_the_memory_for_bodies_and_a_proxy_all_of_it():
    bodies = Bodies()
    with bodies.admit("a", 60 << 20), bodies.admit("b", 10 << 20), bodies.admit("a"):
        with pytest.raises(TooManyBodiesError):
            bodies.admit("a", 8 << 20).__enter__()
        with bodies.admit("proxy", 1 << 20, exempt=True), bodies.admit("proxy", 50 << 20, exempt=True):
            with pytest.raises(TooManyBodiesError):
                bodies.admit("c", 10 << 20).__enter__()
            with bodies.admit("c"):
                pass
    with bodies.admit("a", 1 << 30):  # whatever its size, it is sent when nothing else is
        pass
    assert not bodies._held
    assert not bodies._all


def test_pieces_grow_with_what_is_taken_and_shrink_with_the_number_of_bodies():
    bodies = Bodies()
    with contextlib.ExitStack() as stack:
        stack.enter_context(bodies.admit("a"))
        assert [bodies.piece(number) >> 10 for number in (0, 15, 16, 32, 64, 10_000)] == [16, 16, 32, 64, 256, 256]
        for _ in range(99):
            stack.enter_context(bodies.admit("a"))
        assert bodies.piece(10_000) < 64 << 10
        assert bodies.piece(10_000) * 7 * 100 <= 32 << 20


# -- a real server ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = Root(tmp_path_factory.mktemp("siege") / "root")
    root.add("big", CONTENT)
    for number in range(40):
        root.add(f"model-{number}", b"%d" % number, metadata={"notes": "x" * 4000})
    root.publish()
    return root


@pytest.fixture(scope="module")
def key(root):
    return new_key(root.path)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A certificate for 127.0.0.1: what the server is told of it, and what its clients trust."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    env = {"MIRROR_SERVE_TLS_CERT": str(folder / "cert.pem"), "MIRROR_SERVE_TLS_KEY": str(folder / "key.pem")}
    return env, trusted


class Strangers:
    """Connections from one address, until the block ends."""

    def __init__(self, server: Serving, source: str = STRANGER) -> None:
        self._server, self._source = server, source
        self.all: list[socket.socket] = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in self.all:
            each.close()

    def come(self, count: int, said: bytes, tls: ssl.SSLContext | None = None) -> None:
        """So many, who say this and then neither read nor speak. One that is turned away does not come again."""
        for _ in range(count):
            made = socket.socket()
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.bind((self._source, 0))
            made.settimeout(10)
            with contextlib.suppress(OSError):
                made.connect((self._server.host, self._server.port))
                if tls is not None:
                    made = tls.wrap_socket(made, server_hostname="127.0.0.1")
                made.setblocking(False)
                made.send(said)
            self.all.append(made)

    def left(self) -> int:
        """How many the server has not let go."""
        poll = select.poll()
        for each in self.all:
            poll.register(each, select.POLLRDHUP)
        return len(self.all) - len(poll.poll(0))


class Customer(threading.Thread):
    """Lists and downloads with a key from an address of its own, and notes how long each answer took."""

    def __init__(self, server: Serving, key: dict[str, str], path: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(daemon=True)
        self._server, self._key, self._path, self._tls = server, key, path, tls
        self.stop = threading.Event()
        self.took: list[float] = []
        self.failed: list[object] = []

    def _get(self, path: str, headers: dict[str, str]) -> bytes:
        more = {"context": self._tls} if self._tls else {}
        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        made = kind(self._server.host, self._server.port, timeout=20, source_address=(CLIENT, 0), **more)
        try:
            made.request("GET", path, headers=headers)
            answer = made.getresponse()
            body = answer.read()
            if answer.status != 200:
                self.failed.append((answer.status, body[:200]))
            return body
        finally:
            made.close()

    def run(self) -> None:
        while not self.stop.is_set():
            for path, headers in (
                (f"{API}/?limit=10", self._key),
                (self._path, {}),
                ("/healthz", {}),
                ("/metrics", self._key),
            ):
                began = time.monotonic()
                try:
                    self._get(path, headers)
                except (OSError, http.client.HTTPException) as error:
                    self.failed.append((error, path, time.monotonic() - began))
                self.took.append(time.monotonic() - began)


def pipelined(path: str, count: int, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode() * count


def test_two_thousand_strangers_keep_nobody_waiting(root, key, tls):
    env, trusted = tls
    soon = SOON.replace("ASKED_WITHIN = 1", "ASKED_WITHIN = 6")  # a busy machine holds up a customer for seconds
    with Serving(root.path, before=soon) as plain, Serving(root.path, before=soon, env=env, tls=trusted) as secure:
        paths = [each.download_url("big", headers=key).removeprefix(each.url) for each in (plain, secure)]
        small = [each.download_url("model-7", headers=key).removeprefix(each.url) for each in (plain, secure)]
        customers = [Customer(plain, key, small[0]), Customer(secure, key, small[1], trusted)]
        before = [len(each.descriptors()) for each in (plain, secure)]
        for each in customers:
            each.start()
        most = [0, 0]
        with Strangers(plain) as strangers, Strangers(secure) as behind_tls:
            for said in (
                b"",
                b"GET /healthz HTTP/1.1\r\nHost: 127.0",
                pipelined("/openapi.json", 100),
                pipelined(paths[0], 1, "Range: bytes=1-\r\n"),
                pipelined("/healthz", 1),
            ):
                strangers.come(340, said)
                most = [max(pair) for pair in zip(most, (plain.memory(), secure.memory()), strict=True)]
            behind_tls.come(300, b"", trusted)
            wait_for(lambda: all(len(each.took) >= 40 or each.failed for each in customers), 90)
            wait_for(lambda: not strangers.left() and not behind_tls.left(), 90)
            most = [max(pair) for pair in zip(most, (plain.memory(), secure.memory()), strict=True)]
        for each in customers:
            each.stop.set()
            each.join()
            assert not each.failed, each.failed[:3]
            # The strangers share this process with the clients, and the machine with other tests: some are held up.
            assert statistics.median(each.took) < 1, sorted(each.took)[-5:]
            assert statistics.quantiles(each.took, n=10)[-1] < 3, sorted(each.took)[-5:]
        assert max(most) < 400 << 20
        for each, count in zip((plain, secure), before, strict=True):
            wait_for(lambda each=each, count=count: len(each.descriptors()) <= count + 2, 10)
            assert "Traceback" not in each.text
        assert "connections of 127.0.0.2: an address may have 512 at once" in plain.text
        assert plain.metrics(key)['mirror_http_connections_let_go_total{reason="share"}'] > 0


KINDS = {
    "silent": (b"", "silent"),
    "a list that nobody reads": (pipelined(f"{API}/?limit=1000", 50), "unread"),
    "idle": (pipelined("/healthz", 1), "idle"),
}


@pytest.mark.parametrize(("said", "why"), KINDS.values(), ids=KINDS)
def test_each_kind_is_let_go_and_counted(root, said, why):
    """Below any share: time alone ends them. Those that ask for nothing end without a word of hyper's too."""
    quick = SOON + "; import registry_mirror.server.run as r; r._HEADERS_WITHIN = 60000"
    with Serving(root.path, "--without-keys", before=quick) as server, Strangers(server) as strangers:
        strangers.come(5, said)
        wait_for(lambda: not strangers.left(), 15)
        assert server.metrics()[f'mirror_http_connections_let_go_total{{reason="{why}"}}'] >= 5


def test_a_reader_that_is_slow_is_kept(root):
    with Serving(root.path, "--without-keys", before=SOON) as server, socket.socket() as slow:
        path = server.download_url("big").removeprefix(server.url)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        slow.settimeout(20)
        slow.connect((server.host, server.port))
        slow.sendall(pipelined(path, 1, "Connection: close\r\n"))
        began, got = time.monotonic(), 0
        while piece := slow.recv(32 << 10):
            got += len(piece)
            if time.monotonic() < began + 4:
                time.sleep(0.03)  # this is what is tested: a client that takes little at a time
        assert time.monotonic() > began + 3
        assert got > len(CONTENT)


def test_more_memory_than_there_is_for_bodies_is_a_503_that_says_when(tmp_path):
    """A list that waits for its reader holds its bytes; of one address no more than half of all."""
    root = Root(tmp_path / "root")
    for number in range(10):
        root.add(f"model-{number}", None, metadata={"notes": "x" * 400_000})
    root.publish()
    key, little = new_key(root.path), "import registry_mirror.server.bodies as b; b._ALL = 40 << 20"
    with Serving(root.path, before=little) as server, Strangers(server) as readers:
        readers.come(12, pipelined(f"{API}/?limit=1000", 9, f"X-API-Key: {key['X-API-Key']}\r\n"))
        wait_for(lambda: " 503 " in server.text, 10)
        assert server.get(f"{API}/?limit=1000", key).status == 200  # another address
        made = http.client.HTTPConnection(server.host, server.port, timeout=10, source_address=(STRANGER, 0))
        made.request("GET", f"{API}/?limit=1000", headers=key)
        answer = made.getresponse()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert b"memory" in answer.read()
        made.close()


def test_few_descriptors_are_few_connections_and_said(root):
    import resource

    limit = 200 + 3 * 40
    with Serving(
        root.path, "--without-keys", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, limit))
    ) as server:
        assert "40 connections at once, not the 2048 of serve.max_connections" in server.text
        with Strangers(server) as strangers:
            strangers.come(200, b"")
            wait_for(lambda: strangers.left() <= 10, 10)
            assert server.get("/healthz").status == 200


def test_the_limits_are_those_that_the_documents_tell():
    assert (connections.TAKEN_WITHIN, connections.ASKED_WITHIN, connections.ASKED_AGAIN_WITHIN) == (60, 20, 60)
    assert ConnectionLimits(2048).share == 512
