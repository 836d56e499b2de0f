"""Reads the environment's settings of the network: proxies and certificates. Standard library only.

The libraries that read these variables fail on some values with errors that name neither the variable nor the cure, or
fail only when a connection is made. So this module reads them, both for making connections and for checking first.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import ConfigurationError
from .urls import check_proxy, hide_secrets, is_loopback

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from pathlib import Path

_SOCKS = ("socks5", "socks5h")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """The URL of a proxy, which may hold a password, and the setting that it comes from."""

    url: str
    origin: str


def check_network(proxy: str | None, ca_file: Path | None) -> None:
    """Refuses an environment with which no request could be sent.

    Args:
        proxy: the configured proxy. When it is set, the environment's proxies are not used and not checked.
        ca_file: the configured certificates, as in `trusted`.

    Raises:
        ConfigurationError: a variable cannot be used. The message names the variable and shows no password.
    """
    if proxy is None:
        proxies()
    trusted(os.environ, ca_file)


def proxies() -> dict[str, Proxy]:
    """Returns the environment's proxies for `http`, `https` and `all`; if it has none, those of the system.

    Raises:
        ConfigurationError: one of the proxies cannot be used.
    """
    from urllib.request import getproxies

    found = getproxies()
    named = {
        scheme: Proxy(found[scheme], _variable(scheme)) for scheme in ("http", "https", "all") if found.get(scheme)
    }
    return {scheme: usable_proxy(each) for scheme, each in named.items()}


def _variable(scheme: str) -> str:
    lower = f"{scheme}_proxy"
    return f"environment {lower if os.environ.get(lower) else lower.upper()}"


def usable_proxy(given: Proxy) -> Proxy:
    """Returns the proxy with a URL that a client accepts. A URL without a scheme gets http.

    Raises:
        ConfigurationError: the URL is no proxy's, or is of a SOCKS proxy and the package socksio is missing.
    """
    url = given.url.strip()
    url = url if "://" in url else f"http://{url}"
    scheme, _, rest = url.partition("://")
    socks = scheme.lower() in _SOCKS
    if socks and not _has_socks():
        raise ConfigurationError(
            f"{given.origin}: the proxy {hide_secrets(url)!r} needs the package socksio, which is not installed",
            hint="`pip install socksio`, or name an http proxy",
        )
    try:
        checked = check_proxy(f"http://{rest}" if socks else url)
    except ConfigurationError as error:
        raise ConfigurationError(f"{given.origin}: {error.message}", hint=error.hint) from None
    return Proxy(f"{scheme.lower()}{checked[4:]}" if socks else checked, given.origin)


def _has_socks() -> bool:
    from importlib.util import find_spec

    return find_spec("socksio") is not None


def proxy_for(scheme: str, host: str, port: int | None, named: Mapping[str, Proxy]) -> Proxy | None:
    """Returns the proxy for a host; None for a direct connection, as to this machine and to hosts in NO_PROXY."""
    proxy = named.get(scheme) or named.get("all")
    return None if proxy is None or is_loopback(host) or bypassed(host, port or _PORTS.get(scheme)) else proxy


def bypassed(host: str, port: int | None = None) -> bool:
    """Returns whether NO_PROXY lists a host.

    An entry may be a name, which includes its subdomains, an address or a network (`10.0.0.0/8`, `fd00::/8`), each with
    or without brackets and a port, or a pattern with `*`. Any other entry matches nothing.
    """
    entries = re.split(r"[,\s]+", os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "")
    return any(_lists(entry.rpartition("://")[2].lower(), host.lower().rstrip("."), port) for entry in entries if entry)


def _lists(entry: str, host: str, port: int | None) -> bool:
    import ipaddress
    from fnmatch import fnmatchcase

    wanted = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*):(\d+)", entry)
    if wanted:
        if int(wanted[2]) != port:
            return False
        entry = wanted[1]
    entry = re.sub(r"[\[\]]", "", entry)
    try:
        return ipaddress.ip_address(host.strip("[]")) in ipaddress.ip_network(entry, strict=False)
    except (ValueError, TypeError):
        pass
    if "*" in entry:
        return fnmatchcase(host, entry)
    name = entry.strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def trusted(env: Mapping[str, str], ca_file: Path | None) -> ssl.SSLContext | None:
    """Returns a TLS context with the certificates of SSL_CERT_FILE, else of SSL_CERT_DIR; None when neither is set.

    Args:
        ca_file: certificates that the configuration trusts in addition. When it is set, a variable that cannot be used
            gives a context without any certificates, since the variable was meant to replace the usual ones.

    Raises:
        ConfigurationError: TLS cannot use the value of SSLKEYLOGFILE, or of a variable while `ca_file` is None.
    """
    import ssl

    if env.get("SSLKEYLOGFILE"):
        _check_key_log(env["SSLKEYLOGFILE"])
    try:
        if env.get("SSL_CERT_FILE"):
            return _trusting_file(env["SSL_CERT_FILE"])
        return _trusting_folders(env["SSL_CERT_DIR"]) if env.get("SSL_CERT_DIR") else None
    except ConfigurationError:
        if ca_file is None:
            raise
    return ssl.create_default_context(capath=os.devnull)  # no certificates at all


def _trusting_file(path: str) -> ssl.SSLContext:
    import ssl

    try:
        if not os.path.isfile(path):  # opening a pipe would block
            os.stat(path)
            raise _refused("SSL_CERT_FILE", path, "is no file")
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise _refused("SSL_CERT_FILE", path, "holds no certificates") from None
    except OSError as error:
        raise _refused("SSL_CERT_FILE", path, f"cannot be read: {error.strerror}") from None


def _trusting_folders(paths: str) -> ssl.SSLContext:
    """Checks that a folder holds certificates: OpenSSL reads it only when it needs one, and reports no missing ones."""
    import ssl

    reason = "holds no certificates under the names that `openssl rehash` gives them"
    for path in paths.split(os.pathsep):
        try:
            if any(re.fullmatch(r"[0-9a-f]{8}\.\d+", name) for name in os.listdir(path or os.curdir)):
                return ssl.create_default_context(capath=paths)
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
    raise _refused("SSL_CERT_DIR", paths, reason)


def _check_key_log(path: str) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600))
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        raise ConfigurationError(f"environment SSLKEYLOGFILE: {path} {reason}", hint="unset the variable") from None


def _refused(variable: str, path: str, reason: str) -> ConfigurationError:
    cure = "unset the variable, or name certificates in PEM with it or with upstream.ca_file"
    return ConfigurationError(f"environment {variable}: {path} {reason}", hint=cure)


def cores() -> int:
    """Returns how many cores this process may use. A container's CPU quota does not lower the number."""
    usable: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1
