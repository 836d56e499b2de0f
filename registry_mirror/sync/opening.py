"""Opens the parts that a sync works with: the source that the settings name, the root for writing, and the store."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..sources.api.client import Client
from ..sources.api.models_api import ApiSource
from ..store.blobs import open_blobs
from ..store.budget import StoreLimits
from ..transfer.retry import RetryPolicy
from ..writer import open_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..config import Settings
    from ..secret import Secret
    from ..sources.source import Source
    from ..store.blobs import Blobs
    from ..writer import Writer


def make_client(
    settings: Settings, key: Secret, wait: Callable[[float], None], retry: RetryPolicy | None = None
) -> Client:
    """Returns a client of the models API. It waits between tries by calling `wait`, unless `retry` is given."""
    upstream = settings.upstream
    return Client(
        key,
        upstream.base_url,
        timeout=upstream.timeout,
        allow_http=upstream.allow_http,
        proxy=upstream.proxy,
        ca_file=upstream.ca_file,
        retry=retry or RetryPolicy(budget=upstream.retry_budget, sleep=wait),
        workers=settings.sync.workers,
        max_rate=settings.sync.max_rate,
        connections=settings.sync.connections,
    )


def open_source(settings: Settings, key: Secret, wait: Callable[[float], None]) -> Source:
    """Opens the source that the settings name. The caller closes it."""
    return ApiSource(make_client(settings, key, wait), settings.upstream.page_size)


@contextlib.contextmanager
def open_sync(
    settings: Settings, key: Secret, wait: Callable[[float], None], *, locked: bool
) -> Iterator[tuple[Writer, Source, Blobs]]:
    """Opens the root for writing, its source and its store.

    Args:
        wait: is called with the seconds to wait; may raise.
        locked: whether the caller holds the run lock. A migration needs the lock and takes it when this is False.

    Raises:
        ConfigurationError: the root cannot be used.
        LockedError: the catalog must be migrated and another run holds the root.
    """
    limits = StoreLimits(settings.store.min_free, settings.store.quota)
    with (
        open_writer(settings, wait, locked=locked) as writer,
        contextlib.closing(open_source(settings, key, wait)) as source,
        open_blobs(writer.layout, writer.modes, limits) as blobs,
    ):
        yield writer, source, blobs
