"""Every call ends, however slowly its answer comes: a byte now and then is no answer."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from itertools import repeat
from urllib.parse import parse_qs, urlsplit

import httpcore
import pytest
import trustme
from support.documents import make_document

from registry_mirror import Client, errors
from registry_mirror.sources.api.session import AnswerTooLargeError
from registry_mirror.transfer.body import Body
from registry_mirror.transfer.http import Backend, is_over, within
from registry_mirror.transfer.retry import RetryPolicy

TIMEOUT = 0.08
MOST = (
    15.0  # four timeouts take a third of a second, a busy machine more; what is held here would take 16 s or for ever
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Once(RetryPolicy):
    def call(self, act, progressed=lambda: False):
        return act()


@contextlib.contextmanager
def server(answer, context=None):
    """A server that gives each connection to `answer`, with what sends bytes one at a time until the client leaves."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip(connection, pieces):
        for piece in pieces:
            connection.sendall(piece)
            if over.wait(TIMEOUT / 5):
                return

    def talk(connection):
        with contextlib.suppress(OSError), connection:
            encrypted = context.wrap_socket(connection, server_side=True) if context else None
            with encrypted or contextlib.nullcontext(connection) as talking:
                answer(talking, lambda pieces: drip(talking, pieces))

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def dripping(begin, pieces):
    def answer(connection, drip):
        connection.recv(65536)
        connection.sendall(begin)
        drip(pieces())

    return answer


def client_of(port):
    return Client("k", f"http://127.0.0.1:{port}", timeout=TIMEOUT, retry=Once())


def ends(call, kind=errors.RequestTimeoutError, said="in time"):
    began = time.monotonic()
    with pytest.raises(kind, match=said) as caught:
        call()
    assert time.monotonic() - began < MOST
    return caught.value


