"""What the rooms are given: settings with their types, already checked. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Rule:
    """One `[[sync.rules]]`: what it does with the models that all its lists match.

    `names` and `architectures` are globs, `types` and `statuses` are exact. An empty tuple was not given and matches
    every model. The first rule that matches a model decides; a model that none matches is included.
    """

    action: Literal["include", "exclude"]
    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """How the upstream is reached. `timeout` and `retry_budget` are in seconds.

    `proxy` may carry a password, so it is not in the repr.
    """

    base_url: str
    api_key_env: str
    api_key_file: Path | None
    allow_http: bool
    timeout: float
    retry_budget: float
    page_size: int
    proxy: str | None = field(repr=False)
    ca_file: Path | None


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """What a run fetches and how. `publish_every` is in seconds, `max_rate` in bytes a second.

    `on_failure` is a command's arguments, empty for none; it often carries a webhook's secret URL, so it is not in the
    repr.
    """

    formats: tuple[str, ...]
    workers: int
    connections: int
    max_rate: int | None
    publish_every: float
    on_failure: tuple[str, ...] = field(repr=False)
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """When the daemon runs. Both are in seconds."""

    every: float
    max_backoff: float


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How the root is kept: `shared` is "private" or "group".

    `quota` and `min_free` are in bytes, `quota_high` and `quota_low` are percentages of the quota.
    """

    shared: Literal["private", "group"]
    quota: int | None = None
    quota_high: int = 95
    quota_low: int = 85
    min_free: int = 0


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """How long what is no longer wanted stays, in seconds; None keeps it for ever."""

    superseded: float | None
    archived: float | None
    gone: float | None
    quarantine: float
    grace: float


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """How `mirror serve` serves. `url_ttl` is in seconds.

    `trusted_proxies` are networks in CIDR form; `public_url` and `path_prefix` have no slash at their end.
    """

    host: str
    port: int
    workers: int
    max_connections: int
    public_url: str | None
    path_prefix: str | None
    trusted_proxies: tuple[str, ...]
    keys_file: Path | None
    require_keys: bool
    without_keys: bool
    signing_key_file: Path | None
    url_ttl: float
    tls_cert: Path | None
    tls_key: Path | None
    fetch: bool
    access_log: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it. `root` is absolute."""

    root: Path
    upstream: UpstreamSettings
    sync: SyncSettings
    daemon: DaemonSettings
    store: StoreSettings
    retention: RetentionSettings
    serve: ServeSettings
