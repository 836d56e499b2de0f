"""`mirror daemon`: repeats, obeys signals, tells systemd, and outlives a failing upstream."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading

import pytest
from support.documents import make_document, make_model, many_models, weights_bytes
from support.syncing import environment, mirror, start_mirror, wait_for
from support.upstream import FaultyUpstream, Gate, Hold, error

from registry_mirror import Mirror
from registry_mirror.errors import Interrupted
from registry_mirror.sync.daemon import wait_after
from registry_mirror.sync.stop import Stop
from registry_mirror.systemd import Notifier, watchdog_interval


@pytest.fixture
def env(upstream, root):
    return environment(upstream, root)


class Running:
    """A daemon whose records are read as they come."""

    def __init__(self, *args, env):
        self.process = start_mirror("daemon", "--json", *args, env=env)
        # Standard error is read all along, so that the pipe never fills.
        self.said = []
        self._reader = threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True)
        self._reader.start()

    def record(self):
        return json.loads(self.process.stdout.readline())["run"]

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        code = self.process.wait(timeout=20)
        self._reader.join(timeout=5)
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@pytest.fixture
def daemon(env):
    started = []

    def start(*args, **more):
        started.append(Running(*args, env={**env, **more}))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.end(signal.SIGKILL)


@pytest.mark.parametrize(
    ("every", "failures", "longest", "expected"),
    [
        (900, 0, 3600, 900),
        (900, 1, 3600, 1800),
        (900, 2, 3600, 3600),
        (900, 50, 3600, 3600),
        (900, 5000, 3600, 3600),
        (86400, 3, 3600, 86400),
        (10, 3, 3600, 80),
    ],
)
def test_each_failure_doubles_the_wait_up_to_a_limit(every, failures, longest, expected):
    assert wait_after(every, failures, longest, 1.0) == expected


def test_the_wait_jitters():
    assert wait_after(900, 0, 3600, 0.9) == pytest.approx(810)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_syncs_at_once_and_a_signal_in_the_wait_ends_it_cleanly(daemon, root, number):
    running = daemon()
    assert running.record()["fetched"]["files"] == 3
    assert running.end(number) == 0
    assert "Traceback" not in "".join(running.said)
    assert len(list(Mirror(root).models.iter())) == 3


def test_sighup_runs_now_and_finds_what_is_new(daemon, upstream):
    running = daemon("--every", "1h")
    running.record()
    upstream.add(make_model(8))
    running.process.send_signal(signal.SIGHUP)
    assert running.record()["added"] == 1
    assert running.end() == 0


def test_sigterm_in_a_download_ends_it_cleanly_and_loses_nothing_that_was_finished(daemon, upstream, root):
    gate = Gate()
    upstream.inject(Hold(gate, after=10), kind="weights", path=make_document(2)["id"])
    running = daemon(MIRROR_SYNC_WORKERS="1")
    wait_for(lambda: any(path.stat().st_size == 10 for path in (root / "incoming").glob("weights.*.part")))
    assert running.end() == 0
    assert [path.stat().st_size for path in (root / "incoming").glob("weights.*.part")] == [10]
    cached = {model.name for model in Mirror(root).models.iter() if model.mirror.cached}
    assert cached == {"model-00000", "model-00001"}


def test_a_failing_upstream_never_ends_it(daemon, upstream):
    upstream.inject(error(500), kind="list", times=4)
    running = daemon("--every", "10s")
    assert running.record()["outcome"] == "failed"
    running.process.send_signal(signal.SIGHUP)
    assert running.record()["outcome"] == "ok"
    assert running.end() == 0


def test_a_root_that_cannot_be_written_for_a_while_never_ends_it(daemon, root, tmp_path):
    running = daemon("--every", "1h")
    assert running.record()["outcome"] == "ok"
    (root / "incoming").rename(tmp_path / "away")
    (root / "incoming").write_text("in the way")
    (root / "blobs").rename(tmp_path / "blobs")
    running.process.send_signal(signal.SIGHUP)
    wait_for(lambda: any("failed: " in line for line in running.said))
    (root / "incoming").unlink()
    (tmp_path / "away").rename(root / "incoming")
    (tmp_path / "blobs").rename(root / "blobs")
    running.process.send_signal(signal.SIGHUP)
    while (record := running.record())["outcome"] != "ok":
        pass
    assert record["unchanged"] == 3
    assert running.end() == 0


def test_a_full_disk_does_not_end_it_either(disk, upstream):
    upstream.add(make_model(7, size=4 << 20))
    running = Running("--every", "1h", env=environment(upstream, disk / "root"))
    assert "no space left" in running.record()["error"]
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
    running.process.send_signal(signal.SIGHUP)
    record = running.record()
    assert (record["outcome"], record["fetched"]["bytes"]) == ("ok", 4 << 20)
    assert running.end() == 0


def test_a_run_that_another_sync_keeps_out_is_said_and_tried_again(daemon, upstream, env):
    gate = Gate()
    upstream.inject(Hold(gate, after=10), kind="weights")
    by_hand = start_mirror("sync", env=env)
    gate.wait_reached()
    running = daemon("--every", "1h")
    wait_for(lambda: any("another run holds the root" in line for line in running.said))
    gate.release.set()
    by_hand.communicate(timeout=30)
    running.process.send_signal(signal.SIGHUP)
    assert running.record()["unchanged"] == 3
    assert running.end() == 0


def test_settings_that_are_unusable_at_the_start_end_it_with_2(env):
    assert mirror("daemon", "--every", "soon", env=env).returncode == 2
    del env["PICTOGRAPH_API_KEY"]
    assert mirror("daemon", env=env).returncode == 2


def test_a_key_that_was_changed_in_its_file_is_used_without_a_restart(daemon, upstream, tmp_path):
    key = tmp_path / "key"
    key.write_text("pk_live_old")
    running = daemon("--every", "1h", MIRROR_UPSTREAM_API_KEY_FILE=str(key))
    assert "401" in running.record()["error"]
    key.write_text(upstream.api_key)
    running.process.send_signal(signal.SIGHUP)
    assert running.record()["outcome"] == "ok"
    assert running.end() == 0


def messages(listening, until):
    """What systemd would receive, up to a message that begins with `until`."""
    found = []
    while not any(line.startswith(until) for line in found):
        found += listening.recv(4096).decode().splitlines()
    return found


def test_systemd_hears_ready_status_watchdog_and_stopping(daemon, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(20)
        listening.bind(str(tmp_path / "notify"))
        running = daemon(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="300000")
        assert messages(listening, "READY=1")[0] == "READY=1"
        assert any("STATUS=ok: 3 models" in line for line in messages(listening, "STATUS=ok"))
        running.record()
        assert messages(listening, "WATCHDOG=1")
        assert running.end() == 0
        assert messages(listening, "STOPPING=1")


def test_systemd_hears_a_sign_of_life_while_a_download_is_slow(daemon, upstream, tmp_path):
    gate = Gate()
    upstream.inject(Hold(gate, after=10), kind="weights")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(20)
        listening.bind(str(tmp_path / "notify"))
        running = daemon(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="300000")
        gate.wait_reached()
        messages(listening, "WATCHDOG=1")
        messages(listening, "WATCHDOG=1")
        gate.release.set()
        assert running.record()["outcome"] == "ok"
        running.end()


@pytest.mark.parametrize(
    ("env", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 1.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_three_times_as_often_as_systemd_asks(env, interval):
    assert watchdog_interval(env, 7) == interval


def test_without_systemd_nothing_is_told():
    Notifier({}).ready("x")
    Notifier({"NOTIFY_SOCKET": "/no/such/socket"}).ready("x")


def test_an_abstract_socket_is_reached():
    name = f"registry-mirror-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(5)
        listening.bind(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready("up")
        assert listening.recv(100) == b"READY=1\nSTATUS=up"


def test_a_wait_ticks_and_ends_soon_after_the_end_is_asked_for():
    ticks = []
    stop = Stop(lambda: ticks.append(1))
    stop.wait(0)
    assert ticks
    threading.Timer(0.05, stop.set).start()
    with pytest.raises(Interrupted):
        stop.wait(60)


def test_a_large_account_is_mirrored_by_a_daemon_too(root):
    with FaultyUpstream(many_models(120)) as upstream:
        running = Running(env=environment(upstream, root))
        assert running.record()["fetched"]["files"] == 120
        assert running.end() == 0
    assert Mirror(root).models.path("model-00119").read_bytes() == weights_bytes(119)
