"""The operator's command: what it is given, how long it may take, and that no failure of a sync is silent."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
import threading

import pytest
from support.syncing import environment, mirror, run_sync, settings_for, start_mirror, wait_for

from registry_mirror.errors import ConfigurationError, Interrupted, LockedError, MirrorError, NotFoundError
from registry_mirror.model import utc_now
from registry_mirror.sync import alert as notifying
from registry_mirror.sync.alert import notify, recording_failures
from registry_mirror.sync.record import FailedModel, RunOutcome, RunRecord, RunTally
from registry_mirror.sync.stop import Stop

READS = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"


def alert(upstream, root, code, *arguments, record=None, stop=None, patience=20.0):
    """Runs a Python command as the alert of a failed run; gives back what was said of it."""
    said = []
    settings = settings_for(upstream, root, {"sync.on_failure": [sys.executable, "-S", "-c", code, *arguments]})
    notify(settings, record or failed(), said.append, stop or Stop(), patience)
    return said


def failed(models=0):
    tally = RunTally(utc_now(), failed=[FailedModel(f"{number:0200}", "n", "e") for number in range(models)])
    return RunRecord(RunOutcome.FAILED, tally, utc_now(), 0, 0, "it did not go well")


def test_a_command_that_takes_a_second_gets_it(upstream, root, tmp_path):
    took = tmp_path / "took"
    code = f"import time; time.sleep(0.7); {READS}"
    assert alert(upstream, root, code, str(took)) == []
    assert json.loads(took.read_bytes())["run"]["error"] == "it did not go well"


def test_a_record_that_is_larger_than_a_pipe_arrives_whole_at_a_slow_reader(upstream, root, tmp_path):
    took, record = tmp_path / "took", failed(4000)
    code = f"import time; time.sleep(0.5); {READS}"
    assert alert(upstream, root, code, str(took), record=record) == []
    assert json.loads(took.read_bytes()) == {"run": record.as_json()}


@pytest.mark.parametrize("ending", ["pass", "import os; os.close(0); import time; time.sleep(0.5)"])
def test_a_command_that_reads_nothing_of_a_large_record_is_well(upstream, root, ending):
    assert alert(upstream, root, ending, record=failed(4000)) == []


def test_a_command_that_hangs_is_ended_and_said(upstream, root):
    hangs = "import threading; threading.Event().wait()"
    for record in (failed(), failed(4000)):
        (line,) = alert(upstream, root, hangs, record=record, patience=0.3)
        assert line.endswith("was ended: it took too long")


def test_a_command_that_ends_badly_is_said_with_how(upstream, root):
    assert alert(upstream, root, "raise SystemExit(7)")[0].endswith(" ended with 7")
    assert alert(upstream, root, "import os; os.kill(os.getpid(), 11)")[0].endswith(" was ended by signal 11")


def test_a_child_that_keeps_the_input_open_holds_nobody_up(upstream, root, tmp_path):
    """It has a session of its own, so the end of the command's group does not reach it either."""
    pid = tmp_path / "pid"
    child = "import time; time.sleep(60)"
    code = (
        "import pathlib, subprocess, sys; "
        f"child = subprocess.Popen([sys.executable, '-S', '-c', {child!r}], start_new_session=True); "
        "pathlib.Path(sys.argv[1]).write_text(str(child.pid))"
    )
    try:
        assert alert(upstream, root, code, str(pid), record=failed(4000), patience=30) == []
    finally:
        os.kill(int(pid.read_text()), 9)


def test_a_signal_ends_the_command_at_once(upstream, root):
    stop = Stop()
    threading.Timer(0.2, stop.set).start()
    (line,) = alert(upstream, root, "import threading; threading.Event().wait()", stop=stop)
    assert line.endswith("was ended: a signal came")


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_command_that_may_not_be_killed_is_said_and_waited_for_no_longer(upstream, root, monkeypatch):
    hanging = []

    def refused(group, _signal):
        hanging.append(group)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "killpg", refused)
    monkeypatch.setattr(notifying, "_LAST", 0.1)
    try:
        (line,) = alert(upstream, root, "import threading; threading.Event().wait()", patience=0.2)
    finally:
        os.kill(hanging[0], 9)
        os.waitpid(hanging[0], 0)
    assert line.endswith("could not be ended, and goes on: it took too long")


def test_a_process_with_a_thousand_files_open_alerts_as_well(upstream, root, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2048), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert alert(upstream, root, READS, str(tmp_path / "took")) == []
    finally:
        for each in opened:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (tmp_path / "took").exists()


