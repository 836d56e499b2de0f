"""Bad input, slow clients, vanished clients: each gets what it deserves and costs nothing that lasts."""

from __future__ import annotations

import contextlib
import os
import re
import threading

import pytest
from support.roots import Root
from support.serving import API, Serving, vanishing
from support.syncing import wait_for

CONTENT = os.urandom(1 << 20) * 24
QUICK = "import registry_mirror.server.run as run; run._HEADERS_WITHIN = 700"
A = API.encode()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = Root(tmp_path_factory.mktemp("rude") / "root")
    root.add("big", CONTENT)
    root.add("small", b"small", organization_id="org", visibility="private")
    root.publish()
    return root


@pytest.fixture(scope="module")
def server(root):
    with Serving(root.path, "--without-keys", before=QUICK) as running:
        yield running
        assert "Traceback" not in running.text, running.text[running.text.index("Traceback") - 300 :][:3000]
        assert not [line for line in running.log if re.search(r" /\S* 500 ", line)]


@pytest.fixture(autouse=True)
def _unharmed(server):
    """Whatever a client did: the server answers, and holds no more open than before."""
    settle(server)
    before = len(server.descriptors())
    yield
    assert server.get("/healthz").status == 200
    wait_for(lambda: not blobs_open(server), 10)
    wait_for(lambda: len(server.descriptors()) <= before + 2, 10)


def settle(server: Serving) -> None:
    """The first requests of a process open what stays open: the index, threads."""
    for path in (f"{API}/", f"{API}/small", "/healthz", "/metrics"):
        server.get(path)


def blobs_open(server: Serving) -> list[str]:
    return [name for name in server.descriptors() if "/blobs/" in name]


