"""Which model a name means. This is the one place that says it.

MODEL on a command line or in a call is an id or a name:

1. An id wins over a name.
2. Names are exact and case-sensitive. Among the models of one name: live and ready first, then live ones in any other
   state (with cached weights before without), then archived ones, then those gone from the upstream.
3. Within one rank the newest wins: by creation, then by update, then by id, so that the answer never depends on luck.

The index stores the rank, so a change here needs a new `USER_VERSION`. Standard library only.
"""

from __future__ import annotations

from ..model import ModelStatus

READY = 0
LIVE_CACHED = 1
LIVE = 2
ARCHIVED = 3
GONE = 4


_CACHED = "EXISTS (SELECT 1 FROM main.weights r WHERE r.model_id = m.id AND r.current)"
RANK = f"""CASE
    WHEN m.gone_at IS NOT NULL THEN {GONE}
    WHEN m.status = '{ModelStatus.ARCHIVED}' THEN {ARCHIVED}
    WHEN m.status = '{ModelStatus.READY}' THEN {READY}
    WHEN {_CACHED} THEN {LIVE_CACHED}
    ELSE {LIVE} END"""
"""SQL for the place of a row `m` of models among those of its name; the lowest wins. `weights` are the index's own."""


def shadowed(model_id: str, namesakes: list[tuple[str, int]]) -> tuple[str, ...]:
    """The live and ready models that `model_id` hides, newest first.

    `namesakes` are id and rank of every model of the name, best first. Only the first of them hides others: whoever
    asks for another one by its id is not in doubt.
    """
    if not namesakes or namesakes[0][0] != model_id:
        return ()
    return tuple(other for other, place in namesakes[1:] if place == READY)