def test_a_command_of_a_run_without_a_standard_error_has_one(upstream, root, tmp_path):
    """Otherwise the first file that it opens gets the number, and what the command says is written into it."""
    listing = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(os.readlink('/proc/self/fd/2'))"
    (tmp_path / "alert.py").write_text(listing)
    command = f"{sys.executable} -S {tmp_path / 'alert.py'} {tmp_path / 'opened'}"
    env = environment(upstream, root, MIRROR_SYNC_ON_FAILURE=command, PICTOGRAPH_API_KEY="pk_live_wrong")
    closed = ["/bin/sh", "-c", 'exec "$0" -m registry_mirror sync <&- >&- 2>&-', sys.executable]
    assert subprocess.run(closed, env=env, check=False, timeout=60).returncode == 5
    assert (tmp_path / "opened").read_text() == "/dev/null"


# --- what ends before it is a run ------------------------------------------------------------------------------------


@pytest.fixture
def env(upstream, root, tmp_path):
    script = tmp_path / "alert.py"
    script.write_text(READS)
    alerting = f"{sys.executable} -S {script} {tmp_path / 'alert.json'}"
    return environment(upstream, root, MIRROR_SYNC_ON_FAILURE=alerting)


def without_a_key(env, root):
    del env["PICTOGRAPH_API_KEY"]


def with_a_key_file_that_is_gone(env, root):
    env["MIRROR_UPSTREAM_API_KEY_FILE"] = str(root.parent / "gone")


def with_a_newer_catalog(env, root):
    with sqlite3.connect(root / "catalog.sqlite") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()


def with_a_catalog_that_is_none(env, root):
    (root / "catalog.sqlite").write_bytes(b"no database " * 500)


def with_a_file_in_place_of_blobs(env, root):
    (root / "blobs").rename(root / ".blobs")
    (root / "blobs").write_text("in the way")


def without_a_library(env, root):
    (root.parent / "sitecustomize.py").write_text("import sys\nsys.modules['httpx'] = None\n")
    env["PYTHONPATH"] = str(root.parent)


FAILURES = [
    (without_a_key, 2, "no API key"),
    (with_a_key_file_that_is_gone, 2, "api_key_file"),
    (with_a_newer_catalog, 1, "schema 9999"),
    (with_a_catalog_that_is_none, 1, "cannot read the catalog"),
    (with_a_file_in_place_of_blobs, 2, "cannot write to the root"),
    (without_a_library, 2, "needs httpx"),
]


@pytest.mark.parametrize(("breaking", "code", "words"), FAILURES)
def test_what_ends_a_sync_before_it_begins_is_one_line_a_record_and_an_alert(
    upstream, env, root, tmp_path, breaking, code, words
):
    run_sync(upstream, root)
    before = json.loads((root / "run.json").read_text())
    breaking(env, root)
    done = mirror("sync", env=env)
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert words in line
    after = json.loads((root / "run.json").read_text())
    assert (after["run"]["outcome"], after["run"]["error"]) == ("failed", line.removeprefix("mirror: "))
    assert after["last_synced_at"] == before["last_synced_at"]
    assert json.loads((tmp_path / "alert.json").read_text())["run"] == after["run"]


