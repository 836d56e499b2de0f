"""The options of `[serve]`, and what their values must look like. Standard library only."""

from __future__ import annotations

import re

from . import kinds
from .invalid import Invalid, quote
from .kinds import Option

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_PUBLIC = re.compile(r"https?://[\w.\-\[\]:]+(/[A-Za-z0-9._~-]+)*", re.IGNORECASE)


def _host(value: str) -> str:
    """An address or a name to listen on, without brackets, port or scheme."""
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if not re.fullmatch(r"[\w.-]+|[0-9a-fA-F.]*:[0-9a-fA-F:.]*", bare):
        raise Invalid(f"is {quote(value)}, not an address", 'write it like "127.0.0.1", "0.0.0.0", "::" or a host name')
    return bare


def _path_prefix(value: str) -> str:
    prefix = value.rstrip("/")
    if not _PREFIX.fullmatch(prefix):
        raise Invalid(f"is {quote(value)}, not a path prefix", 'write it like "/models"')
    return prefix


def _public_url(value: str) -> str:
    url = value.rstrip("/")
    if not _PUBLIC.fullmatch(url):
        raise Invalid(f"is {quote(value)}, not an http or https URL", 'write it like "https://mirror.example/models"')
    return url


SERVE_OPTIONS = (
    Option(
        "serve.host",
        kinds.text("address or host name", check=_host),
        "127.0.0.1",
        "The address that `mirror serve` listens on.",
        "Loopback shows the models to this machine only. Another address needs client keys, or without_keys.",
    ),
    Option(
        "serve.port",
        kinds.whole(0, 65535),
        8080,
        "The port that `mirror serve` listens on.",
        "It needs no rights. 0 takes a free one and says which.",
    ),
    Option(
        "serve.workers",
        kinds.whole(1, 64),
        1,
        "How many processes serve.",
        "One process fills a line with weights; more help only with many small calls. More "
        "than one needs signing_key_file, and cannot fetch.",
    ),
    Option(
        "serve.max_connections",
        kinds.whole(16, 100_000),
        2048,
        "How many connections are kept at once.",
        "One address may have a quarter of them, so that no client keeps the others out; trusted_proxies may have all. "
        "Beyond that, those go that have been quiet for longest. Each takes two of the descriptors that `ulimit -n` "
        "allows.",
    ),
    Option(
        "serve.public_url",
        kinds.text("http or https URL", check=_public_url),
        None,
        "The address at which clients reach this server, for the download addresses that it gives out.",
        "Without it the address that the client used is taken, from its Host header or from a trusted proxy's "
        "forwarded headers, which is right for most.",
    ),
    Option(
        "serve.path_prefix",
        kinds.text("path", check=_path_prefix),
        None,
        "A path in front of every address, for a proxy that passes requests on with it.",
        "A proxy that strips the path and says so in X-Forwarded-Prefix needs none.",
    ),
    Option(
        "serve.trusted_proxies",
        kinds.networks(),
        ["127.0.0.1", "::1"],
        "Addresses or networks of proxies whose forwarded headers are believed.",
        "From anybody else X-Forwarded-For, -Proto, -Host and -Prefix are ignored: a client could write them itself.",
    ),
    Option(
        "serve.keys_file",
        kinds.path("path"),
        None,
        "The file of client keys that `mirror keys` writes, instead of ROOT/keys.toml.",
        "A root on a read-only mount has no place for one. A file that is named here and is not there ends `mirror "
        "serve` with 2.",
    ),
    Option(
        "serve.require_keys",
        kinds.flag(),
        False,  # noqa: FBT003 - a column of the table
        "Whether to ask for a client key always, on loopback and while there are no keys too.",
        "For a server behind a proxy: the proxy connects from loopback, and a lost file of keys must open no door.",
    ),
    Option(
        "serve.without_keys",
        kinds.flag(),
        False,  # noqa: FBT003 - a column of the table
        "Whether to serve everybody who reaches the address, without a key.",
        "On loopback that is so anyway while there is no file of client keys. Elsewhere it takes a deliberate line, "
        "because it gives every model to anyone on the network.",
    ),
    Option(
        "serve.signing_key_file",
        kinds.path("path"),
        None,
        "A file of at least 32 random bytes or characters that signs download addresses.",
        "Without it each start makes a key of its own, so that addresses end with the process. Several processes or "
        "machines behind one name need the same file.",
    ),
    Option(
        "serve.url_ttl",
        kinds.duration("10s", "7d"),
        "1h",
        "How long a download address is good for.",
        "It carries no key, so whoever sees it may use it until then. A download that has begun goes on.",
    ),
    Option(
        "serve.tls_cert",
        kinds.path("path"),
        None,
        "A certificate in PEM, with its chain, to serve https.",
        "Needs tls_key. Without both it is plain http, and client keys can be read on the way.",
    ),
    Option(
        "serve.tls_key",
        kinds.path("path"),
        None,
        "The private key of tls_cert, in PEM.",
        "In a file of its own, readable by the account that serves.",
    ),
    Option(
        "serve.fetch",
        kinds.flag(),
        False,  # noqa: FBT003 - a column of the table
        "Whether to fetch the weights of ready models from the upstream when a client asks for them first.",
        "Serving needs no network, no API key and no right to write; fetching needs all three.",
    ),
    Option(
        "serve.access_log",
        kinds.flag(),
        True,  # noqa: FBT003 - a column of the table
        "Whether to write a line for each request to standard error.",
        "No line has a key or a signature in it. A proxy in front may write its own.",
    ),
)
