"""A sync after a blob was found damaged or missing: the same bytes come again, and no others."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime

import pytest
from support.syncing import files_under, run_sync

from registry_mirror.catalog import Catalog


def lose(root, md5=None):
    """Marks a blob as lost, as a verify does; the first one unless told which."""
    with Catalog(root / "catalog.sqlite") as catalog:
        md5 = md5 or next(each.md5 for each in catalog.checks.blobs())
        catalog.checks.record_lost(md5, "onnx", "its bytes are wrong", datetime.now(UTC))
    return md5


def test_a_blob_that_is_known_to_be_damaged_is_fetched_again_although_its_size_and_stamp_are_the_same(upstream, root):
    run_sync(upstream, root)
    md5 = lose(root)
    blob = root / "blobs" / md5[:2] / f"{md5}.onnx"
    good = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(bytes(len(good)))
    finished = run_sync(upstream, root)
    assert (finished.exit_code, finished.record.tally.fetched.files) == (0, 1)
    assert blob.read_bytes() == good
    assert [each.read_bytes() for each in (root / "quarantine").iterdir()] == [bytes(len(good))]
    assert run_sync(upstream, root).record.storage_requests == 0


def test_a_blob_that_was_taken_for_lost_and_is_whole_is_hashed_and_kept(upstream, root):
    run_sync(upstream, root)
    lose(root)
    finished = run_sync(upstream, root)
    assert (finished.record.tally.fetched.files, finished.record.tally.reused.files) == (0, 1)
    assert not any((root / "quarantine").iterdir())
    assert run_sync(upstream, root).record.storage_requests == 0


@pytest.mark.parametrize("damaged", ["gone", "still there"])
def test_other_bytes_under_an_md5_on_record_are_refused_also_when_the_old_ones_are_lost(upstream, root, damaged):
    run_sync(upstream, root)
    md5 = lose(root)
    with contextlib.closing(sqlite3.connect(root / "catalog.sqlite")) as database, database:
        database.execute("UPDATE weights SET sha256 = ? WHERE md5 = ?", ("0" * 64, md5))
    if damaged == "gone":
        (root / "blobs" / md5[:2] / f"{md5}.onnx").unlink()
    finished = run_sync(upstream, root)
    assert finished.exit_code == 3
    (failed,) = finished.record.tally.failed
    assert "two different contents have the MD5" in failed.error
    assert files_under(root / "incoming") == []


@pytest.mark.parametrize("stands_there", ["a folder", "a link that leads nowhere"])
def test_what_stands_in_the_place_of_a_blob_is_put_aside_or_replaced(upstream, root, stands_there):
    run_sync(upstream, root)
    blob = min((root / "blobs").glob("*/*"))
    good = blob.read_bytes()
    blob.unlink()
    if stands_there == "a folder":
        blob.mkdir()
    else:
        blob.symlink_to(root / "nowhere")
    finished = run_sync(upstream, root)
    assert (finished.exit_code, finished.record.tally.fetched.files) == (0, 1)
    assert blob.read_bytes() == good
    assert not blob.is_symlink()
