"""Every setting: its type, bounds, default and description, in one place. Standard library only.

The parser of config.toml, the names in the environment and `mirror config show` are made from these classes, and
`make docs` writes config.example.toml and the reference of docs/configuration.md from them. The other packages get
instances of them, whose values have been checked.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from ..urls import hide_password
from . import kinds
from .filters import Rule, rules
from .kinds import Option

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """`[upstream]`: how the registry is reached.

    `timeout` and `retry_budget` are in seconds. `proxy` may carry a password.
    """

    base_url: str = kinds.text("URL", show=hide_password).setting(
        "The remote registry that this root mirrors.",
        "It is https because the API key travels to it; http is for loopback, or for a trusted network with "
        "allow_http. A path prefix is kept, so another mirror behind a reverse proxy can be the upstream too.",
        default="https://api.pictograph.io",
        also_env=("PICTOGRAPH_BASE_URL",),
    )
    api_key_env: str = kinds.environment_name().setting(
        "The name of the environment variable that holds the API key.",
        "The official SDK reads the same variable, so a box that runs it needs nothing new. The key itself is never "
        "in config.toml, which gets copied, committed and shown.",
        default="PICTOGRAPH_API_KEY",
    )
    api_key_file: Path | None = kinds.key_file().setting(
        "A file whose only line is the API key; it wins over the environment variable.",
        "A cron job or a service has no shell profile to export from, and container and systemd secrets are files.",
        example="/etc/registry-mirror/api.key",
    )
    allow_http: bool = kinds.switch().setting(
        "Whether the base URL may be plain http on a host other than this one.",
        "Over http anyone on the way can read the API key, so it takes a second, deliberate line.",
        default=False,
    )
    timeout: float = kinds.duration("1s", "1h").setting(
        "How long to wait for a connection, or for the next bytes, before the call counts as failed.",
        "An answer of the API may take four times as long in all, so a call ends after its four tries, sixteen times "
        "this and retry_budget. It is not a limit on a whole download: large weights take as long as they keep "
        "coming, and those that stalled go on over a new connection.",
        default="30s",
        details="What follows from it: all addresses of a name share it for connecting, TLS gets it once more, and so "
        "do the headers of a proxy. An answer of the API, from connecting to its last byte, and an answer of the "
        "storage up to the end of its headers have four times as much, whatever comes meanwhile. Only how long the "
        "system asks for a name is up to its resolver.",
    )
    retry_budget: float = kinds.duration("0s", "10m").setting(
        "How long a failing call is waited for in all, over its four tries, before it counts as failed.",
        "It bridges a restart or a short outage; a longer one is for the next run. A Retry-After of up to a minute "
        "is obeyed besides.",
        default="20s",
    )
    page_size: int = kinds.whole(1, 1000).setting(
        "How many models one page of the listing asks for.",
        "100 is the most that the platform's API is known to take; when an upstream refuses a larger one it is "
        "halved. Pages that are too large to be read, or come too slowly, are asked for in smaller pieces; a smaller "
        "size here saves those requests. A listing ends after 5000 pages of a hundred, or as many more smaller ones.",
        default=100,
    )
    proxy: str | None = kinds.text("http or https URL", show=hide_password).setting(
        "The proxy for all calls, API and storage alike.",
        "Without it HTTPS_PROXY and NO_PROXY are honoured as usual; a cron job often lacks them. A password in it is "
        "masked wherever it would be shown.",
        example="http://proxy.example:3128",
        secret=True,
    )
    ca_file: Path | None = kinds.path().setting(
        "Certificates (PEM) to trust besides the usual ones.",
        "For a company's TLS-inspecting proxy or a private upstream. There is no switch that turns the check off.",
        example="/etc/ssl/certs/company.pem",
    )


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """`[sync]`: what a run fetches, and how.

    `publish_every` is in seconds, `max_rate` in bytes a second. `on_failure` is a command's arguments, empty for none;
    it often carries a webhook's secret URL.
    """

    formats: tuple[str, ...] = kinds.choices("onnx", "pytorch", "safetensors", "pte", "engine").setting(
        "Which formats of each model's weights to fetch.",
        "ONNX runs anywhere; each further format is another download and more disk for every model.",
        default=["onnx"],
    )
    workers: int = kinds.whole(1, 64).setting(
        "How many models are fetched at once, at most.",
        "Eight fill most lines, also from a storage that is slow for one connection; more mostly meet the upstream's "
        "rate limit sooner.",
        default=8,
    )
    connections: int = kinds.whole(1, 64).setting(
        "How many connections to storage there are at once.",
        "A storage that is slow for one connection is often fast for eight. A large file begins with one, gets more "
        "where nothing else needs them, and loses them again unless they bring more. Each file that is fetched has "
        "one in any case.",
        default=8,
    )
    max_rate: int | None = kinds.rate("100 KB").setting(
        "The most that all downloads together take of the line, in bytes a second.",
        "Without it they take what the line gives. Where people need it by day, sync at a rate by day and without "
        'one by night: MIRROR_SYNC_MAX_RATE="2 MB/s" in the one cron line of the two.',
        example="10 MB/s",
    )
    publish_every: float = kinds.duration("0s", "1h").setting(
        "At most how often the index is published while a run goes on.",
        "Readers see a model soon after it has arrived, without an index written for each one.",
        default="5s",
    )
    on_failure: tuple[str, ...] = kinds.command().setting(
        "A command to run when a run ends partial or failed.",
        "A mirror that has quietly stopped is worse than a loud one. No shell reads the command: for a pipe or a "
        "variable, name a script.",
        example="/usr/local/bin/alert --team vision",
        secret=True,
    )
    rules: tuple[Rule, ...] = rules().setting(
        "Filters: which models a run fetches.",
        "All lists of a rule must match, the first rule that matches decides, and a model that no rule matches is "
        "included, so no rules means every model.",
        default=[],
        example=[
            {"action": "exclude", "names": ["*-draft", "tmp-*"]},
            {
                "action": "include",
                "types": ["object_detection", "classification"],
                "architectures": ["rf-detr*"],
                "statuses": ["ready"],
            },
            {"action": "exclude"},
        ],
        in_env=False,
    )


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """`[daemon]`: when runs start.

    Both are in seconds.
    """

    every: float = kinds.duration("10s", "31d").setting(
        "How often `mirror daemon` starts a run.",
        "A run with nothing new costs a page of listing for every hundred models, so a quarter of an hour is cheap. "
        "Some jitter is added, so that many mirrors do not call at once.",
        default="15m",
    )
    max_backoff: float = kinds.duration("10s", "31d").setting(
        "The longest pause that failed runs in a row may grow to.",
        "An upstream that is down gets fewer calls, and is still noticed within the hour once it is back.",
        default="1h",
    )


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """`[store]`: how the root is kept.

    `quota` and `min_free` are in bytes, `quota_high` and `quota_low` are percentages of the quota.
    """

    shared: Literal["private", "group"] = kinds.choice("private", "group").setting(
        "Who may write to the root: its owner, or the owner's group as well.",
        '"group" widens files and folders to the group whatever the umask says, for a root that several accounts '
        "sync into.",
        default="private",
    )
    quota: int | None = kinds.size().setting(
        "The most that the files in blobs/ may take together.",
        "Without it the disk is the limit. A sync never begins a file that would go over it; `mirror gc` makes room.",
        example="500 GiB",
    )
    quota_high: int = kinds.whole(1, 100).setting(
        "The percentage of the quota above which `mirror gc` evicts weights that the upstream can still give.",
        "Below it nothing is evicted, so that a store which is only nearly full keeps all that it has.",
        default=95,
    )
    quota_low: int = kinds.whole(0, 100).setting(
        "The percentage of the quota down to which it evicts.",
        "The gap to quota_high lets several syncs go by between two evictions.",
        default=85,
    )
    min_free: int = kinds.size().setting(
        "How much of the root's disk a sync leaves free.",
        "0 uses the disk to its end. On a disk that others write to as well, leave them some.",
        default=0,
    )


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """`[retention]`: how long what is no longer wanted stays.

    All are in seconds; None keeps it for ever.
    """

    superseded: float | None = kinds.duration_or_never("0s", "10000d").setting(
        "How long weights stay after others have taken their place.",
        "A month is time enough to go back to the last version, and a retrained model does not fill the disk.",
        default="30d",
    )
    archived: float | None = kinds.duration_or_never("0s", "10000d").setting(
        "How long the weights of a model stay after it was archived upstream.",
        "An archived model can be restored, and whoever uses it here does not know that it was archived: only you "
        "know when its weights may go.",
        default="never",
    )
    gone: float | None = kinds.duration_or_never("0s", "10000d").setting(
        "How long the weights of a model stay after it has gone from the upstream.",
        "Nobody can fetch them again: this may be the last copy.",
        default="never",
    )
    quarantine: float = kinds.duration("0s", "10000d").setting(
        "How long damaged files stay in quarantine/.",
        "They are kept for a look at what went wrong, and the good file has long been fetched again.",
        default="30d",
    )
    grace: float = kinds.duration("0s", "10000d").setting(
        "How long a file stays after no published index names it any more.",
        "A reader that opened an older index, or a copy of the root that is being made, still finds every file.",
        default="7d",
    )


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """`[serve]`: the HTTP server.

    `url_ttl` is in seconds, `trusted_proxies` are networks in CIDR form.
    """

    host: str = kinds.host().setting(
        "The address that `mirror serve` listens on.",
        "Loopback shows the models to this machine only. Another address needs client keys, or without_keys.",
        default="127.0.0.1",
    )
    port: int = kinds.whole(0, 65535).setting(
        "The port that `mirror serve` listens on.",
        "It needs no rights. 0 takes a free one and says which.",
        default=8080,
    )
    workers: int = kinds.whole(1, 64).setting(
        "How many processes serve.",
        "One process fills a line with weights; more help only with many small calls. More than one needs "
        "signing_key_file, and cannot fetch.",
        default=1,
    )
    max_connections: int = kinds.whole(16, 100_000).setting(
        "How many connections are kept at once.",
        "One address may have a quarter of them, so that no client keeps the others out; trusted_proxies may have "
        "all. Beyond that, those go that have been quiet for longest. Each takes two of the descriptors that `ulimit "
        "-n` allows.",
        default=2048,
    )
    public_url: str | None = kinds.public_url().setting(
        "The address at which clients reach this server, for the download addresses that it gives out.",
        "Without it the address that the client used is taken, from its Host header or from a trusted proxy's "
        "forwarded headers, which is right for most.",
        example="https://mirror.example",
    )
    path_prefix: str | None = kinds.path_prefix().setting(
        "A path in front of every address, for a proxy that passes requests on with it.",
        "A proxy that strips the path and says so in X-Forwarded-Prefix needs none.",
        example="/models",
    )
    trusted_proxies: tuple[str, ...] = kinds.networks().setting(
        "Addresses or networks of proxies whose forwarded headers are believed.",
        "From anybody else X-Forwarded-For, -Proto, -Host and -Prefix are ignored: a client could write them itself.",
        default=["127.0.0.1", "::1"],
    )
    keys_file: Path | None = kinds.path().setting(
        "The file of client keys that `mirror keys` writes, instead of ROOT/keys.toml.",
        "A root on a read-only mount has no place for one. A file that is named here and is not there ends `mirror "
        "serve` with 2.",
        example="/etc/registry-mirror/keys.toml",
    )
    require_keys: bool = kinds.switch().setting(
        "Whether to ask for a client key always, on loopback and while there are no keys too.",
        "For a server behind a proxy: the proxy connects from loopback, and a lost file of keys must open no door.",
        default=False,
    )
    without_keys: bool = kinds.switch().setting(
        "Whether to serve everybody who reaches the address, without a key.",
        "On loopback that is so anyway while there is no file of client keys. Elsewhere it takes a deliberate line, "
        "because it gives every model to anyone on the network.",
        default=False,
    )
    signing_key_file: Path | None = kinds.path().setting(
        "A file of at least 32 random bytes or characters that signs download addresses.",
        "Without it each start makes a key of its own, so that addresses end with the process. Several processes or "
        "machines behind one name need the same file.",
        example="/etc/registry-mirror/signing.key",
    )
    url_ttl: float = kinds.duration("10s", "7d").setting(
        "How long a download address is good for.",
        "It carries no key, so whoever sees it may use it until then. A download that has begun goes on.",
        default="1h",
    )
    tls_cert: Path | None = kinds.path().setting(
        "A certificate in PEM, with its chain, to serve https.",
        "Needs tls_key. Without both it is plain http, and client keys can be read on the way.",
        example="/etc/registry-mirror/tls.pem",
    )
    tls_key: Path | None = kinds.path().setting(
        "The private key of tls_cert, in PEM.",
        "In a file of its own, readable by the account that serves.",
        example="/etc/registry-mirror/tls.key",
    )
    fetch: bool = kinds.switch().setting(
        "Whether to fetch the weights of ready models from the upstream when a client asks for them first.",
        "Serving needs no network, no API key and no right to write; fetching needs all three.",
        default=False,
    )
    access_log: bool = kinds.switch().setting(
        "Whether to write a line for each request to standard error.",
        "No line has a key or a signature in it. A proxy in front may write its own.",
        default=True,
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a mirror. `root` is absolute."""

    root: Path
    upstream: UpstreamSettings
    sync: SyncSettings
    daemon: DaemonSettings
    store: StoreSettings
    retention: RetentionSettings
    serve: ServeSettings


_ROOT = Option(
    "root",
    kinds.path(),
    "The folder that holds the mirror: blobs, catalog, index and config.toml.",
    "Without it the user's data folder is used (~/.local/share/registry-mirror on Linux), so that a first try needs "
    "no rights. It is the one setting that ROOT/config.toml cannot make, because the root leads to that file: use "
    "--root, MIRROR_ROOT or a file that --config names.",
    example="/srv/models",
)
SECTIONS: dict[str, type[Any]] = {
    "upstream": UpstreamSettings,
    "sync": SyncSettings,
    "daemon": DaemonSettings,
    "store": StoreSettings,
    "retention": RetentionSettings,
    "serve": ServeSettings,
}
_FIELDS = [(f"{section}.{field.name}", field) for section, made in SECTIONS.items() for field in fields(made)]
OPTIONS = (_ROOT, *(replace(field.metadata["option"], key=key) for key, field in _FIELDS))
BY_KEY = {option.key: option for option in OPTIONS}
