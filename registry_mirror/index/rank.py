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


def rank(status: str, *, gone: bool, cached: bool) -> int:
    """The place of a model among those of its name; the lowest wins."""
    if gone:
        return GONE
    if status == ModelStatus.ARCHIVED:
        return ARCHIVED
    if status == ModelStatus.READY:
        return READY
    return LIVE_CACHED if cached else LIVE


def shadowed(model_id: str, namesakes: list[tuple[str, int]]) -> tuple[str, ...]:
    """The live and ready models that `model_id` hides, newest first.

    `namesakes` are id and rank of every model of the name, best first. Only the first of them hides others: whoever
    asks for another one by its id is not in doubt.
    """
    if not namesakes or namesakes[0][0] != model_id:
        return ()
    return tuple(other for other, place in namesakes[1:] if place == READY)
