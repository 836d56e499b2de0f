"""Decides whether the mirror may connect to a download address that the upstream gave. Pure.

The upstream chooses the address, but the connection is made from inside the operator's network. So an upstream may not
point at this machine, at link-local addresses (where clouds give out credentials), or at anything but http and https.
Private networks are allowed, because storage on the premises is in one. The numeric address is checked once more when
a connection is made to it, so that a changed DNS answer cannot get around the check.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import ProtocolError
from .responses import one_line

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address
    from urllib.parse import SplitResult

    Address = IPv4Address | IPv6Address

LONGEST = 16 * 1024
"""Characters. A signed address has hundreds, or a few thousand with a session token."""

# The system's resolver reads 127.1, 2130706433 and 0x7f000001 as 127.0.0.1; `ipaddress` does not accept them.
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}")
_HOST = re.compile(r"[\w.-]{1,253}|[0-9a-f.]*:[0-9a-f:.]*(%[\w.-]+)?", re.IGNORECASE | re.ASCII)
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
# Addresses where clouds give out credentials, in addition to the link-local ones.
_METADATA = frozenset(
    ipaddress.ip_address(each)
    for each in (
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's host
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # Amazon
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
        "fd00:c1::a9fe:a9fe",  # Oracle
        "fd00:42::42",  # Scaleway
        "fd00:a9fe:a9fe::1",  # Akamai
    )
)
# IPv6 prefixes that hold an IPv4 address in their last four bytes (RFC 6052, RFC 2765).
_EMBEDDING = tuple(
    ipaddress.ip_network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96")
)
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")


def check_target(what: str, url: str, base_url: str) -> str:
    """Returns the download address if the mirror may connect to it.

    Args:
        what: the model, for the error.
        url: the download address.
        base_url: the upstream's own address. An upstream on loopback may point at any host, because it is on this
            machine itself.

    Raises:
        ProtocolError: the address is refused. The message names at most the host: the rest of the address is secret.
    """
    reason = refusal(url, base_url)
    if reason is None:
        return url
    raise ProtocolError(
        f"{what}: the download address that the upstream gave is refused: {reason}",
        hint="nothing was asked of it; if upstream.base_url is right, tell whoever runs the upstream",
    )


def refusal(url: str, base_url: str) -> str | None:
    """The reason not to connect to a download address; None if it is allowed. Arguments as for `check_target`."""
    if len(url) > LONGEST:
        return f"it has {len(url)} characters"
    # urlsplit silently drops tabs and newlines, so the address checked could differ from the one connected to.
    if not url.isprintable() or any(letter.isspace() or letter == "\\" for letter in url):
        return "it has white space, a backslash or a control character in it"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "its host or port is none"
    return _wrong_form(parts, host) or _wrong_place(host, urlsplit(base_url).hostname or "")


def refused_address(host: str, address: str, base_url: str, own_name: str = "") -> str | None:
    """The reason not to connect to an address that a host name resolved to; None if it is allowed.

    Args:
        host: the name, or an address literal.
        address: the numeric address.
        base_url: the upstream's own address. The upstream's own host is allowed: the API key goes there anyway.
        own_name: host name of this machine.
    """
    upstream = (urlsplit(base_url).hostname or "").rstrip(".").lower()
    name = host.rstrip(".").lower()
    if name == upstream or _is_this_machine(upstream):
        return None
    if own_name and name in (own_name.lower(), own_name.lower().partition(".")[0]):
        return f"its host {name} is this machine"
    reason = _wrong_place(address, upstream)
    return None if reason is None else reason.replace(address, f"{name} ({address})", 1)


def _wrong_form(parts: SplitResult, host: str) -> str | None:
    if parts.scheme not in ("http", "https"):
        return f"it is no http or https address but {one_line(parts.scheme)[:20] or 'a relative one'!r}"
    if not host or not _HOST.fullmatch(host):
        return "it names no sound host"
    if "@" in parts.netloc:
        return f"it carries a user or a password (host {host})"
    return None


def _wrong_place(host: str, upstream: str) -> str | None:
    """The reason why an upstream on the host `upstream` must not point at `host`; None if it may."""
    if _is_this_machine(upstream):
        return None
    name = host.rstrip(".").lower()
    addresses = _addresses(name)
    if not addresses and _NUMERIC.fullmatch(name):
        return f"its host {name} is a number in disguise"
    if _is_this_machine(name):
        return f"its host {name} is this machine"
    if name in _METADATA_NAMES or any(each in _METADATA for each in addresses):
        return f"its host {name} gives out a cloud's credentials"
    if any(each.is_link_local for each in addresses) and not _is_link_local(upstream):
        return f"its host {name} is of the link alone, where clouds give out credentials"
    if any(each.is_multicast or each.is_unspecified or (each.version == 4 and each.is_reserved) for each in addresses):
        return f"its host {name} is no address of one machine"
    return None


def _is_this_machine(host: str) -> bool:
    name = host.rstrip(".").lower()
    addresses = _addresses(name)
    if not addresses:
        return name == "localhost" or name.endswith(".localhost")
    return any(
        each.is_loopback or each.is_unspecified or (each.version == 4 and each.packed[0] == 0) for each in addresses
    )


def _is_link_local(host: str) -> bool:
    return any(each.is_link_local for each in _addresses(host))


def _addresses(host: str) -> tuple[Address, ...]:
    """The address of a literal, and the IPv4 addresses that an IPv6 literal may contain; empty for a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ()
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    found: list[Address] = [address]
    if any(address in network for network in _EMBEDDING) and not (address.is_loopback or address.is_unspecified):
        found.append(ipaddress.IPv4Address(address.packed[-4:]))
    if address in _LOCAL_NAT64:  # after a prefix of 48 bits, a zero byte splits the IPv4 address
        found.append(ipaddress.IPv4Address(address.packed[6:8] + address.packed[9:11]))
    found += [each for each in (address.ipv4_mapped, address.sixtofour) if each is not None]
    return (*found, *(address.teredo or ())[1:])
