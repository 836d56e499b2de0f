"""What a verify looks at and in which order, and when a loss is believed. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from registry_mirror.model import BlobCheck, BlobRecord
from registry_mirror.upkeep.verify.plan import believable, in_order, name_of, plan
from registry_mirror.upkeep.verify.scan import BlobVerdict, FileIdentity, judge

NOW = datetime(2026, 11, 24, tzinfo=UTC)
IDENTITY = FileIdentity(1, 2, 5, 3)


def blob(letter, days=None, *, lost=False):
    """A blob that was checked so many days ago; None: never."""
    md5 = letter * 32
    at = None if days is None else NOW - timedelta(days=days)
    check = BlobCheck(at, 5, 3, NOW if lost else None) if lost or days is not None else BlobCheck()
    return BlobRecord(md5, "onnx", 5, ("b" * 64,), check)


def letters(blobs):
    return "".join(each.md5[0] for each in blobs)


def present(*blobs):
    return {name_of(each): each.size for each in blobs}


def test_never_checked_first_then_the_oldest():
    assert letters(in_order([blob("a", 1), blob("c", 9), blob("d"), blob("e", 3), blob("b")], NOW)) == "bdcea"


def test_what_is_known_to_be_lost_is_looked_at_again_only_when_something_is_there():
    lost, back, well = blob("a", lost=True), blob("c", lost=True), blob("b", 3)
    made = plan([well, lost, back], present(back, well), now=NOW)
    assert (letters(made.blobs), letters(made.awaiting)) == ("cb", "a")
    quick = plan([well, lost, back], present(back, well), now=NOW, quick=True)
    assert (letters(quick.blobs), letters(quick.awaiting)) == ("b", "ac")


def test_a_check_that_is_still_to_come_is_none_and_two_clocks_may_differ_by_a_minute():
    ahead, skewed, old = blob("a", -2000), blob("b", -1 / 1440), blob("c", 4)
    assert letters(in_order([skewed, old, ahead], NOW)) == "acb"
    assert letters(plan([skewed, old, ahead], {}, now=NOW, older_than=timedelta(days=1)).blobs) == "ac"


@pytest.mark.parametrize(("days", "expected"), [(0, "bac"), (2, "ba"), (5, "b"), (31, "b")])
def test_older_than_counts_from_the_last_check(days, expected):
    blobs = [blob("a", 4), blob("b"), blob("c", 1)]
    assert letters(plan(blobs, {}, now=NOW, older_than=timedelta(days=days)).blobs) == expected


def test_what_nothing_names_is_told_only_when_everything_is_known():
    stray = {"ff/stray.onnx": 7}
    assert plan([blob("a")], {**present(blob("a")), **stray}, now=NOW).unreferenced == stray
    assert plan([blob("a")], stray, now=NOW, everything=False).unreferenced == {}


@pytest.mark.parametrize(
    ("affected", "well", "expected"),
    [(1, 0, False), (1, 1, True), (5, 1, True), (6, 1, False), (6, 24, True), (6, 23, False), (100, 400, True),
     (101, 399, False), (0, 0, False)],
)  # fmt: skip
def test_a_loss_is_believed_while_it_is_small(affected, well, expected):
    assert believable(affected, well) is expected


@pytest.mark.parametrize(
    ("recorded", "md5", "sha256", "expected"),
    [
        (("s",), None, "s", BlobVerdict.GOOD),
        (("s",), "m", "s", BlobVerdict.GOOD),
        (("s",), None, "t", BlobVerdict.CONTENT),
        (("s",), "m", "t", BlobVerdict.FORGED),
        (("s",), "n", "s", BlobVerdict.CONTENT),
        (("s", "t"), "m", "s", BlobVerdict.FORGED),
        ((), "m", "t", BlobVerdict.GOOD),
        ((), "n", "t", BlobVerdict.CONTENT),
    ],
)
def test_the_verdict_on_digests(recorded, md5, sha256, expected):
    entry = BlobRecord("m", "onnx", 5, recorded)
    assert judge(entry, md5, sha256, IDENTITY).verdict is expected
