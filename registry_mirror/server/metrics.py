"""Metrics for Prometheus. With several processes they are summed, through a folder that the parent has made."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..model import is_to_come

if TYPE_CHECKING:
    from datetime import datetime

    from ..status import MirrorStatus

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Metrics:
    """The counters. A route is one of few words and not a path: paths have model names in them."""

    def __init__(self) -> None:
        # The library chose its storage when it was imported in the parent, before the folder was there.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "mirror_http_requests", "Requests answered.", ("route", "method", "status"), registry=self._registry
        )
        self._bytes = Counter("mirror_http_sent_bytes", "Bytes of bodies sent.", ("route",), registry=self._registry)
        self._seconds = Histogram(
            "mirror_http_request_seconds",
            "Time until an answer begins.",
            ("route",),
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._hits = Counter("mirror_weights_hits", "Downloads of weights that were cached.", registry=self._registry)
        self._absent = Counter(
            "mirror_weights_not_cached", "Downloads of weights that were not cached.", registry=self._registry
        )
        self._fetched = Counter(
            "mirror_weights_fetches", "Weights fetched through.", ("outcome",), registry=self._registry
        )
        self._let_go = Counter(
            "mirror_http_connections_let_go", "Connections that the server ended.", ("reason",), registry=self._registry
        )
        # Looking up a counter by its labels costs more than counting.
        self._known: dict[tuple[str, str, int], Counter] = {}
        self._sent: dict[str, Counter] = {}
        self._begun: dict[str, Histogram] = {}

    @staticmethod
    def now() -> float:
        """Returns the time in seconds since 1970."""
        return time.time()

    def answered(self, route: str, method: str, status: int, sent: int, seconds: float) -> None:
        """Counts one answer."""
        key = (route, method, status)
        counter = self._known.get(key)
        if counter is None:
            shown = method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
            counter = self._requests.labels(route, shown, str(status))
            self._known[(route, shown, status)] = counter
        counter.inc()
        if sent:
            if route not in self._sent:
                self._sent[route] = self._bytes.labels(route)
            self._sent[route].inc(sent)
        if route not in self._begun:
            self._begun[route] = self._seconds.labels(route)
        self._begun[route].observe(seconds)

    def hit(self) -> None:
        """Counts a request for weights that are here."""
        self._hits.inc()

    def not_cached(self) -> None:
        """Counts a request for weights that are not here."""
        self._absent.inc()

    def fetched(self, outcome: str) -> None:
        """Counts a fetch for clients. `outcome` is `ok` or `failed`."""
        self._fetched.labels(outcome).inc()

    def let_go(self, reason: str) -> None:
        """Counts an ended connection. `reason` is `silent`, `idle`, `unread`, `share` or `full`."""
        self._let_go.labels(reason).inc()

    def text(self, status: MirrorStatus | None, published: datetime | None, free_bytes: int | None) -> bytes:
        """Returns the page that Prometheus reads. `status` and `published` are None while there is no index."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            from prometheus_client.multiprocess import MultiProcessCollector

            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        state = CollectorRegistry()
        state.register(_State(_state(status, published, free_bytes)))
        return generate_latest(registry) + generate_latest(state)


class _State(Collector):
    """The mirror's state. Every process reports the same values, so they are not summed."""

    def __init__(self, families: list[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> list[GaugeMetricFamily]:
        """Returns all gauges."""
        return self._families


def _age(moment: datetime | None, now: datetime) -> float | None:
    """Returns the seconds since then; infinity for a time in the future, so that an alert on the age fires."""
    if moment is None:
        return None
    return math.inf if is_to_come(moment, now) else max(0.0, (now - moment).total_seconds())


def _state(status: MirrorStatus | None, published: datetime | None, free_bytes: int | None) -> list[GaugeMetricFamily]:
    families = []

    def gauge(name: str, help_text: str, value: float | None) -> None:
        if value is not None:
            families.append(GaugeMetricFamily(name, help_text, value=value))

    gauge("mirror_index_readable", "1 when the index can be read.", float(status is not None))
    gauge("mirror_free_bytes", "Free bytes where the blobs are.", free_bytes)
    if status is None:
        return families
    synced = status.last_synced_at
    gauge("mirror_index_age_seconds", "Seconds since the index was published.", _age(published, status.at))
    gauge(
        "mirror_last_sync_timestamp_seconds",
        "End of the last whole sync; absent when it is dated in the future.",
        None if synced is None or status.ahead else synced.timestamp(),
    )
    gauge("mirror_last_sync_age_seconds", "Seconds since then.", _age(synced, status.at))
    gauge("mirror_weights_files", "Blobs that the index names.", status.totals.files)
    gauge("mirror_weights_bytes", "Their bytes.", status.totals.bytes)
    gauge("mirror_weights_lost", "Blobs found damaged or missing that have not come again.", status.upkeep.checks.lost)
    gauge("mirror_open_failures", "Weights that could not be fetched so far.", len(status.failures))
    models = GaugeMetricFamily("mirror_models", "Models by status.", labels=("status",))
    for name, count in status.counts().items():
        if name != "total":
            models.add_metric((name,), count)
    return [*families, models]
