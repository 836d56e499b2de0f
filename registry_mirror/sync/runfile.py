"""`run.json`: the record of the last run, for monitoring and for `mirror status`."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from ..files import read_regular, write_atomically
from ..model import format_time, json_bytes
from .record import Outcome

if TYPE_CHECKING:
    from ..files import Modes
    from ..store.layout import Layout
    from .record import RunRecord


def write_run(layout: Layout, modes: Modes, record: RunRecord, *, ended_early: bool) -> None:
    """Replaces the file. `last_synced_at` is the end of the last run that read the whole listing and was not ended."""
    good = record.tally.whole_listing and record.outcome is not Outcome.FAILED and not ended_early
    synced = format_time(record.finished_at) if good else last_synced(layout)
    body: dict[str, Any] = {"run": record.as_json(), "last_synced_at": synced}
    write_atomically(layout.run_record, json_bytes(body, indent=2) + b"\n", modes)


def last_synced(layout: Layout) -> str | None:
    """What the present file says; None when there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = json.loads(read_regular(layout.run_record)).get("last_synced_at")
        return found if isinstance(found, str) else None
    return None
