"""Where a download may lead: the verdict on an address that the upstream gave. Pure.

The address comes from somebody else and is dialled from inside the network of whoever runs the mirror. So an upstream
may not point at this machine, at the link's own addresses (where clouds answer with credentials), or at anything but
http. Private networks are allowed: storage on the premises is one. A name is not resolved here: what it resolves to is
the resolver's word, and no promise is made about it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import ProtocolError
from .answers import one_line

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address
    from urllib.parse import SplitResult

    Address = IPv4Address | IPv6Address

LONGEST = 16 * 1024
"""Characters; signed addresses have hundreds, those with a session's token a few thousand."""

# 127.1, 2130706433 and 0x7f000001 are 127.0.0.1 for the system's resolver, and no address for `ipaddress`.
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}")
_HOST = re.compile(r"[\w.-]{1,253}|[0-9a-f.]*:[0-9a-f:.]*(%[\w.-]+)?", re.IGNORECASE | re.ASCII)
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
# Cloud metadata that is not link-local: one in a private range, one in the range of carriers.
_METADATA = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def check_target(what: str, url: str, base_url: str) -> str:
    """The address, when it may be dialled.

    Args:
        base_url: the upstream's own; one on loopback may point at anything, it is on this machine itself.

    Raises:
        ProtocolError: it may not. The message names the host at most: the rest of a signed address is a secret.
    """
    reason = refusal(url, base_url)
    if reason is None:
        return url
    raise ProtocolError(
        f"{what}: the download address that the upstream gave is refused: {reason}",
        hint="nothing was asked of it; if upstream.base_url is right, tell whoever runs the upstream",
    )


def refusal(url: str, base_url: str) -> str | None:
    """Why an address must not be dialled; None when it may."""
    if len(url) > LONGEST:
        return f"it has {len(url)} characters"
    # urlsplit drops tabs and line ends in silence, so that the address checked would not be the one dialled.
    if not url.isprintable() or any(letter.isspace() or letter == "\\" for letter in url):
        return "it has white space, a backslash or a control character in it"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "its host or port is none"
    return _wrong_form(parts, host) or _wrong_place(host, urlsplit(base_url).hostname or "")


def _wrong_form(parts: SplitResult, host: str) -> str | None:
    if parts.scheme not in ("http", "https"):
        return f"it is no http or https address but {one_line(parts.scheme)[:20] or 'a relative one'!r}"
    if not host or not _HOST.fullmatch(host):
        return "it names no sound host"
    if "@" in parts.netloc:
        return f"it carries a user or a password (host {host})"
    return None


def _wrong_place(host: str, upstream: str) -> str | None:
    """Why an upstream of that host must not point at this one."""
    if _is_this_machine(upstream):
        return None
    name = host.rstrip(".").lower()
    address = _address(name)
    if address is None and _NUMERIC.fullmatch(name):
        return f"its host {name} is a number in disguise"
    if _is_this_machine(name):
        return f"its host {name} is this machine"
    if name in _METADATA_NAMES or address in _METADATA:
        return f"its host {name} gives out a cloud's credentials"
    if address is None:
        return None
    if address.is_link_local and not _is_link_local(upstream):
        return f"its host {name} is of the link alone, where clouds give out credentials"
    if address.is_multicast or address.is_unspecified or (address.version == 4 and address.is_reserved):
        return f"its host {name} is no address of one machine"
    return None


def _is_this_machine(host: str) -> bool:
    name = host.rstrip(".").lower()
    address = _address(name)
    if address is None:
        return name == "localhost" or name.endswith(".localhost")
    return address.is_loopback or address.is_unspecified or (address.version == 4 and address.packed[0] == 0)


def _is_link_local(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_link_local


def _address(host: str) -> Address | None:
    """An address literal; one that is IPv4 in the clothes of IPv6 as what it is."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    if address.packed[:12] == bytes(12) and address.packed[12:] not in (bytes(4), b"\0\0\0\1"):
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address