def status_of(answer: bytes) -> int:
    """0 when the connection just ended."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


REFUSED = {
    "huge header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n",
    "huge key": b"GET " + A + b"/ HTTP/1.1\r\nHost: x\r\nX-API-Key: " + b"a" * 300_000 + b"\r\n\r\n",
    "many headers": b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    "huge address": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "huge method": b"A" * 100_000 + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in the address": b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in a header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    "no UTF-8": b"GET " + A + b"/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "space in the address": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "two lengths": b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "negative length": b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "odd length": b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
    "odd encoding": b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "space before a colon": b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n",
    "folded header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "no protocol": b"GET /healthz\r\n\r\n",
    "odd protocol": b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
    "HTTP/2 without TLS": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 9,
    "TLS to a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x01" * 500,
    "noise": bytes(range(256)) * 8 + b"\r\n\r\n",
    "two hosts": b"GET " + A + b"/small/download HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a host that is none": b"GET " + A + b"/small/download HTTP/1.1\r\nHost: a b\r\n\r\n",
    "a tunnel": b"CONNECT internal:22 HTTP/1.1\r\nHost: internal:22\r\n\r\n",
    "a star": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_is_no_request_is_refused(server, data):
    assert status_of(server.raw(data)) in (0, 400, 404, 405, 413, 414, 431)


SERVED = {
    "HTTP/1.0 without a host": (b"GET " + A + b"/small/download HTTP/1.0\r\n\r\n", 200),
    "a body with GET": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 200),
    "chunks with GET": (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        200,
    ),
    "a write in chunks": (
        b"POST " + A + b"/bulk-delete HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        501,
    ),
    "a write that never comes": (b"POST " + A + b"/x HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\nabc", 501),
    "a write that asks first": (
        b"POST " + A + b"/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        501,
    ),
    "an upgrade": (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n\r\n",
        200,
    ),
    "bytes in the address": (b"GET " + A + "/\u00e9".encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "bytes in a header": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: \xff\xfe\r\nX: \x80\r\n\r\n", 200),
    "an odd key": (b"GET " + A + b"/small HTTP/1.1\r\nHost: x\r\nX-API-Key: \xff\r\n\r\n", 200),
    "an odd method": (b"BREW " + A + b"/ HTTP/1.1\r\nHost: x\r\n\r\n", 405),
}


@pytest.mark.parametrize(("data", "status"), SERVED.values(), ids=SERVED)
def test_what_is_odd_and_right_is_answered(server, data, status):
    assert status_of(server.raw(data)) == status


def test_nothing_is_smuggled_behind_a_body(server):
    """A length and chunks at once: whichever is believed, the bytes behind are no request that anybody sees served."""
    hidden = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with server.connect(3) as connection:
        head = b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head % (len(hidden) + 5) + b"0\r\n\r\n" + hidden)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                got += piece
    assert got.count(b"HTTP/1.1 ") <= 2
    assert b'"openapi"' not in got


@pytest.mark.parametrize("start", [b"", b"G", b"PRI * HT", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
def test_half_a_request_is_not_waited_for(server, start):
    assert (
        server.raw(start, 10) in (b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n") or status_of(server.raw(start)) == 408
    )


def test_a_request_that_trickles_is_not_waited_for(server):
    with server.connect() as connection:
        stop = threading.Event()

        def trickle() -> None:
            with contextlib.suppress(OSError):
                connection.sendall(b"GET / HTTP/1.1\r\n")
                while not stop.wait(0.05):
                    connection.sendall(b"X: y\r\n")

        feeder = threading.Thread(target=trickle)
        feeder.start()
        connection.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert b" 200 " not in connection.recv(1000)
        stop.set()
        feeder.join()


def test_many_idle_connections_keep_nobody_out(server):
    with contextlib.ExitStack() as stack:
        for number in range(300):
            connection = stack.enter_context(server.connect())
            connection.sendall(b"GET / HT"[: number % 8])
        assert server.get(f"{API}/small").status == 200
        wait_for(lambda: len([name for name in server.descriptors() if name.startswith("socket:")]) < 50, 15)


@pytest.mark.parametrize("headers", [b"", b"Range: bytes=1-\r\n"], ids=["whole", "part"])
def test_clients_that_vanish_in_a_download_cost_nothing_that_lasts(server, headers):
    path = server.download_url("big").removeprefix(server.url).encode()
    request = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n"
    for _ in range(2):  # what the first round took from the system is used again by the second
        with contextlib.ExitStack() as stack:
            for _ in range(50):
                stack.enter_context(vanishing(server, request, 1000))
        wait_for(lambda: not blobs_open(server), 10)
        taken = server.memory()
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(vanishing(server, request, 1000))
    wait_for(lambda: not blobs_open(server), 10)
    assert server.memory() < taken + (48 << 20)
    assert server.memory() < 400 << 20


def test_slow_readers_hold_little_memory(server):
    """What a client does not take stays on disk, not in the server."""
    path = server.download_url("big").removeprefix(server.url).encode()
    before = server.memory()
    with contextlib.ExitStack() as stack:
        for headers in [b"", b"Range: bytes=1-\r\n"] * 10:
            stuck = stack.enter_context(server.connect())
            stuck.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
            assert stuck.recv(1)
        assert server.get(f"{API}/small").status == 200
        assert server.memory() < before + 20 * (6 << 20)


def test_a_reader_that_stands_still_is_let_go(root):
    impatient = "import registry_mirror.server.downloads as b; b._TAKEN_WITHIN = 0.5"
    with Serving(root.path, before=impatient) as server, contextlib.ExitStack() as stack:
        path = server.download_url("big").removeprefix(server.url).encode()
        request = b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nRange: bytes=1-\r\n\r\n"
        for _ in range(5):
            stuck = stack.enter_context(server.connect())
            stuck.sendall(request)
            assert stuck.recv(1)
        wait_for(lambda: "the client took nothing for 0.5 s" in server.text, 10)
        wait_for(lambda: not blobs_open(server), 10)
        assert server.get(f"{API}/small").status == 200
