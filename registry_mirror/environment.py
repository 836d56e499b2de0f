"""What the environment says of the network: proxies and certificates. Standard library only.

The libraries that read these variables trip over some values with errors that name neither the variable nor the cure,
or do so only when a connection is made. So they are read here, for the session that dials and for whoever checks first.
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
    """The URL of a proxy, which may hold a password, and what named it."""

    url: str
    origin: str


def check_network(proxy: str | None, ca_file: Path | None) -> None:
    """Refuses an environment with which no call could be made.

    Args:
        proxy: the configured one, beside which those of the environment do not count.
        ca_file: the configured one, see `trusted`.

    Raises:
        ConfigurationError: a variable cannot be used; the message names it and shows no password.
    """
    if proxy is None:
        proxies()
    trusted(os.environ, ca_file)


def proxies() -> dict[str, Proxy]:
    """The proxies of the environment for `http`, `https` and `all`; where it has none, those of the system.

    Raises:
        ConfigurationError: one of them cannot be used.
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
    """The same with a URL that a client takes; one without a scheme is http.

    Raises:
        ConfigurationError: it is no such URL.
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
    """Which of these proxies a call goes through; None for none, as for this machine and what NO_PROXY lists."""
    proxy = named.get(scheme) or named.get("all")
    return None if proxy is None or is_loopback(host) or bypassed(host, port or _PORTS.get(scheme)) else proxy


def bypassed(host: str, port: int | None = None) -> bool:
    """Whether NO_PROXY lists a host.

    It takes names, which stand for what is below them as well, addresses, networks (`10.0.0.0/8`, `fd00::/8`), each
    with or without brackets and a port, and patterns with `*`. What is none of these matches nothing.
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
    """TLS that trusts the certificates of SSL_CERT_FILE, else of SSL_CERT_DIR; None where neither is set.

    Args:
        ca_file: what the configuration trusts besides. Where it is set, a variable that cannot be used adds nothing:
            not the usual certificates either, which the variable was to replace.

    Raises:
        ConfigurationError: a variable, or SSLKEYLOGFILE, names what TLS could not use.
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
        if not os.path.isfile(path):  # a pipe would be waited for
            os.stat(path)
            raise _refused("SSL_CERT_FILE", path, "is no file")
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise _refused("SSL_CERT_FILE", path, "holds no certificates") from None
    except OSError as error:
        raise _refused("SSL_CERT_FILE", path, f"cannot be read: {error.strerror}") from None


def _trusting_folders(paths: str) -> ssl.SSLContext:
    """OpenSSL looks into such a folder when it needs a certificate, and is silent about what is not there."""
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
    """How many cores this process may use. A container's quota of them is not seen in it."""
    usable: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1