@pytest.mark.parametrize("there", [False, True])
def test_where_there_is_no_root_yet_a_failure_makes_none_and_is_told_all_the_same(env, root, tmp_path, there):
    if there:
        root.mkdir()
    without_a_key(env, root)
    done = mirror("sync", env=env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert os.listdir(root) == [] if there else not root.exists()
    assert "no API key" in json.loads((tmp_path / "alert.json").read_text())["run"]["error"]


@pytest.mark.parametrize("kind", ["strangers", "newer", "file"])
def test_a_folder_that_is_no_root_of_ours_gets_no_record_and_the_alert_comes_all_the_same(env, root, tmp_path, kind):
    if kind == "file":
        root.write_text("")
    else:
        root.mkdir()
        (root / ("FORMAT" if kind == "newer" else "thesis.tex")).write_text("99\n")
    done = mirror("sync", env=env)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not (root / "run.json").exists()
    assert "failed" in (tmp_path / "alert.json").read_text()


def test_a_fault_of_ours_before_the_run_is_recorded_and_told(upstream, root, monkeypatch):
    run_sync(upstream, root)
    said, settings = [], settings_for(upstream, root, {"sync.on_failure": ["/no/such/program"]})
    with (
        pytest.raises(MirrorError, match="a fault in registry-mirror: ZeroDivisionError"),
        recording_failures(settings, said.append, Stop()),
    ):
        raise ZeroDivisionError
    assert said == ["sync.on_failure: /no/such/program did not run: No such file or directory"]
    assert "ZeroDivisionError" in json.loads((root / "run.json").read_text())["run"]["error"]


def test_a_record_that_cannot_be_written_is_said_beside_what_failed(upstream, root):
    run_sync(upstream, root)
    (root / "run.json").unlink()
    (root / "run.json").mkdir()
    said, settings = [], settings_for(upstream, root)
    with pytest.raises(ConfigurationError), recording_failures(settings, said.append, Stop()):
        raise ConfigurationError("no key")
    (line,) = said
    assert line.startswith("run.json was not written: ")


@pytest.mark.parametrize("error", [LockedError("held"), NotFoundError("nobody"), Interrupted("interrupted")])
def test_what_is_no_failed_run_is_neither_recorded_nor_told(upstream, root, error):
    said, settings = [], settings_for(upstream, root, {"sync.on_failure": ["/no/such/program"]})
    with pytest.raises(type(error)), recording_failures(settings, said.append, Stop()):
        raise error
    assert said == []
    assert not root.exists()


@pytest.mark.parametrize(
    ("where", "wrong"), [("environment", ""), ("file", "workers = 0"), ("file", "worker = 2"), ("file", "workers =")]
)
def test_settings_that_cannot_be_used_are_said_to_have_alerted_nobody(env, root, tmp_path, where, wrong):
    if where == "file":
        env["MIRROR_CONFIG"] = str(tmp_path / "mirror.toml")
        command = env.pop("MIRROR_SYNC_ON_FAILURE")
        (tmp_path / "mirror.toml").write_text(f'[sync]\non_failure = "{command}"\n{wrong}\n')
    else:
        env["MIRROR_SYNC_WORKERS"] = "0"
    done = mirror("sync", env=env)
    assert done.returncode == 2
    note, line = done.stderr.splitlines()
    assert note == "note: sync.on_failure was not run: it is one of the settings that cannot be used now"
    assert line.startswith("mirror: ")
    assert not (tmp_path / "alert.json").exists()


@pytest.mark.parametrize(
    ("line", "noted"),
    [
        ('on_failure = "x"', True),
        ('sync.on_failure = "x"', True),
        ('"on_failure" = "x"', True),
        ('sync = { workers = 2, on_failure = "x" }', True),
        ('# on_failure = "x"', False),
        ('workers = 2  # or on_failure = "x"', False),
        ('# see on_failure\nx = "on_failure"', False),
    ],
)
def test_only_a_file_that_names_a_command_is_said_to_have_alerted_nobody(env, tmp_path, line, noted):
    del env["MIRROR_SYNC_ON_FAILURE"]
    (tmp_path / "mirror.toml").write_text(f"{line}\nworker = = 2\n")
    done = mirror("--config", str(tmp_path / "mirror.toml"), "sync", env=env)
    assert done.returncode == 2
    assert ("sync.on_failure was not run" in done.stderr) is noted


def test_a_dry_run_that_fails_alerts_nobody(env, root, tmp_path):
    without_a_key(env, root)
    assert mirror("sync", "--dry-run", env=env).returncode == 2
    assert not (tmp_path / "alert.json").exists()
    assert not root.exists()


def test_a_daemon_that_has_no_key_ends_with_2_a_record_and_an_alert(upstream, env, root, tmp_path):
    run_sync(upstream, root)
    without_a_key(env, root)
    done = mirror("daemon", env=env)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "no API key" in json.loads((root / "run.json").read_text())["run"]["error"]
    assert (tmp_path / "alert.json").exists()


@pytest.mark.parametrize("what", ["key", "settings"])
def test_a_daemon_that_loses_its_key_or_its_settings_tells_of_it_and_goes_on(upstream, env, root, tmp_path, what):
    key, config = tmp_path / "key", tmp_path / "mirror.toml"
    key.write_text(upstream.api_key)
    config.write_text(f'[upstream]\napi_key_file = "{key}"\n')
    running = start_mirror("--config", str(config), "daemon", "--every", "1h", "--json", env=env)
    try:
        assert json.loads(running.stdout.readline())["run"]["outcome"] == "ok"
        broken = {"key": key, "settings": config}[what]
        good = broken.read_text()
        broken.write_text("")
        if what == "settings":
            broken.write_text("no toml")
        running.send_signal(1)
        wait_for((tmp_path / "alert.json").exists)
        wait_for(lambda: json.loads((root / "run.json").read_text())["run"]["outcome"] == "failed")
        broken.write_text(good)
        running.send_signal(1)
        assert json.loads(running.stdout.readline())["run"]["outcome"] == "ok"
    finally:
        running.terminate()
        running.communicate(timeout=20)


def test_an_alert_comes_also_where_the_record_cannot_be_printed(upstream, env, root, tmp_path):
    env["PICTOGRAPH_API_KEY"] = "pk_live_wrong"
    with open("/dev/full", "wb") as full:
        process = start_mirror("sync", "--json", env=env, stdout=full)
        process.communicate(timeout=30)
    assert process.returncode == 7
    assert "401" in json.loads((tmp_path / "alert.json").read_text())["run"]["error"]
