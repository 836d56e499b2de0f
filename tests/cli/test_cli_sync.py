"""`mirror sync`, `delete` and `download --fetch` as commands: what they print, write and end with."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from support.documents import make_document, make_model, many_models, weights_bytes
from support.syncing import environment, files_under, mirror, run_record, run_sync, start_mirror, wait_for
from support.upstream import FaultyUpstream, Gate, Hold, error, html

from registry_mirror import Mirror


@pytest.fixture
def env(upstream, root):
    return environment(upstream, root)


def test_sync_prints_a_last_line_that_says_it_all_and_nothing_on_standard_output(env):
    done = mirror("sync", env=env)
    assert done.returncode == 0
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ok: 3 models (3 added, 0 changed, 0 unchanged), fetched 3 files (768 B)")
    assert "5 API and 3 storage requests" in last


def test_sync_json_prints_the_record_and_writes_it_to_the_root(env, root):
    done = mirror("sync", "--json", env=env)
    record = run_record(done)
    assert record["fetched"] == {"files": 3, "bytes": 768}
    assert json.loads((root / "run.json").read_text())["run"] == record


def test_a_bar_is_drawn_on_a_terminal_only(env):
    assert "\x1b" not in mirror("sync", env=env).stderr
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "registry_mirror", "--root", f"{env['MIRROR_ROOT']}2", "sync"],
        env={**env, "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(leader)
    assert process.wait(timeout=30) == 0
    assert b"\x1b[" in shown
    assert b"ok: 3 models" in shown


def test_failed_models_are_named_before_the_last_line_and_the_exit_code_is_3(upstream, env):
    upstream.inject(error(404), kind="weights", path=make_document(1)["id"], times=None)
    done = mirror("sync", env=env)
    assert done.returncode == 3
    *_, named, last = done.stderr.splitlines()
    assert named.startswith("failed: model-00001: storage ")
    assert "model-00001: failed: storage " in done.stderr
    assert "; " in (line := next(line for line in mirror("status", env=env).stdout.splitlines() if "1 attempt" in line))
    assert line.strip().startswith("model-00001 (onnx): storage ")
    assert last.startswith("partial: ")
    assert last.endswith("1 failed")


@pytest.mark.parametrize(("fault", "code"), [(html(), 1), (error(401), 5), (error(500), 5)])
def test_a_listing_that_fails_has_its_exit_code_and_a_last_line_with_the_reason(upstream, env, fault, code):
    upstream.inject(fault, kind="list", times=None)
    done = mirror("sync", env=env)
    assert done.returncode == code
    assert done.stderr.splitlines()[-1].startswith("failed: 0 models")
    assert "Traceback" not in done.stderr


def test_an_upstream_that_is_not_there_ends_with_5_and_names_the_host(upstream, env):
    upstream.stop()
    done = mirror("sync", env=env)
    assert done.returncode == 5
    assert "127.0.0.1" in done.stderr


def test_without_a_key_one_line_says_how_to_give_one(env, root):
    del env["PICTOGRAPH_API_KEY"]
    done = mirror("sync", env=env)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "PICTOGRAPH_API_KEY" in done.stderr
    assert str(root) in done.stderr


@pytest.mark.parametrize("args", [["sink"], ["sync", "--sizes"], ["sync", "--nope"], ["delete"]])
def test_wrong_usage_ends_with_2(env, args):
    assert mirror(*args, env=env).returncode == 2


def test_a_second_sync_ends_with_6_at_once_and_names_the_holder_and_wait_waits(upstream, env, root):
    gate = Gate()
    upstream.inject(Hold(gate, after=10), kind="weights")
    first = start_mirror("sync", "--json", env=env)
    gate.wait_reached()
    second = mirror("sync", env=env)
    assert second.returncode == 6
    assert f"process {first.pid} on " in second.stderr
    assert "--wait" in second.stderr
    waiting = start_mirror("sync", "--wait", "--json", env=env)
    gate.release.set()
    out, _ = first.communicate(timeout=30)
    assert json.loads(out)["run"]["outcome"] == "ok"
    out, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 0
    assert json.loads(out)["run"]["unchanged"] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_download_ends_with_130_one_line_and_a_part_that_the_next_run_goes_on_with(
    upstream, env, root, number
):
    gate = Gate()
    upstream.inject(Hold(gate, after=10), kind="weights", path=make_document(1)["id"])
    process = start_mirror("sync", env=env)
    wait_for(lambda: any(path.stat().st_size == 10 for path in (root / "incoming").glob("weights.*.part")))
    wait_for(lambda: len(list((root / "blobs").glob("*/*.onnx"))) == 2)  # or one of the others is cut as well
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("failed: ")
    assert err.splitlines()[-1].endswith("interrupted")
    assert "Traceback" not in err
    assert [path.stat().st_size for path in (root / "incoming").glob("weights.*.part")] == [10]
    assert json.loads((root / "run.json").read_text())["run"]["outcome"] == "failed"
    gate.release.set()
    upstream.requests.clear()
    done = mirror("sync", "--json", env=env)
    assert run_record(done)["outcome"] == "ok"
    assert "bytes=10-" in [entry.headers.get("range") for entry in upstream.requests.entries]
    assert files_under(root / "incoming") == []
    assert all(model.mirror.cached for model in Mirror(root).models.iter())


def test_a_signal_during_the_listing_ends_with_130(upstream, env):
    gate = Gate()
    upstream.inject(Hold(gate), kind="list")
    process = start_mirror("sync", env=env)
    gate.wait_reached()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130


def test_dry_run_prints_the_plan_with_its_rules_and_changes_nothing(env, root, tmp_path):
    config = tmp_path / "mirror.toml"
    config.write_text('[[sync.rules]]\naction = "exclude"\nnames = ["*-00001"]\n')
    done = mirror("--config", str(config), "sync", "--dry-run", env=env)
    assert done.returncode == 0
    assert not root.exists()
    lines = dict(zip(("2", "1", "0"), sorted(done.stdout.splitlines(), key=lambda line: line[20:])[::-1], strict=True))
    assert lines["0"].startswith("fetch")
    assert "not fetched yet [no rule matches: included]" in lines["0"]
    assert lines["1"].startswith("nothing")
    assert "[rule 1: exclude names *-00001]" in lines["1"]
    assert "2 files to fetch" in done.stderr
    assert "2 of unknown size (--sizes asks)" in done.stderr


def test_dry_run_json_has_the_bytes_and_sizes_asks_for_the_rest(upstream, env, root):
    plan = json.loads(mirror("sync", "--dry-run", "--json", env=env).stdout)["plan"]
    assert plan["fetch"] == {"files": 3, "bytes": 0, "unknown": 3}
    assert upstream.requests.storage == 0
    asked = json.loads(mirror("sync", "--dry-run", "--sizes", "--json", env=env).stdout)["plan"]
    assert asked["fetch"] == {"files": 3, "bytes": 768, "unknown": 0}
    mirror("sync", env=env)
    kept = json.loads(mirror("sync", "--dry-run", "--json", env=env).stdout)["plan"]
    assert kept["fetch"]["files"] == 0
    assert {each["files"][0]["action"] for each in kept["models"]} == {"keep"}
    assert {each["files"][0]["bytes"] for each in kept["models"]} == {256}


@pytest.mark.parametrize("how", [(), ("--dry-run",), ("--json",)])
def test_an_unknown_name_is_one_line_with_the_nearest_names_and_no_alert(upstream, env, root, how, tmp_path):
    assert run_record(mirror("sync", "model-00001", "--json", env=env))["fetched"]["files"] == 1
    alert = {"MIRROR_SYNC_ON_FAILURE": f"touch {tmp_path / 'alert'}"}
    done = mirror("sync", "model-0001", *how, env={**env, **alert})
    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr.count("\n") == 1
    assert "lists no model 'model-0001'; did you mean 'model-00001'" in done.stderr
    assert not (tmp_path / "alert").exists()


def test_after_a_run_that_was_not_ok_the_operators_command_gets_the_record(upstream, env, tmp_path):
    script = tmp_path / "alert.py"
    script.write_text("import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())")
    env["MIRROR_SYNC_ON_FAILURE"] = f"{sys.executable} {script} {tmp_path / 'alert.json'}"
    mirror("sync", env=env)
    assert not (tmp_path / "alert.json").exists()
    upstream.inject(error(500), kind="list", times=None)
    done = mirror("sync", "--json", env=env)
    assert json.loads((tmp_path / "alert.json").read_text()) == json.loads(done.stdout)


@pytest.mark.parametrize("command", ["/no/such/program", f"{sys.executable} -c exit(7)"])
def test_an_operators_command_that_fails_is_said_and_hides_nothing(upstream, env, command):
    env["MIRROR_SYNC_ON_FAILURE"] = command
    upstream.inject(error(500), kind="list", times=None)
    done = mirror("sync", env=env)
    assert done.returncode == 5
    assert "sync.on_failure" in done.stderr


def test_the_key_and_signed_addresses_are_in_nothing_that_a_sync_leaves_or_prints(upstream, env, root, tmp_path):
    upstream.inject(error(401, f"bad key {upstream.api_key}"), kind="download", path=make_document(2)["id"], times=None)
    upstream.inject(error(503), kind="weights", path=make_document(1)["id"], times=None)
    printed = ""
    for args in (["-v", "sync"], ["-v", "sync", "--json"], ["config", "show"], ["-v", "list", "--json"], ["status"]):
        done = mirror(*args, env=env)
        printed += done.stdout + done.stderr
    left = b"".join((root / name).read_bytes() for name in files_under(root))
    for secret in (upstream.api_key, "token="):
        assert secret not in printed
        assert secret.encode() not in left
    assert "model-00002" in printed
    assert "GET /models/: HTTP 200" in printed
    assert "storage 127.0.0.1 answered HTTP 503" in printed


def test_readers_answer_as_before_when_the_upstream_is_shut_down(upstream, env, root, tmp_path):
    mirror("sync", env=env)

    def answers():
        verbs = [["list", "--json"], ["get", "model-00001", "--json"], ["path", "model-00001"]]
        return [mirror(*verb, env=env) for verb in [*verbs, ["download", "model-00002", "-o", str(tmp_path / "m")]]]

    before = answers()
    upstream.stop()
    del env["PICTOGRAPH_API_KEY"]
    after = answers()
    assert [done.returncode for done in after] == [0] * 4
    assert [done.stdout for done in after] == [done.stdout for done in before]
    assert (tmp_path / "m").read_bytes() == weights_bytes(2)
    status = mirror("status", "--json", "--max-age", "1h", env=env)
    assert status.returncode == 0
    assert json.loads(status.stdout)["models"]["ready"] == 3


def test_download_fetch_asks_the_upstream_for_what_is_absent_and_only_then(upstream, env, root, tmp_path):
    output = str(tmp_path / "m.onnx")
    assert mirror("download", "model-00001", "-o", output, env=env).returncode == 2
    done = mirror("download", "model-00001", "-o", output, "--fetch", env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m.onnx").read_bytes() == weights_bytes(1)
    upstream.requests.clear()
    assert mirror("download", "model-00001", "-o", output, "--fetch", env=env).returncode == 0
    assert upstream.requests.log == []
    assert run_sync(upstream, root).record.tally.fetched.files == 2


def test_download_fetch_works_beside_a_running_sync(upstream, env, tmp_path):
    gate = Gate()
    upstream.inject(Hold(gate, after=10), kind="weights", path=make_document(0)["id"])
    running = start_mirror("sync", env={**env, "MIRROR_SYNC_WORKERS": "1"})
    gate.wait_reached()
    done = mirror("download", "model-00002", "-o", str(tmp_path / "m"), "--fetch", env=env)
    assert done.returncode == 0, done.stderr
    gate.release.set()
    running.communicate(timeout=30)
    assert running.returncode == 0


def test_download_fetch_of_a_model_that_is_not_ready_is_a_conflict(env, tmp_path, root):
    with FaultyUpstream([make_model(1, status="training")]) as upstream:
        done = mirror("download", "model-00001", "-o", str(tmp_path / "m"), "--fetch", env=environment(upstream, root))
    assert done.returncode == 9
    assert "training" in done.stderr


def test_delete_asks_archives_upstream_and_keeps_the_weights(upstream, env, root):
    mirror("sync", env=env)
    refused = mirror("delete", "model-00001", env=env)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    done = mirror("delete", "model-00001", "--yes", "--json", env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "id": make_document(1)["id"], "name": "model-00001", "deleted": True, "mirrored": True
    }  # fmt: skip
    assert next(model for model in upstream.models if model.name == "model-00001").status == "archived"
    model = Mirror(root).models.get("model-00001")
    assert (model.status, model.mirror.cached) == ("archived", True)
    assert mirror("path", "model-00001", env=env).returncode == 0


def test_a_hard_delete_upstream_marks_the_model_gone_and_keeps_the_weights(env, root):
    with FaultyUpstream(many_models(2), hard_delete=True) as upstream:
        env = environment(upstream, root)
        mirror("sync", env=env)
        assert mirror("delete", "model-00001", "--yes", env=env).returncode == 0
    model = Mirror(root).models.get("model-00001")
    assert model.mirror.gone_at is not None
    assert model.mirror.cached


def test_delete_of_an_unknown_model_ends_with_8(env):
    assert mirror("delete", "nobody", "--yes", env=env).returncode == 8


def test_delete_asks_on_a_terminal_and_no_means_no(upstream, env):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "registry_mirror", "delete", "model-00001"],
        env=env, stdin=follower, stdout=follower, stderr=follower,
    )  # fmt: skip
    os.close(follower)
    os.write(leader, b"n\n")
    assert process.wait(timeout=30) == 1
    os.close(leader)
    assert {model.status for model in upstream.models} == {"ready"}


def test_demo_tells_the_story_and_its_second_sync_downloads_nothing(env, tmp_path):
    done = mirror("demo", env={**env, "TMPDIR": str(tmp_path), "MIRROR_ROOT": ""})
    assert done.returncode == 0, done.stderr
    assert "fetched 0 files (0 B)" in done.stdout
    assert "0 storage requests" in done.stdout
    assert list(tmp_path.glob("mirror-demo-*")) == []
    story = json.loads(mirror("demo", "--json", env=env).stdout)
    assert story["second"]["fetched"]["bytes"] == 0
    assert story["second"]["requests"]["storage"] == 0


def test_the_demo_aligns_its_list_and_leaves_a_folder_in_use_alone(env, tmp_path):
    done = mirror("--root", str(tmp_path / "tried"), "demo", env=env)
    assert done.returncode == 0, done.stderr
    _, _, shown = done.stdout.partition("$ mirror list --all\n")
    header, *rows = shown.partition("\n\n")[0].splitlines()
    assert len(rows) == 6
    assert all(row[header.index("STATUS") - 1] == " " != row[header.index("STATUS")] for row in rows)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "tried").rglob("*")}
    again = mirror("--root", str(tmp_path / "tried"), "demo", env=env)
    assert again.returncode == 2
    assert "is not empty; name an empty or a new folder with --root" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "tried").rglob("*")} == before


@pytest.mark.parametrize("names", [[""], ["model-00001", " "]])
def test_an_empty_name_is_a_slip_and_nothing_is_asked_for(upstream, env, names):
    done = mirror("sync", *names, env=env)
    assert done.returncode == 2
    assert "A NAME is empty" in done.stderr
    assert upstream.requests.entries == ()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name models to pin, or give --list."),
        (["--remove"], "Name the models whose pins are to go."),
        (["--list", "box"], "--list shows every pinned model and takes no names."),
        (["--list", "--remove"], "give one of them"),
    ],
)
def test_a_pin_that_makes_no_sense_is_told_why(env, arguments, said):
    done = mirror("pin", *arguments, env=env)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_full_disk_ends_with_7_a_last_line_and_the_alert_and_the_next_run_goes_on(disk, tmp_path):
    alert = f"{sys.executable} -c \"import sys; open('{tmp_path / 'alert'}', 'w').write(sys.stdin.read())\""
    with FaultyUpstream(many_models(2, size=2 << 20)) as upstream:
        env = environment(upstream, disk / "root", MIRROR_SYNC_WORKERS="1", MIRROR_SYNC_ON_FAILURE=alert)
        done = mirror("sync", env=env)
        assert done.returncode == 7, done.stderr
        assert done.stderr.splitlines()[-1].startswith("failed: 2 models")
        assert "no space left" in done.stderr.splitlines()[-1]
        assert json.loads((tmp_path / "alert").read_text())["run"]["outcome"] == "failed"
        assert files_under(disk / "root" / "incoming") == []
        assert len(list((disk / "root" / "blobs").glob("*/*"))) == 1
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        assert run_record(mirror("sync", "--json", env=env))["fetched"]["files"] == 1


def test_a_disk_that_is_full_to_the_last_byte_still_ends_with_7_and_a_last_line(upstream, disk):
    env = environment(upstream, disk / "root")
    mirror("sync", env=env)
    upstream.add(make_model(9, size=2 << 20))
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(b"x" * free)
    done = mirror("sync", env=env)
    assert done.returncode == 7, done.stderr
    assert done.stderr.splitlines()[-1].startswith("failed: ")
    assert len(json.loads(mirror("list", "--json", env=env).stdout)["models"]) == 3


def test_output_that_nobody_reads_to_the_end_is_no_error(env):
    with FaultyUpstream(many_models(400)) as upstream:
        env = environment(upstream, env["MIRROR_ROOT"])
        mirror("sync", env=env)
    shell = f"{sys.executable} -m registry_mirror list --json | head -c 100 >/dev/null"
    done = subprocess.run(["sh", "-c", shell], env=env, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
