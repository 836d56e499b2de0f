"""`mirror verify` as a command: exit codes, JSON, what is said, a read-only mount, a full disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from support.documents import many_models, weights_bytes
from support.syncing import environment, files_under, mirror, run_sync
from support.upstream import FaultyUpstream
from support.verifying import blob_of, flip

from registry_mirror import Mirror

KEYS = [
    "outcome", "named", "quick", "started_at", "finished_at", "checked", "bad", "repaired", "touched", "left",
    "awaiting", "fetched", "digests", "recorded", "findings", "touched_names", "unreferenced", "unrepaired",
]  # fmt: skip


@pytest.fixture
def offline(root):
    """A synced root, and the environment of one who has neither the key nor the network."""
    with FaultyUpstream(many_models(6)) as upstream:
        run_sync(upstream, root)
        env = environment(upstream, root)
    del env["PICTOGRAPH_API_KEY"], env["PICTOGRAPH_BASE_URL"]
    return root, env


def test_a_verify_needs_no_key_and_no_network_and_says_what_it_did(offline):
    _, env = offline
    done = mirror("verify", env=env)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("ok: hashed 6 files (1.5 KiB) in ")
    assert done.stderr.endswith(", 0 bad\n")


def test_bad_bytes_end_it_with_4_and_the_record_has_every_key(offline):
    root, env = offline
    flip(blob_of(root, 1))
    done = mirror("verify", "--json", env=env)
    assert done.returncode == 4
    record = json.loads(done.stdout)["verify"]
    assert list(record) == KEYS
    assert (record["outcome"], record["bad"], record["checked"]) == ("bad", 1, {"files": 6, "bytes": 1536})
    (finding,) = record["findings"]
    assert finding["blob"] == f"{blob_of(root, 1).parent.name}/{blob_of(root, 1).name}"
    first, last = done.stderr.splitlines()
    assert first == f"bad: {finding['blob']} (model-00001): its file does not match its digest; moved to quarantine/"
    assert last.startswith("bad: hashed 6 files")


def test_the_status_of_people_tells_the_last_verify_and_the_quarantine(offline):
    root, env = offline
    assert "last verify  never" in mirror("status", env=env).stdout
    mirror("verify", env=env)
    flip(blob_of(root, 1))
    mirror("verify", "model-00001", env=env)
    (said,) = [line for line in mirror("status", env=env).stdout.splitlines() if line.startswith("last verify")]
    assert ", hashed 1 file of single models, 1 bad" in said
    assert mirror("verify", env=env).returncode == 0
    os.utime(blob_of(root, 2), (1, 1))
    lines = mirror("status", env=env).stdout.splitlines()
    (said,) = [line for line in lines if line.startswith("last verify")]
    assert ", hashed 5 files, 0 bad" in said
    assert [line.split()[:2] for line in lines if line.startswith(("quarantine", "lost", "touched"))] == [
        ["lost", "1"],
        ["touched", "1"],
        ["quarantine", "1"],
    ]
    assert any("its file does not match its digest" in line for line in lines)
    status = json.loads(mirror("status", "--json", env=env).stdout)
    assert status["quarantine"] == {"files": 1, "bytes": 256}
    assert (status["verify"]["lost"], status["verify"]["touched"], status["verify"]["last"]["awaiting"]) == (1, 1, 1)


def test_repair_without_a_key_is_refused_before_anything_is_looked_at(offline):
    root, env = offline
    flip(blob_of(root, 1))
    done = mirror("verify", "--repair", env=env)
    assert done.returncode == 2
    assert "no API key" in done.stderr
    assert blob_of(root, 1).exists()


def test_repair_from_end_to_end(root):
    with FaultyUpstream(many_models(3)) as upstream:
        run_sync(upstream, root)
        flip(blob_of(root, 1))
        done = mirror("verify", "--repair", env=environment(upstream, root))
    assert done.returncode == 0
    assert "model-00001: fetched 256 B" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("repaired: hashed 3 files")
    assert Mirror(root).models.path("model-00001").read_bytes() == weights_bytes(1)


def test_repair_with_the_upstream_gone_ends_with_4_and_says_why(root):
    with FaultyUpstream(many_models(3)) as upstream:
        run_sync(upstream, root)
        env = environment(upstream, root)
    flip(blob_of(root, 1))
    done = mirror("verify", "--repair", env=env)
    assert done.returncode == 4
    assert "not repaired: model-00001: " in done.stderr
    assert "cannot reach" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nobody"], 8, "no model 'nobody'"),
        (["--older-than", "soon"], 2, "not a duration"),
        (["--time-limit", "2h", "--older-than", "30d"], 0, "ok: "),
        (["--quick"], 0, "ok: looked at 6 files"),
        (["--quick", "--md5"], 2, "--quick hashes nothing, so --md5 does not go with it."),
    ],
)
def test_arguments(offline, arguments, code, said):
    _, env = offline
    done = mirror("verify", *arguments, env=env)
    assert done.returncode == code
    assert said in done.stderr


def test_a_root_that_was_never_synced(tmp_path):
    env = {"PATH": os.environ["PATH"], "MIRROR_ROOT": str(tmp_path / "nothing"), "HOME": str(tmp_path)}
    done = mirror("verify", env=env)
    assert done.returncode == 2
    assert "no index in" in done.stderr
    assert not (tmp_path / "nothing").exists()


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs a mount namespace")
@pytest.mark.parametrize("damaged", [False, True])
def test_a_read_only_mount_is_checked_and_nothing_is_recorded(offline, damaged):
    root, env = offline
    if damaged:
        flip(blob_of(root, 1))
    before = files_under(root)
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 77; shift; exec "$@"'
    program = [sys.executable, "-m", "registry_mirror", "verify", "--json"]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(root), *program],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("mounting is not allowed here")
    assert done.returncode == (4 if damaged else 0)
    record = json.loads(done.stdout)["verify"]
    assert (record["checked"]["files"], record["recorded"], record["bad"]) == (6, False, int(damaged))
    assert "cannot be written; bad files are told, and nothing is recorded or moved" in done.stderr
    assert files_under(root) == before


def test_a_full_disk_ends_it_with_7_and_the_bad_file_is_not_lost_sight_of(disk):
    root = disk / "root"
    with FaultyUpstream(many_models(4)) as upstream:
        run_sync(upstream, root)
        env = environment(upstream, root)
    flip(blob_of(root, 1))
    with open(disk / "filler", "wb") as filler:
        try:
            while True:
                filler.write(bytes(1 << 16))
                filler.flush()
        except OSError:
            pass
    done = mirror("verify", env=env)
    assert done.returncode == 7
    assert "no space left" in done.stderr
    (disk / "filler").unlink()
    assert Mirror(root).models.path("model-00002", verify=True)
    assert mirror("verify", env=env).returncode == 4
    assert os.listdir(root / "quarantine")


def test_a_terminal_sees_a_bar_and_the_same_last_line(offline):
    root, env = offline
    flip(blob_of(root, 1))
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "registry_mirror", "verify"], env={**env, "TERM": "xterm"}, stderr=theirs, text=True
    )
    os.close(theirs)
    seen = b""
    with open(ours, "rb", buffering=0) as terminal:
        try:
            while piece := terminal.read(4096):
                seen += piece
        except OSError:  # how a terminal ends
            pass
    assert process.wait(30) == 4
    assert b" of 6 files" in seen
    assert b"(model-00001): its file does not match its digest" in seen
    assert b"bad: hashed 6 files" in seen


def test_a_file_that_was_found_damaged_is_not_told_as_a_fetch_that_failed(offline):
    root, env = offline
    flip(blob_of(root, 1))
    mirror("verify", env=env)
    done = mirror("path", "model-00001", env=env)
    assert done.returncode == 9
    assert "found damaged or missing at " in done.stderr
    assert "its file does not match its digest; `mirror sync` fetches it again" in done.stderr
    assert "failed" not in done.stderr
    lines = mirror("status", env=env).stdout.splitlines()
    assert [line for line in lines if line.startswith(("not fetched", "found bad"))] == ["found bad    1"]
    (said,) = [line for line in lines if line.startswith("  model-00001 (onnx): its file does not match")]
    assert "; found 2" in said
