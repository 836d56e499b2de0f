"""Turns settings into a plan and the plan into a server, and refuses one that would give away more than was meant."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from ..index.reader import IndexReader
from ..status import read_last_run
from ..store.layout import Layout
from ..urls import is_loopback
from .auth import Authenticator, KeyRing
from .context import ServerContext
from .metrics import Metrics
from .proxies import TrustedProxies
from .signing import Signer, key_from_file, process_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..config import Settings
    from ..secret import Secret
    from .context import FetchProvider

_MANY_NEED_A_KEY = "put at least 32 random characters in a file and name it as serve.signing_key_file"


@dataclass(frozen=True, slots=True)
class ServePlan:
    """What is decided before the server listens.

    Attributes:
        asks: whether requests need a client key.
        base_url: the URL under which this machine reaches the server.
        keyless: whether requests need a key and there is none yet.
    """

    settings: Settings
    asks: bool
    base_url: str
    keyless: bool = False

    def described(self) -> str:
        """Returns one line for the operator."""
        who = "client keys are asked for"
        if not self.asks:
            who = f"no keys: whoever reaches {self.settings.serve.host} may read"
        elif self.keyless:
            who = "client keys are asked for, and nobody has one yet; make one with `mirror keys add NAME`"
        return f"serving {self.settings.root} at {self.base_url} ({who})"


def keys_path(settings: Settings) -> Path:
    """Returns the path of the file of client keys."""
    return settings.serve.keys_file or Layout(settings.root).keys


def decide(settings: Settings, port: int) -> ServePlan:
    """Checks the settings against each other, and reads the keys.

    Raises:
        ConfigurationError: the settings contradict each other, or a file cannot be read.
    """
    serve = settings.serve
    ring = KeyRing(keys_path(settings))
    asks = _asks(settings, ring)
    if serve.workers > 1 and serve.fetch:
        raise ConfigurationError(
            "fetching for clients needs a single worker, so that everything is fetched once",
            hint="set serve.workers to 1, or leave --fetch out",
        )
    if serve.workers > 1 and serve.signing_key_file is None:
        raise ConfigurationError("several workers need one key to sign addresses with", hint=_MANY_NEED_A_KEY)
    _check_tls(serve.tls_cert, serve.tls_key)
    _signing_key(settings)
    scheme = "http" if serve.tls_cert is None else "https"
    host = shown_host(serve.host)
    host = f"[{host}]" if ":" in host else host
    return ServePlan(settings, asks, f"{scheme}://{host}:{port}{serve.path_prefix or ''}", asks and not ring.keys())


def shown_host(host: str) -> str:
    """Returns an address under which others reach a server that listens on `host`."""
    if host not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return host
    family, elsewhere = (socket.AF_INET6, "2001:db8::1") if host == "::" else (socket.AF_INET, "192.0.2.1")
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asked:
        asked.connect((elsewhere, 9))  # sends nothing; the system only chooses its own address for that route
        found: str = asked.getsockname()[0]
        return found
    return "::1" if host == "::" else "127.0.0.1"


def _asks(settings: Settings, ring: KeyRing) -> bool:
    """Returns whether requests need a key from the start. A lost file of keys must not open a server behind a proxy."""
    serve, closes = settings.serve, ring.closes()
    if serve.without_keys:
        if serve.require_keys:
            raise ConfigurationError(
                "serve.require_keys and serve.without_keys say the opposite of each other", hint="leave one of them out"
            )
        return False
    if not closes and serve.keys_file is not None:
        raise ConfigurationError(
            f"serve.keys_file {serve.keys_file} is not there",
            hint="make keys with `mirror keys add NAME`, put the file back, or leave the setting out",
        )
    if not closes and not serve.require_keys and not is_loopback(serve.host):
        raise ConfigurationError(
            f"serving on {serve.host} without client keys would give every model to anyone who reaches it",
            hint="make keys with `mirror keys add NAME`, or say --without-keys if that is meant",
        )
    return closes or serve.require_keys


def _signing_key(settings: Settings) -> Secret:
    file = settings.serve.signing_key_file
    return process_key() if file is None else key_from_file(file)


def _check_tls(certificate: Path | None, key: Path | None) -> None:
    if (certificate is None) != (key is None):
        raise ConfigurationError("https needs both serve.tls_cert and serve.tls_key", hint="set the other one too")
    if certificate is None or key is None:
        return
    try:
        # Without `password`, OpenSSL would ask for one on the terminal, which a service does not have.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        reason = _tls_reason(error)
        raise ConfigurationError(
            f"serve.tls_cert {certificate} and serve.tls_key {key} cannot be used: {reason}",
            hint="name a certificate with its chain and its private key without a password, both in PEM",
        ) from error


def _tls_reason(error: OSError | ValueError) -> str:
    """Explains an error of OpenSSL, whose own texts say little."""
    raw = getattr(error, "strerror", None) or str(error)
    if not isinstance(error, ssl.SSLError):
        return raw
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key is not the one that the certificate was made for ({raw})"
    return f"one of them is not in PEM, is in the place of the other, or the key has a password ({raw})"


def site_of(plan: ServePlan, fetcher: Callable[[Settings], FetchProvider] | None) -> ServerContext:
    """Makes the server's context from a plan, in the process that serves."""
    settings, layout = plan.settings, Layout(plan.settings.root)
    serve = settings.serve
    return ServerContext(
        layout=layout,
        reader=IndexReader(layout.index),
        guard=Authenticator(KeyRing(keys_path(settings)), open_to_all=serve.without_keys, closed=plan.asks),
        signer=Signer(_signing_key(settings), serve.url_ttl),
        metrics=Metrics(),
        proxies=TrustedProxies.of(serve.trusted_proxies),
        last_run=lambda: read_last_run(layout.run_record),
        public_url=serve.public_url,
        path_prefix=serve.path_prefix,
        fetcher=None if fetcher is None or not serve.fetch else fetcher(settings),
        own_hosts=_own_hosts(settings),
    )


def _own_hosts(settings: Settings) -> frozenset[str] | None:
    """Returns the host names that a request without a key may use. None allows any name."""
    serve = settings.serve
    if serve.without_keys or not is_loopback(serve.host):
        return None
    names = (serve.host, urlsplit(serve.public_url or "").hostname)
    return frozenset(name.lower() for name in names if name)
