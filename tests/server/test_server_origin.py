"""The address that a client used, and whom of those that forward to believe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_mirror.server.proxies import BadHostError, Peer, TrustedProxies, base_url, client_address

PROXIES = TrustedProxies.of(["127.0.0.1", "::1", "10.1.0.0/16"])
STRANGER = Peer("http", "192.0.2.7", "192.0.2.1:8080")
PROXY = Peer("http", "10.1.2.3", "192.0.2.1:8080")


def of(peer: Peer = STRANGER, prefix: str = "", public: str | None = None, **headers: str) -> str:
    return base_url({key.replace("_", "-"): value for key, value in headers.items()}, peer, PROXIES, public, prefix)


@pytest.mark.parametrize(
    "host",
    ["mirror", "mirror:8080", "mirror.example.org", "192.0.2.1:1", "[::1]", "[2001:db8::1]:8443", "a_b-c.d", "mirror."],
)
def test_the_host_is_the_one_that_the_client_named(host):
    assert of(host=host) == f"http://{host}"


def test_without_a_host_it_is_the_address_of_the_server_itself():
    assert of() == "http://192.0.2.1:8080"


@pytest.mark.parametrize(
    "host",
    [
        "a b",
        "a/b",
        "user@host",
        "host?x",
        "host#x",
        "host\\x",
        "a, b",
        "host:port",
        "host:999999",
        "[::1",
        "::1",
        '"><script>',
        "h\u00f6st",
        "-",
        "host:",
        "a" * 300,
        "host\r\nX: y",
        "host\nx",
    ],
)
def test_what_is_no_host_is_refused(host):
    with pytest.raises(BadHostError):
        of(host=host)


def test_a_stranger_forwards_nothing():
    forwarded = {"x_forwarded_proto": "https", "x_forwarded_host": "evil.example", "x_forwarded_prefix": "/evil"}
    assert of(host="mirror", **forwarded) == "http://mirror"


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ({}, "http://mirror"),
        ({"x_forwarded_proto": "https"}, "https://mirror"),
        ({"x_forwarded_proto": "HTTPS"}, "https://mirror"),
        ({"x_forwarded_host": "front.example:8443"}, "http://front.example:8443"),
        ({"x_forwarded_host": "evil.example, front.example"}, "http://front.example"),
        ({"x_forwarded_prefix": "/models"}, "http://mirror/models"),
        ({"x_forwarded_prefix": "/models/"}, "http://mirror/models"),
        ({"x_forwarded_prefix": "/"}, "http://mirror"),
        ({"x_forwarded_proto": ""}, "http://mirror"),
    ],
)
def test_a_proxy_is_believed(forwarded, expected):
    assert of(PROXY, host="mirror", **forwarded) == expected


@pytest.mark.parametrize(
    "forwarded",
    [
        {"x_forwarded_proto": "javascript"},
        {"x_forwarded_host": "a b"},
        {"x_forwarded_prefix": "//evil.example"},
        {"x_forwarded_prefix": "models"},
        {"x_forwarded_prefix": "/a?b"},
    ],
)
def test_what_a_proxy_forwards_must_be_an_address_too(forwarded):
    with pytest.raises(BadHostError):
        of(PROXY, host="mirror", **forwarded)


def test_a_prefix_of_our_own_stands_in_the_address_when_it_was_asked_with_it():
    assert of(host="mirror", prefix="/models") == "http://mirror/models"
    assert of(PROXY, host="mirror", prefix="/models", x_forwarded_prefix="/other") == "http://mirror/other"


def test_what_the_operator_says_is_not_looked_at_again():
    assert of(host="a b", public="https://mirror.example/x") == "https://mirror.example/x"


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.7", "198.51.100.9", "192.0.2.7"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "198.51.100.9", "198.51.100.9"),
        ("10.1.2.3", "1.1.1.1, 198.51.100.9, 10.1.9.9", "198.51.100.9"),
        ("10.1.2.3", "198.51.100.9, nonsense", "10.1.2.3"),
        ("10.1.2.3", "10.1.0.1, 10.1.0.2", "10.1.2.3"),
        ("::ffff:10.1.2.3", "198.51.100.9", "198.51.100.9"),
        ("::1", "2001:db8::5", "2001:db8::5"),
        ("", "198.51.100.9", ""),
        ("unix:", "198.51.100.9", "unix:"),
    ],
)
def test_the_client_is_the_last_one_that_is_no_proxy(peer, forwarded, expected):
    assert client_address({"x-forwarded-for": forwarded}, Peer("http", peer, ""), PROXIES) == expected


@given(st.text(max_size=60))
def test_an_address_that_comes_out_is_one(host):
    try:
        found = of(host=host)
    except BadHostError:
        return
    assert found.startswith("http://")
    assert not set(found[7:]) & set(" /?#@\\\r\n\t\"'<>")


@pytest.mark.parametrize("hop", ["fe80::1%x bob GET", "fe80::1%\x9b31m", "fe80::1%eth0"])
def test_an_address_with_a_scope_is_no_hop(hop):
    """Any text may stand behind the %, and it would stand in the log as fields of its own."""
    assert (
        client_address({"x-forwarded-for": hop}, Peer("http", "127.0.0.1", "s:1"), TrustedProxies.of(["127.0.0.1"]))
        == "127.0.0.1"
    )
