"""A root opened for writing, together with the upstream that it mirrors."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import catalog as catalogs
from ..files import Modes
from ..index.entries import FailureEntry, ModelEntry, WeightsEntry
from ..index.publish import publish
from ..model import parse_time, utc_now
from ..store.layout import Layout
from ..store.lock import publish_lock, run_lock
from ..store.root import prepare
from ..upstream import Client, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from ..catalog import Catalog, CatalogModel
    from ..config import Settings
    from ..secret import Secret


@dataclass(frozen=True, slots=True)
class Workshop:
    """All that a writer works with."""

    settings: Settings
    layout: Layout
    modes: Modes
    catalog: Catalog
    client: Client
    wait: Callable[[float], None]

    def publish_index(self) -> bool:
        """Brings the published index up to the catalog. False when nothing had changed."""
        with publish_lock(self.layout, self.modes, self.wait):
            facts = self.catalog.facts()
            meta: dict[str, str] = {
                key: facts[key] for key in ("base_url", "organization_id", "chain") if facts.get(key)
            }
            return publish(
                self.layout.index,
                self.layout.incoming,
                catalog_id=facts["catalog_id"],
                revision=int(facts["revision"]),
                entries_since=lambda revision: map(entry_of, self.catalog.models_since(revision)),
                meta=meta,
                modes=self.modes,
            )


def make_client(settings: Settings, key: Secret, sleep: Callable[[float], None]) -> Client:
    """The upstream of these settings; every wait between tries goes through `sleep`."""
    upstream = settings.upstream
    return Client(
        key,
        upstream.base_url,
        timeout=upstream.timeout,
        allow_http=upstream.allow_http,
        proxy=upstream.proxy,
        ca_file=upstream.ca_file,
        retry=RetryPolicy(budget=upstream.retry_budget, sleep=sleep),
        workers=settings.sync.workers,
    )


@contextlib.contextmanager
def open_workshop(
    settings: Settings, key: Secret, sleep: Callable[[float], None], *, locked: bool
) -> Iterator[Workshop]:
    """Opens the root. `locked` says that the caller holds the run lock; a migration needs it and takes it otherwise.

    Raises:
        ConfigurationError: the root cannot be used.
        LockedError: the catalog must be migrated and another run holds the root.
    """
    layout, modes = Layout(settings.root), Modes.for_sharing(settings.store.shared)
    prepare(layout, modes)
    _bring_to_head(layout, modes, locked=locked)
    with (
        contextlib.closing(make_client(settings, key, sleep)) as client,
        contextlib.closing(catalogs.Catalog(layout.catalog)) as catalog,
    ):
        yield Workshop(settings, layout, modes, catalog, client, sleep)


def _bring_to_head(layout: Layout, modes: Modes, *, locked: bool) -> None:
    if not catalogs.needs_migration(layout.catalog):
        return
    with contextlib.nullcontext() if locked else run_lock(layout, modes):
        if catalogs.needs_migration(layout.catalog):
            catalogs.migrate(layout.catalog, modes)


def entry_of(found: CatalogModel) -> ModelEntry:
    """A model of the catalog as the index takes it."""
    model = found.model
    return ModelEntry(
        document=model.document,
        id=model.id,
        name=model.name,
        status=model.status,
        model_type=model.model_type,
        architecture=model.architecture,
        created_at=model.created_at,
        updated_at=model.updated_at,
        first_seen=_time(model.first_seen),
        gone_at=parse_time(model.gone_at),
        weights=tuple(
            WeightsEntry(
                row.format, row.version, row.md5, row.sha256, row.size, _time(row.fetched_at), bool(row.current)
            )
            for row in found.weights
        ),
        failures=tuple(
            FailureEntry(row.format, row.error, row.attempts, _time(row.first_failed_at), _time(row.last_failed_at))
            for row in found.failures
        ),
    )


def _time(text: str) -> datetime:
    return parse_time(text) or utc_now()
