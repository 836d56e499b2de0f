"""The state of the demo upstream: its models, and the signed URLs that it has given out."""

from __future__ import annotations

import secrets
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .library import DemoModel
    from .weights import DemoWeights


@dataclass(frozen=True)
class DemoGrant:
    """One signed URL: its path, the weights as they were when it was signed, and its end (seconds since the epoch)."""

    path: str
    weights: DemoWeights
    expires: float


class DemoState:
    """The models, in the order in which they were added. Every method is atomic for other threads."""

    def __init__(self, models: Iterable[DemoModel]) -> None:
        self._lock = threading.RLock()
        self._models: dict[str, DemoModel] = {}
        self._named: dict[str, list[DemoModel]] | None = None
        self._listings: dict[tuple[tuple[str, str], ...], list[DemoModel]] = {}
        self._grants: dict[str, DemoGrant] = {}
        for model in models:
            self.put(model)

    def put(self, model: DemoModel) -> None:
        """Adds a model. One with the same id is replaced and keeps its place in the order."""
        with self._lock:
            self._models[model.id] = model
            self._forget_views()

    def remove(self, model_id: str) -> None:
        """Removes a model.

        Raises:
            KeyError: there is no model with this id.
        """
        with self._lock:
            del self._models[model_id]
            self._forget_views()

    def change(self, model_id: str, fields: dict[str, Any], weights: dict[str, DemoWeights] | None = None) -> DemoModel:
        """Merges `fields` into a model's document, and `weights` into its weights by format. Returns the new model.

        `updated_at` becomes a later time, unless `fields` has it.

        Raises:
            KeyError: there is no model with this id.
        """
        with self._lock:
            model = self._models[model_id]
            fields = {"updated_at": _later(model.document.get("updated_at")), **fields}
            model = replace(model, document={**model.document, **fields}, weights={**model.weights, **(weights or {})})
            self.put(model)
            return model

    def models(self) -> tuple[DemoModel, ...]:
        """All models, including archived ones."""
        with self._lock:
            return tuple(self._models.values())

    def find(self, key: str) -> DemoModel | None:
        """The model with this id, else the newest one with exactly this name; archived models come last."""
        with self._lock:
            if key in self._models:
                return self._models[key]
            if self._named is None:
                self._named = defaultdict(list)
                for model in self._models.values():
                    self._named[model.name].append(model)
            return max(self._named.get(key, ()), key=_precedence, default=None)

    def listing(self, **filters: str) -> list[DemoModel]:
        """The models whose documents have all these values; archived ones only if `status` asks for them."""
        key = tuple(sorted(filters.items()))
        with self._lock:
            if key not in self._listings:
                self._listings[key] = [model for model in self._models.values() if _matches(model, filters)]
            return self._listings[key]

    def sign(self, model: DemoModel, wire_format: str, ttl: float) -> str:
        """Makes a signed URL for the model's file in a format, valid for `ttl` seconds. Returns its path and query."""
        token, expires = secrets.token_urlsafe(24), time.time() + ttl
        path = f"/weights/{quote(model.id, safe='')}/{quote(model.filename(wire_format), safe='')}"
        with self._lock:
            self._grants[token] = DemoGrant(path, model.weights[wire_format], expires)
        return f"{path}?token={token}&expires={int(expires)}"

    def granted(self, token: str, path: str) -> DemoWeights | None:
        """The weights of a signed URL; None if it is unknown, has expired or is for another path."""
        with self._lock:
            grant = self._grants.get(token)
        if grant is None or grant.path != path or grant.expires <= time.time():
            return None
        return grant.weights

    def _forget_views(self) -> None:
        self._named = None
        self._listings = {}


def _matches(model: DemoModel, filters: dict[str, str]) -> bool:
    if "status" not in filters and model.status == "archived":
        return False
    return all(model.document.get(key) == value for key, value in filters.items())


def _precedence(model: DemoModel) -> tuple[bool, str]:
    return model.status != "archived", str(model.document.get("created_at"))


def _later(before: object) -> str:
    """The present time, but always later than `before`, so that two changes within one clock tick stay in order."""
    now = datetime.now(UTC)
    try:
        last = datetime.fromisoformat(str(before))
    except ValueError:
        return now.isoformat(timespec="microseconds")
    last = last if last.tzinfo else last.replace(tzinfo=UTC)
    return max(now, last + timedelta(microseconds=1)).astimezone(UTC).isoformat(timespec="microseconds")
