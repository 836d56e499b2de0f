"""Standard input, output and error that are closed, full, or read by nobody: the work is done all the same."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from support.documents import make_model
from support.roots import Root
from support.syncing import environment, run_sync, start_mirror
from support.upstream import Gate, Hold

from registry_mirror import Mirror
from registry_mirror.streams import Output

FILES = ("catalog.sqlite", "index.sqlite", "run.json", "FORMAT")


@pytest.fixture
def env(upstream, root):
    return environment(upstream, root)


def shell(line, env, *arguments, **run):
    """`mirror` with redirections as a shell makes them; what stays open is captured."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m registry_mirror "$@" {line}', sys.executable, *arguments],
        env=env, capture_output=True, text=True, check=False, timeout=60, **run,
    )  # fmt: skip


@pytest.mark.parametrize("line", ["2>&-", ">&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_sync_does_its_work_whichever_streams_are_closed_or_full(env, root, line):
    done = shell(line, env, "sync", *(["--json"] if ">&-" not in line.replace("2>&-", "") else []))
    assert done.returncode == 0, done.stderr
    assert len([model for model in Mirror(root).models.iter() if model.mirror.cached]) == 3
    assert json.loads((root / "run.json").read_text())["run"]["outcome"] == "ok"
    for name in FILES:
        assert b"ok: 3 models" not in (root / name).read_bytes()


def test_no_file_of_the_mirror_gets_the_number_of_a_stream_that_was_closed(env, root, upstream):
    gate = Gate()
    upstream.inject(Hold(gate, after=10), kind="weights", path="")
    running = subprocess.Popen(
        ["/bin/sh", "-c", 'exec "$0" -m registry_mirror sync <&- >&- 2>&-', sys.executable], env=env
    )
    gate.wait_reached()
    try:
        opened = [os.readlink(f"/proc/{running.pid}/fd/{number}") for number in range(3)]
    finally:
        gate.release.set()
    assert opened == ["/dev/null"] * 3
    assert running.wait(60) == 0


def test_a_log_whose_reader_goes_away_in_the_middle_does_not_stop_a_sync(upstream, env, root):
    gate = Gate()
    upstream.inject(Hold(gate, after=10), kind="weights", path="")
    running = start_mirror("-v", "sync", env=env)
    gate.wait_reached()
    running.stderr.close()
    gate.release.set()
    assert running.wait(60) == 0
    running.stdout.close()
    assert len([model for model in Mirror(root).models.iter() if model.mirror.cached]) == 3


def test_delete_without_a_standard_input_asks_nobody_and_says_what_to_give(upstream, env):
    for line in ("<&-", "</dev/null"):
        done = shell(line, env, "delete", "model-00001")
        assert done.returncode == 2
        assert "--yes" in done.stderr
    assert len(upstream.models) == 3


@pytest.fixture
def full_root(tmp_path):
    root = Root(tmp_path / "full")
    for number in range(400):
        root.add(f"model-{number}")
    root.publish()
    return {**os.environ, "MIRROR_ROOT": str(tmp_path / "full")}


VERBS = [
    ["list"],
    ["list", "--json"],
    ["get", "model-7", "--json"],
    ["path", "model-7"],
    ["status"],
    ["config", "show"],
    ["--help"],
    ["--version"],
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_full_disk_under_standard_output_is_7_and_one_line(full_root, verb):
    done = shell(">/dev/full", full_root, *verb)
    assert done.returncode == 7
    assert done.stderr == "mirror: No space left on device: standard output\n"


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_reader_of_standard_output_that_went_away_is_no_failure(full_root, verb):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "registry_mirror", *verb], env=full_root, stdout=writing, stderr=subprocess.PIPE,
        check=False, timeout=60,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_pipe_that_does_not_block_gets_all_of_a_long_answer():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    came = []
    with open(reading, "rb") as answer:
        slow = threading.Timer(0.1, lambda: came.append(answer.read()))
        slow.start()
        with io.BufferedWriter(Output(writing, "w")) as output:
            output.write(b"x" * (1 << 20))
        slow.join()
    assert came == [b"x" * (1 << 20)]


def test_a_reader_that_went_away_hides_no_exit_code(full_root):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "registry_mirror", "status", "--max-age", "1s"]
    done = subprocess.run(command, env=full_root, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writing)
    assert done.returncode == 10


def test_a_list_ends_early_when_nobody_reads_it(full_root, monkeypatch):
    from registry_mirror.cli import list as listing
    from registry_mirror.cli import run

    asked = []
    monkeypatch.setattr(listing, "reader_gone", lambda: asked.append(1) or True)
    assert run(["--root", full_root["MIRROR_ROOT"], "list", "--json"]) == 0
    assert len(asked) == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_name_that_standard_output_cannot_carry_is_escaped(tmp_path, encoding):
    root = Root(tmp_path)
    root.add("gabelstapler-\N{GREEK SMALL LETTER OMEGA}")
    root.publish()
    env = {**os.environ, "MIRROR_ROOT": str(tmp_path), "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    for verb in (["list"], ["list", "--json"], ["config", "show"]):
        done = subprocess.run(
            [sys.executable, "-m", "registry_mirror", *verb], env=env, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert b"gabelstapler-" in done.stdout or verb[0] == "config"


@pytest.mark.parametrize(
    "odd",
    [
        {"COLUMNS": "many", "LINES": "-1"},
        {"TERM": "\x1b[31m"},
        {"NO_COLOR": "", "FORCE_COLOR": "?"},
        {"NOTIFY_SOCKET": "/no/such/socket" * 20, "WATCHDOG_USEC": "9" * 5000},
        {"NOTIFY_SOCKET": "@", "WATCHDOG_USEC": "-1"},
        {"TMPDIR": "/no/such/folder"},
        {"HOME": "relative"},
    ],
    ids="+".join,
)
def test_an_odd_environment_does_not_stop_a_sync(env, root, odd):
    verb = ["daemon", "--json"] if "NOTIFY_SOCKET" in odd else ["sync", "--json"]
    running = start_mirror(*verb, env={**env, **odd})
    assert json.loads(running.stdout.readline())["run"]["outcome"] == "ok"
    if verb[0] == "daemon":
        running.terminate()
    _, err = running.communicate(timeout=30)
    assert running.returncode == 0, err


@pytest.mark.parametrize("relative", [False, True])
def test_a_working_folder_that_was_removed_matters_only_to_a_relative_path(upstream, env, root, tmp_path, relative):
    run_sync(upstream, root)
    gone = tmp_path / "gone"
    gone.mkdir()
    env = {**env, "PYTHONPATH": os.pathsep.join(sys.path), "MIRROR_ROOT": "root" if relative else str(root)}
    line = f'cd {gone} && rmdir {gone} && exec {sys.executable} -m registry_mirror "$@"'
    for verb in (["list"], ["sync"]):
        done = subprocess.run(
            ["/bin/sh", "-c", line, "sh", *verb], env=env, capture_output=True, text=True, check=False, timeout=60
        )
        gone.mkdir(exist_ok=True)
        assert done.returncode == (2 if relative else 0), done.stderr
        if relative:
            assert done.stderr.startswith("mirror: environment MIRROR_ROOT: 'root' is relative")


def test_a_relative_setting_where_the_working_folder_was_removed_is_named(upstream, env, root, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    env = {**env, "PYTHONPATH": os.pathsep.join(sys.path), "MIRROR_SERVE_KEYS_FILE": "keys.toml"}
    line = f"cd {gone} && rmdir {gone} && exec {sys.executable} -m registry_mirror sync"
    done = subprocess.run(["/bin/sh", "-c", line], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "environment MIRROR_SERVE_KEYS_FILE: serve.keys_file is a relative path" in done.stderr


def test_a_daemon_whose_output_cannot_be_written_syncs_on(upstream, env, root):
    with open("/dev/full", "wb") as full:
        running = start_mirror("daemon", "--json", "--every", "1h", env=env, stdout=full)
    said = iter(running.stderr.readline, "")
    assert any(line == "the record was not printed: No space left on device\n" for line in said)
    assert json.loads((root / "run.json").read_text())["run"]["outcome"] == "ok"
    upstream.add(make_model(9))
    running.send_signal(signal.SIGHUP)
    assert any("model-00009: fetched" in line for line in said)
    running.terminate()
    assert running.wait(30) == 0
    running.stderr.close()


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs another account")
def test_a_root_that_may_not_be_looked_at_is_a_matter_of_configuration(tmp_path):
    """A folder of pytest's own may be entered by its maker only."""
    env = {**os.environ, "MIRROR_ROOT": str(tmp_path / "root"), "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}
    program = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "registry_mirror"]
    for verb in (["list"], ["path", "x"], ["status"]):
        done = subprocess.run([*program, *verb], env=env, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2, done.stderr
