"""kill -9 in a verify and at each step of giving up a bad blob: nothing is wrong after it, and the next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from support.documents import many_models, weights_bytes
from support.syncing import environment, run_sync, start_mirror, wait_for
from support.upstream import FaultyUpstream
from support.verifying import blob_of, flip, run_verify

from registry_mirror import Mirror, MirrorError
from registry_mirror.catalog import Catalog
from registry_mirror.upkeep.verify.record import VerifyOutcome

# Kills itself before or after a step of a verify of one bad blob.
SCRIPT = """
import os, signal, sys
from pathlib import Path

point, root = sys.argv[1:3]

def die(*_args, **_kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def after(original):
    def call(*args, **kwargs):
        original(*args, **kwargs)
        die()
    return call

from registry_mirror.catalog.checks import Checks
from registry_mirror.writer import Writer
from registry_mirror.config import load_settings
from registry_mirror.store import blobs as store
from registry_mirror.sync.stop import Stop
from registry_mirror.upkeep.verify import ledger
from registry_mirror.upkeep.verify import losses as settle
from registry_mirror.upkeep.verify import run as verify
from registry_mirror.upkeep.verify.record import Watcher

if point == "found, not recorded":
    Checks.record_lost = die
elif point == "recorded, not published":
    Writer.publish_index = die
elif point == "published, not put aside":
    settle.quarantine_only = die
elif point == "put aside, folder not synced":
    store.os.replace = lambda source, target, replace=os.replace: (
        after(replace) if "quarantine" in str(target) else replace)(source, target)
elif point == "put aside, not told":
    settle.quarantine_only = after(settle.quarantine_only)
elif point == "in the transaction of the loss":
    from registry_mirror.catalog import checks
    checks.put_failure = die

verify.verify(load_settings(root=root, env={}).settings, verify.VerifyOptions(), Watcher(), Stop())
"""

POINTS = [
    "found, not recorded",
    "in the transaction of the loss",
    "recorded, not published",
    "published, not put aside",
    "put aside, folder not synced",
    "put aside, not told",
]


def killed(root, point):
    done = subprocess.run([sys.executable, "-c", SCRIPT, point, str(root)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


def readers_are_served(root):
    """Whatever a new reader is given is whole, or was bad before the verify and not seen by a published index yet."""
    with Mirror(root) as mirror:
        for number in range(4):
            try:
                path = mirror.models.path(f"model-{number:05d}")
            except MirrorError:
                assert number == 1
            else:
                assert path.exists()
                assert number == 1 or path.read_bytes() == weights_bytes(number)


@pytest.mark.parametrize("next_run", ["verify", "sync"])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_while_a_bad_blob_is_given_up_leaves_a_root_that_the_next_run_completes(root, point, next_run):
    with FaultyUpstream(many_models(4)) as upstream:
        run_sync(upstream, root)
        damaged = flip(blob_of(root, 1))
        killed(root, point)
        readers_are_served(root)
        if next_run == "verify":
            assert run_verify(root).outcome in (VerifyOutcome.BAD, VerifyOutcome.OK)
            assert not blob_of(root, 1).exists()
            readers_are_served(root)
        run_sync(upstream, root)
        if point in POINTS[:2] and next_run == "sync":
            assert run_verify(root).exit_code == 4  # nobody knew of it
            run_sync(upstream, root)
        assert blob_of(root, 1).read_bytes() == weights_bytes(1)
        assert [each.read_bytes() for each in (root / "quarantine").iterdir()] == [damaged]
        assert run_verify(root).outcome is VerifyOutcome.OK
        assert Mirror(root).status().failures == ()
        assert run_sync(upstream, root).record.storage_requests == 0


SLOW = """
import sys, threading
from registry_mirror.upkeep.verify import scan as look
from registry_mirror.upkeep.verify import scan
from registry_mirror.upkeep.verify import run as verify
from registry_mirror import cli

# Each file takes until the record of the one before is written; the last one takes for ever.
hashing, count = look._hash, 0
def slow(path, **options):
    global count
    count += 1
    if count > 3:
        threading.Event().wait(60)
    return hashing(path, **options)
look._hash = slow
scan.cores = lambda: 1
verify._RECORD_EVERY = 0.0
sys.exit(cli.run(["verify"]))
"""


def checked(root):
    with Catalog(root / "catalog.sqlite") as catalog:
        return sum(bool(blob.check.checked_at) for blob in catalog.checks.blobs())


def test_a_verify_that_is_killed_has_kept_its_checks_and_the_next_one_begins_with_the_others(root):
    with FaultyUpstream(many_models(6)) as upstream:
        run_sync(upstream, root)
    run_verify(root, named=("model-00000",))
    with subprocess.Popen([sys.executable, "-c", SLOW], env={**os.environ, "MIRROR_ROOT": str(root)}) as process:
        wait_for(lambda: checked(root) == 4)
        process.kill()
    assert run_verify(root, older_than=3600.0).tally.checked == 2
    assert Mirror(root).status().upkeep.checks.never == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_with_130_and_what_was_recorded_is_kept(root, number):
    with FaultyUpstream(many_models(6)) as upstream:
        run_sync(upstream, root)
        env = environment(upstream, root)
    script = SLOW.replace("threading.Event().wait(60)", "threading.Event().wait(0.3)")
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: checked(root) == 3)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("interrupted: hashed ")
    status = Mirror(root).status()
    assert status.upkeep.last["outcome"] == "interrupted"
    assert 2 <= status.upkeep.checks.never <= 3


def test_a_second_signal_ends_a_verify_that_hangs_in_a_read(root):
    with FaultyUpstream(many_models(6)) as upstream:
        run_sync(upstream, root)
        env = environment(upstream, root)
    process = subprocess.Popen([sys.executable, "-c", SLOW], env=env, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: checked(root) == 3)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_readers_and_a_second_verify_beside_it_wait_for_nothing(root):
    with FaultyUpstream(many_models(6)) as upstream:
        run_sync(upstream, root)
        env = environment(upstream, root)
    with subprocess.Popen([sys.executable, "-c", SLOW], env=env) as process:
        wait_for(lambda: checked(root) == 3)
        beside = start_mirror("verify", "--json", env=env)
        out, _ = beside.communicate(timeout=30)
        assert (beside.returncode, '"files": 6' in out) == (0, True)
        assert Mirror(root).models.path("model-00001", verify=True)
        process.kill()