DRIPS = {
    "the body": dripping(HEAD + b"Content-Length: 100000\r\n\r\n", lambda: repeat(b" ")),
    "a body in chunks": dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", lambda: repeat(b"1\r\n \r\n")),
    "a chunk's extension": dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", lambda: repeat(b"x")),
    "the trailers": dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", lambda: repeat(b"a: b\r\n")),
    "the headers": dripping(HEAD, lambda: repeat(b"A: b\r\n")),
    "the status line": dripping(b"HTTP/1.1 200 ", lambda: repeat(b"x")),
    "hints for ever": dripping(b"", lambda: repeat(b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n")),
    "a compressed body": dripping(HEAD + b"Content-Encoding: gzip\r\n\r\n", lambda: (bytes([each]) for each in GZIP)),
    "the body of an error": dripping(b"HTTP/1.1 503 No\r\nContent-Length: 99999\r\n\r\n", lambda: repeat(b"x")),
}
GZIP = b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"n" * 10_000  # a file name that does not end


@pytest.mark.parametrize("kind", DRIPS)
def test_an_answer_of_the_api_that_drips_ends_after_four_timeouts_and_names_the_call_and_the_host(kind):
    with server(DRIPS[kind]) as port, client_of(port) as client:
        failure = ends(client.models.list)
    assert str(failure) == f"list models: no answer from 127.0.0.1:{port} in time"


@pytest.mark.parametrize("kind", ["a chunk's extension", "the trailers"])
def test_what_frames_a_body_of_storage_may_not_drip_either(kind):
    with (
        server(DRIPS[kind]) as port,
        client_of(port) as client,
        Body("model 'm'", f"http://127.0.0.1:{port}/b", client.storage._client) as body,
    ):
        ends(lambda: list(body.chunks()))


def test_an_error_of_storage_whose_words_drip_is_an_error_without_words():
    with server(DRIPS["the body of an error"]) as port, client_of(port) as client:
        ends(lambda: client.storage.look("model 'm'", f"http://127.0.0.1:{port}/b"), errors.TransferError, "HTTP 503$")


@pytest.mark.parametrize("kind", ["the headers", "the status line", "hints for ever"])
def test_an_answer_of_storage_that_does_not_begin_ends_as_well(kind):
    with server(DRIPS[kind]) as port, client_of(port) as client:
        ends(
            lambda: client.storage.look("model 'm'", f"http://127.0.0.1:{port}/b?sig=hidden"), said="model 'm'.*in time"
        )


def test_a_flood_of_hints_ends_too():
    def flood(connection, _drip):
        connection.recv(65536)
        while True:
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)

    with server(flood) as port, client_of(port) as client:
        ends(client.models.list)


def test_a_proxy_that_drips_its_answer_ends():
    with server(dripping(b"HTTP/1.1 200 OK\r\n", lambda: repeat(b"A: b\r\n"))) as port:
        reach = {"base_url": "https://registry.example", "proxy": f"http://127.0.0.1:{port}"}
        with Client("k", timeout=TIMEOUT, retry=Once(), **reach) as client:
            ends(client.models.list)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls(authority, tmp_path):
    """A server's context, and the file that makes it trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return context, tmp_path / "ca.pem"


def test_tls_that_drips_inside_the_tls_of_a_proxy_ends(tls):
    context, ca_file = tls

    def tunnel(connection, drip):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.recv(65536)
        connection.sendall(b"\x16\x03\x03\x40\x00")
        drip(repeat(b"\0"))

    with server(tunnel, context) as port:
        reach = {"base_url": "https://registry.example", "proxy": f"https://localhost:{port}", "ca_file": ca_file}
        with Client("k", timeout=TIMEOUT, retry=Once(), **reach) as client:
            ends(client.models.list)


def test_an_answer_over_tls_that_drips_ends(tls):
    context, ca_file = tls
    with server(DRIPS["the body"], context) as port:
        reach = {"base_url": f"https://localhost:{port}", "ca_file": ca_file}
        with Client("k", timeout=TIMEOUT, retry=Once(), **reach) as client:
            ends(client.models.list)


def test_an_answer_that_is_too_large_for_the_line_is_asked_for_in_smaller_pieces():
    begin = HEAD + b"Content-Length: 9999999\r\n\r\n" + b" " * 3_000_000
    with server(dripping(begin, lambda: repeat(b" "))) as port, client_of(port) as client:
        ends(lambda: client.session.call("list models", "GET", "/models/"), AnswerTooLargeError, "only 2.9 MiB")


STEADILY = b"Content-Length: 99999\r\n\r\n", lambda: repeat(b" " * 100)  # some 6,000 bytes a second


def test_a_small_answer_that_comes_steadily_but_too_slowly_is_asked_for_in_smaller_pieces_too():
    begin, pieces = STEADILY
    with server(dripping(HEAD + begin, pieces)) as port, client_of(port) as client:
        ends(lambda: client.session.call("list models", "GET", "/models/"), AnswerTooLargeError, "in time")


def test_an_error_that_comes_steadily_but_too_slowly_is_no_answer():
    begin, pieces = STEADILY
    with server(dripping(b"HTTP/1.1 503 No\r\n" + begin, pieces)) as port, client_of(port) as client:
        ends(client.models.list)


def test_a_listing_on_a_slow_line_comes_whole():
    """Eight rows of 2 KB take half a second, of which a third is there for each answer."""
    rows = [{**make_document(number), "notes": "x" * 1400} for number in range(8)]

    def answer(connection, drip):
        query = parse_qs(urlsplit(connection.recv(65536).split()[1].decode()).query)
        first, limit = int(query["offset"][0]), int(query["limit"][0])
        listed = {"data": rows[first : first + limit], "pagination": {"has_more": first + limit < len(rows)}}
        body = json.dumps(listed).encode()
        connection.sendall(HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body))
        drip(body[start : start + 500] for start in range(0, len(body), 500))

    with server(answer) as port, client_of(port) as client:
        assert [model.id for model in client.models.iter(page_size=8)] == [row["id"] for row in rows]


class Recorded:
    """A network of which each connection takes as long as it may."""

    def __init__(self, clock, answers=()):
        self.clock, self.answers, self.asked = clock, answers, []

    def connect_tcp(self, host, _port, timeout, *_):
        self.asked.append((host, timeout))
        if host in self.answers:
            return httpcore.MockStream([b"hello"])
        self.clock[0] += timeout
        raise httpcore.ConnectTimeout("silent")


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("registry_mirror.transfer.http.time.monotonic", lambda: now[0])
    return now


def resolving(monkeypatch, *addresses):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 443)) for each in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_all_addresses_of_a_name_share_the_timeout(monkeypatch, clock, count):
    addresses = [f"192.0.2.{number}" for number in range(count)]
    resolving(monkeypatch, *addresses)
    backend = Backend()
    backend._network = network = Recorded(clock)
    with pytest.raises(httpcore.ConnectTimeout):
        backend.connect_tcp("registry.example", 443, timeout=30.0)
    assert [host for host, _ in network.asked] == addresses
    assert sum(timeout for _, timeout in network.asked) == pytest.approx(30.0)


def test_an_address_that_is_silent_leaves_time_for_the_next(monkeypatch, clock):
    resolving(monkeypatch, "192.0.2.1", "192.0.2.2")
    backend = Backend()
    backend._network = Recorded(clock, answers=["192.0.2.2"])
    assert backend.connect_tcp("registry.example", 443, timeout=30.0).read(5) == b"hello"


def test_a_name_that_no_resolver_can_take_is_no_fault():
    with pytest.raises(httpcore.ConnectError):
        Backend().connect_tcp("x" * 70 + ".example", 443, timeout=1.0)


def test_an_inner_deadline_does_not_outlast_the_outer_one_and_none_stays(clock):
    with within(10.0):
        with within(100.0):
            clock[0] += 11.0
            assert is_over()
        with within(None):
            assert is_over()
    assert not is_over()
    with within(5.0):
        assert not is_over()
