"""A root opened for writing, together with the upstream that it mirrors."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..store.room import Limits, open_room
from ..upstream import Client, RetryPolicy
from ..writer import Writer, open_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..config import Settings
    from ..secret import Secret
    from ..store.room import Room


@dataclass(frozen=True, slots=True)
class Workshop(Writer):
    """All that a writer works with."""

    settings: Settings
    client: Client
    room: Room

    def publish_index(self) -> bool:
        """Brings the published index up to the catalog. False when nothing had changed."""
        self.room.check_root()
        return Writer.publish_index(self)


def make_client(
    settings: Settings, key: Secret, sleep: Callable[[float], None], retry: RetryPolicy | None = None
) -> Client:
    """The upstream of these settings; every wait between tries goes through `sleep`, unless another policy is given."""
    upstream = settings.upstream
    return Client(
        key,
        upstream.base_url,
        timeout=upstream.timeout,
        allow_http=upstream.allow_http,
        proxy=upstream.proxy,
        ca_file=upstream.ca_file,
        retry=retry or RetryPolicy(budget=upstream.retry_budget, sleep=sleep),
        workers=settings.sync.workers,
        max_rate=settings.sync.max_rate,
        connections=settings.sync.connections,
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
    limits = Limits(settings.store.min_free, settings.store.quota)
    with (
        open_writer(settings, sleep, locked=locked) as writer,
        contextlib.closing(make_client(settings, key, sleep)) as client,
        open_room(writer.layout, limits) as room,
    ):
        yield Workshop(writer.layout, writer.modes, writer.catalog, sleep, settings, client, room)
