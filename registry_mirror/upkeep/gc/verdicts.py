"""What `gc` says of a file. Every decision carries the name of its rule and a reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ...units import format_duration

if TYPE_CHECKING:
    from datetime import datetime


class Act(StrEnum):
    """What becomes of a file."""

    KEEP = "keep"
    LET_GO = "let go"
    """Off the record and out of the index; the file itself stays for the grace period."""
    EVICT = "evict"
    """The same, to make room; a sync does not fetch it again by itself."""
    WAIT = "wait"
    """No index names it, and its grace period is not over."""
    DELETE = "delete"
    DOUBT = "doubt"
    """Something about it is not understood, so it stays."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An act, the rule that decided, and the reason."""

    act: Act
    rule: str
    reason: str


def aged(rule: str, act: Act, what: str, since: datetime | None, limit: float | None, now: datetime) -> Verdict:
    """The verdict of a rule that goes by age: `act` once `limit` seconds are over; None is never.

    Doubtful is what has no date, or one that is still to come: a clock was wrong then or is wrong now.
    """
    if limit is None:
        return Verdict(Act.KEEP, rule, f"{what}, which is kept for ever")
    if since is None:
        return Verdict(Act.DOUBT, rule, f"{what}, and nobody knows since when")
    age = (now - since).total_seconds()
    if age < 0:
        return Verdict(Act.DOUBT, rule, f"{what} since a time that is still to come: a clock is wrong")
    if age < limit:
        return Verdict(Act.KEEP, rule, f"{what} for {format_duration(age)} of {format_duration(limit)}")
    return Verdict(act, rule, f"{what} for {format_duration(age)}, at least {format_duration(limit)}")
