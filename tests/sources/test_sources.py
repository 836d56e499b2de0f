"""A sync reads from any source: that of the tests is another root's index with its blobs, without a network."""

from __future__ import annotations

import pytest
from support.documents import make_document, make_model, many_models, weights_bytes
from support.folder_source import FolderSource
from support.syncing import files_under, run_sync
from support.upstream import FaultyUpstream

from registry_mirror import Mirror
from registry_mirror.sync import opening

ONE = make_document(1)["id"]


@pytest.fixture
def upstream():
    with FaultyUpstream(many_models(8)) as upstream:
        yield upstream


@pytest.fixture
def origin(upstream, tmp_path):
    """A root that the other one is a copy of."""
    run_sync(upstream, tmp_path / "origin")
    return tmp_path / "origin"


@pytest.fixture
def copied(upstream, origin, root, monkeypatch):
    """Syncs `root` from the folder, and gives the run with the source that it had."""

    def run(folder=origin, **options):
        source = FolderSource(folder)
        with monkeypatch.context() as patched:
            patched.setattr(opening, "open_source", lambda *_: source)
            return run_sync(upstream, root, **options), source

    return run


def documents(root):
    with Mirror(root) as mirror:
        return {model.id: model.document for model in mirror.models.iter(include_archived=True)}


def test_a_folder_is_mirrored_whole_and_a_second_run_asks_for_no_bytes(upstream, origin, root, copied):
    upstream.archive(make_document(2)["id"])
    run_sync(upstream, origin)
    done, source = copied()
    assert (done.exit_code, done.record.tally.fetched.files) == (0, 7)
    assert documents(root) == documents(origin)
    assert Mirror(root).models.path(ONE).read_bytes() == weights_bytes(1)
    assert len(source.asked) == 7
    done, source = copied()
    assert (done.exit_code, done.record.tally.unchanged, source.asked) == (0, 8, [])


def test_what_changes_there_changes_here_and_what_is_gone_is_marked(upstream, origin, root, copied):
    copied()
    upstream.replace_weights(ONE, weights_bytes(501))
    upstream.remove(make_document(2)["id"])
    run_sync(upstream, origin)
    done, source = copied()
    assert (done.exit_code, done.record.tally.gone, source.asked) == (0, 1, [ONE])
    assert Mirror(root).models.path(ONE).read_bytes() == weights_bytes(501)


def test_bytes_that_do_not_match_fail_one_model_and_leave_nothing(origin, root, copied):
    blob = Mirror(origin).models.path(ONE)
    blob.chmod(0o600)
    blob.write_bytes(b"x" * blob.stat().st_size)
    done, _ = copied()
    assert done.exit_code == 3
    (failed,) = done.record.tally.failed
    assert (failed.id, "does not match" in failed.error) == (ONE, True)
    assert files_under(root / "incoming") == []
    assert len(files_under(root / "blobs")) == 7


def test_a_folder_that_lost_most_of_its_models_marks_none_gone(upstream, origin, root, copied):
    copied()
    for number in range(1, 8):
        upstream.remove(make_document(number)["id"])
    run_sync(upstream, origin, accept_shrink=True)
    done, _ = copied()
    assert done.exit_code == 1
    assert "7 of 8 known models are missing" in str(done.error)
    assert all(not model.mirror.gone_at for model in Mirror(root).models.iter(include_gone=True))
    assert copied(accept_shrink=True)[0].exit_code == 0


def test_a_folder_of_another_organisation_is_refused_and_so_is_the_root_itself(root, tmp_path, copied):
    copied()
    before = documents(root)
    stranger = make_model(9)
    stranger.document["organization_id"] = "11111111-0000-0000-0000-000000000000"
    with FaultyUpstream([stranger]) as other:
        run_sync(other, tmp_path / "other")
    done, _ = copied(tmp_path / "other")
    assert done.exit_code == 2
    assert "this root mirrors organisation" in str(done.error)
    done, _ = copied(root)
    assert done.exit_code == 2
    assert "a mirror of this very mirror" in str(done.error)
    assert documents(root) == before
