"""The address under which a client reached the server, for links that it can follow. Pure.

Forwarded headers count only from a trusted proxy, because any client could send them.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253})|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")


class BadHostError(ValueError):
    """The Host header, or a forwarded header, is malformed."""


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The networks whose forwarded headers count."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

    @classmethod
    def of(cls, networks: Iterable[str]) -> TrustedProxies:
        """Parses networks in CIDR notation."""
        return cls(tuple(ipaddress.ip_network(each) for each in networks))

    def trust(self, address: str) -> bool:
        """Returns whether an address is in one of them. An IPv4-mapped IPv6 address counts as IPv4."""
        return _within(address, self.networks)


@functools.lru_cache(maxsize=1024)
def _within(address: str, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in networks)


@dataclass(frozen=True, slots=True)
class Peer:
    """What the connection itself tells: the scheme, the client's address, the server's own `host:port`."""

    scheme: str
    address: str
    server: str


def base_url(
    headers: Mapping[str, str], peer: Peer, proxies: TrustedProxies, public_url: str | None = None, prefix: str = ""
) -> str:
    """Returns the URL under which a client reached this server, without a slash at its end.

    Args:
        headers: the request's headers, with names in lower case.
        peer: what the connection tells.
        proxies: the trusted ones.
        public_url: the configured URL, which then is the answer.
        prefix: the configured prefix if the request's path had it.

    Raises:
        BadHostError: a header is malformed.
    """
    if public_url is not None:
        return public_url
    scheme, host = peer.scheme, headers.get("host", "").strip() or peer.server
    if proxies.trust(peer.address):
        scheme = _last(headers, "x-forwarded-proto", scheme).lower()
        host = _last(headers, "x-forwarded-host", host)
        prefix = _last(headers, "x-forwarded-prefix", prefix)
    if scheme not in ("http", "https"):
        raise BadHostError("the forwarded scheme is neither http nor https")
    if not _HOST.fullmatch(host):
        raise BadHostError("the Host header names no host")
    if not _PREFIX.fullmatch(prefix):
        raise BadHostError("the forwarded prefix is no path")
    return f"{scheme}://{host}{prefix.rstrip('/')}"


@functools.lru_cache(maxsize=1024)
def is_own(host: str, names: frozenset[str]) -> bool:
    """Returns whether a Host header names loopback or one of `names` (in lower case), or is absent.

    A foreign web page may let its own name resolve to 127.0.0.1 (DNS rebinding), and could then read what is served
    there. The browser sends that name in the header.
    """
    if not host:
        return True
    if not _HOST.fullmatch(host):
        return False
    bare = re.sub(r":[0-9]+$", "", host).strip("[]").lower()
    return is_loopback(bare) or bare in names


def client_address(headers: Mapping[str, str], peer: Peer, proxies: TrustedProxies) -> str:
    """Returns the client's address: the last one in X-Forwarded-For that is not a trusted proxy's."""
    if "x-forwarded-for" not in headers or not proxies.trust(peer.address):
        return peer.address
    for hop in reversed([each.strip() for each in headers["x-forwarded-for"].split(",")]):
        if not _is_address(hop):
            break
        if not proxies.trust(hop):
            return hop
    return peer.address


@functools.lru_cache(maxsize=1024)
def client_network(address: str) -> str:
    """Returns what counts as one client: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4 or found.ipv4_mapped is not None:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False))


def _last(headers: Mapping[str, str], name: str, default: str) -> str:
    """Returns a forwarded header's last value, which the trusted proxy itself wrote."""
    return headers.get(name, "").rpartition(",")[2].strip() or default


def _is_address(text: str) -> bool:
    """Returns whether a hop is an IP address. One with a scope does not count: any text may follow the %."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
