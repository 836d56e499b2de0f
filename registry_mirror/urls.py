"""Checks the URLs that an operator gives. Pure; standard library only.

Both the rooms that make connections and the room that reads the configuration need these checks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .errors import ConfigurationError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_BASE_EXAMPLE = 'write it like "https://api.pictograph.io"'
_PROXY_EXAMPLE = 'write it like "http://proxy.example:3128"'
_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_base_url(url: str, allow_http: bool = False) -> str:  # noqa: FBT001, FBT002 - the setting of that name
    """Returns the base URL in its normal form, so that one upstream has one spelling.

    The normal form has no white space around it, no slash at its end, scheme and host in lower case and no default
    port. A path prefix is kept. The URL must be https, because the API key is sent to it; http is accepted for loopback
    addresses, or when `allow_http` says that the network in between is trusted.

    Raises:
        ConfigurationError: the URL is not such a URL. The message shows no password, query or fragment of it.
    """
    parts = _split(url, "base URL", _BASE_EXAMPLE)
    shown = hide_secrets(url.strip())
    if "@" in url:  # also in the path: in "https://user:1/x@host" the password holds a slash, and the host is "user"
        raise ConfigurationError(
            f"the base URL {shown!r} carries a user or a password",
            hint="leave it out: the API key is the only credential",
        )
    if "?" in url or "#" in url:
        raise ConfigurationError(f"the base URL {shown!r} carries a query or a fragment", hint="end it before ? or #")
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname or ""):
        raise ConfigurationError(
            f"the base URL {shown!r} would carry the API key over plain http",
            hint="use https, or set allow_http = true if the network in between is trusted",
        )
    return f"{parts.scheme}://{_authority(parts)}{parts.path.rstrip('/')}"


def check_proxy(url: str) -> str:
    """Returns a proxy's URL without white space around it and slashes at its end. It may hold a user and a password.

    Raises:
        ConfigurationError: the URL is not an http or https URL with a host. The message shows no password of it.
    """
    parts = _split(url, "proxy", _PROXY_EXAMPLE)
    if parts.path.strip("/") or "?" in url or "#" in url:
        raise ConfigurationError(
            f"the proxy {hide_secrets(url.strip())!r} has something after its host and port",
            hint="end it there, and write a /, ? or # in its password as %2F, %3F or %23",
        )
    return url.strip().rstrip("/")


def is_loopback(host: str) -> bool:
    """Returns whether a host is this machine (`localhost`, 127.0.0.0/8 or ::1), without asking a resolver."""
    import ipaddress

    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_loopback
    return address == ipaddress.IPv6Address("::1")


def hide_secrets(url: str) -> str:
    """Returns a URL that may be shown: the part before an @, and any query or fragment, become `****`.

    It accepts any text, because an error shows even a malformed URL, which may still hold a password.
    """
    if "@" in url and re.search(r"[?#]", url):  # the password may end at either character, so hide everything
        return f"{_scheme(url)}****"
    return re.sub(r"[?#].*$", "?****", hide_password(url), flags=re.DOTALL)


def hide_password(url: str) -> str:
    """Returns a URL with everything between the scheme and the last @ masked. All other parts are kept."""
    _, at, rest = url.rpartition("@")
    return f"{_scheme(url)}****@{rest}" if at else url


def _scheme(url: str) -> str:
    match = re.match(r"[a-z][a-z0-9+.-]*://", url, re.IGNORECASE)
    return match[0] if match else ""


def _split(url: str, what: str, example: str) -> SplitResult:
    """Returns the parts of an http or https URL with a host and a valid port, or raises ConfigurationError."""
    from urllib.parse import urlsplit

    text = url.strip()
    shown = hide_secrets(text)
    if not text:
        raise ConfigurationError(f"the {what} is empty", hint=example)
    # urlsplit silently drops tabs and line ends, so the checked URL would differ from the given one.
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in text):
        raise ConfigurationError(f"the {what} {shown!r} has white space or a backslash in it", hint=example)
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"the {what} {shown!r} has a bad host or port", hint=example) from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ConfigurationError(f"the {what} {shown!r} is not an http or https URL", hint=example)
    if not host:
        raise ConfigurationError(f"the {what} {shown!r} names no host", hint=example)
    if not re.fullmatch(r"[\w.-]+|[0-9a-fA-F.]*:[0-9a-fA-F:.]*(%\w+)?", host):
        raise ConfigurationError(f"the {what} {shown!r} has a bad host or port", hint=example)
    return parts


def _authority(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if parts.port is None or parts.port == _DEFAULT_PORTS[parts.scheme]:
        return host
    return f"{host}:{parts.port}"
