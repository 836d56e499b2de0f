"""Moving bad bytes out of the way while others publish good ones, and making durable what somebody else left."""

from __future__ import annotations

import hashlib
import os

import pytest
from support.syncing import files_under

from registry_mirror.files import PRIVATE
from registry_mirror.store import blobs as publishing
from registry_mirror.store.blobs import examine, make_durable, quarantine_only
from registry_mirror.store.layout import Layout
from registry_mirror.store.root import prepare

GOOD = b"the bytes that belong here"
MD5 = hashlib.md5(GOOD, usedforsecurity=False).hexdigest()


@pytest.fixture
def layout(tmp_path):
    found = Layout(tmp_path / "root")
    prepare(found, PRIVATE)
    found.blob(MD5, "onnx").parent.mkdir(parents=True)
    return found


def replaced(blob, content):
    """What a publication does: another file takes the name."""
    other = blob.with_name("coming")
    other.write_bytes(content)
    os.replace(other, blob)


def test_a_good_file_that_takes_the_name_while_the_bad_one_is_hashed_stays(layout, monkeypatch):
    blob = layout.blob(MD5, "onnx")
    blob.write_bytes(b"damaged")
    hashed = publishing.digest_file

    def then_published(path):
        found = hashed(path)
        replaced(blob, GOOD)
        return found

    monkeypatch.setattr(publishing, "digest_file", then_published)
    examine(layout, MD5, "onnx")
    assert blob.read_bytes() == GOOD
    assert files_under(layout.quarantine) == []


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_is_bad_is_put_aside_whatever_it_is(layout, tmp_path, kind):
    blob = layout.blob(MD5, "onnx")
    if kind == "folder":
        blob.mkdir()
    elif kind == "link":
        (tmp_path / "elsewhere").write_bytes(b"damaged")
        blob.symlink_to(tmp_path / "elsewhere")
    else:
        blob.write_bytes(b"damaged")
    assert examine(layout, MD5, "onnx") is None
    assert not os.path.lexists(blob)
    assert len(os.listdir(layout.quarantine)) == 1


def test_a_good_file_that_takes_the_name_at_the_very_moment_is_put_back(layout, monkeypatch):
    blob = layout.blob(MD5, "onnx")
    blob.write_bytes(b"damaged")
    bad = blob.stat()
    aside = publishing.quarantine

    def after_a_publication(*args):
        replaced(blob, GOOD)
        return aside(*args)

    monkeypatch.setattr(publishing, "quarantine", after_a_publication)
    assert quarantine_only(layout, blob, lambda found: found.st_ino == bad.st_ino) is None
    assert blob.read_bytes() == GOOD
    assert files_under(layout.quarantine) == []


def test_settling_a_blob_makes_its_bytes_and_its_name_durable(layout, monkeypatch):
    blob = layout.blob(MD5, "onnx")
    blob.write_bytes(GOOD)
    synced, fsync = [], os.fsync

    def noted(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    make_durable(blob)
    assert synced == [each.stat().st_ino for each in (blob, blob.parent, blob.parent.parent)]
