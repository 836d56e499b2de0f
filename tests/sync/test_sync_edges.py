"""What a sync owes to settings, to disks and to upstreams that half work: each line has a test that misses it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.server
import json
import os
import socket
import ssl
import sys
import threading
from datetime import UTC, datetime

import pytest
import trustme
from support.documents import make_document, make_model, many_models, weights_bytes
from support.syncing import environment, mirror, run_sync, settings_for, start_mirror
from support.upstream import Answer, Edit, FaultyUpstream, Gate, HangUp, Headers, Hold, error

from registry_mirror import Client, Mirror, NetworkError, writer
from registry_mirror.catalog import Catalog, migrate
from registry_mirror.catalog import catalog as runs
from registry_mirror.demo import DemoModel, DemoWeights
from registry_mirror.store import lock
from registry_mirror.sync.opening import make_client
from registry_mirror.sync.stop import Stop
from registry_mirror.transfer.responses import error_for
from registry_mirror.transfer.retry import RetryPolicy

NOTHING_LISTED = b'{"data": [], "pagination": {"has_more": false}}'


class Recorder:
    """A server that answers every request with an empty listing and notes what was asked for."""

    def __init__(self, context=None):
        asked = self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(NOTHING_LISTED)))
                self.end_headers()
                self.wfile.write(NOTHING_LISTED)

            def log_message(self, *args):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_the_configured_proxy_is_used(root, monkeypatch):
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Recorder() as proxy:
        env = {
            "PATH": os.environ["PATH"],
            "PICTOGRAPH_API_KEY": "k",
            "MIRROR_ROOT": str(root),
            "MIRROR_UPSTREAM_BASE_URL": "http://registry.example",
            "MIRROR_UPSTREAM_ALLOW_HTTP": "true",
            "MIRROR_UPSTREAM_PROXY": f"http://127.0.0.1:{proxy.port}",
        }
        assert mirror("sync", env=env).returncode == 0
    assert proxy.asked
    assert all(path.startswith("http://registry.example/api/v1/developer/models/") for path in proxy.asked)


def test_a_proxy_in_the_environment_does_not_catch_loopback(upstream, root):
    with Recorder() as proxy:
        address = f"http://127.0.0.1:{proxy.port}"
        env = environment(upstream, root, HTTP_PROXY=address, http_proxy=address, ALL_PROXY=address)
        assert mirror("sync", env=env).returncode == 0
    assert proxy.asked == []


@pytest.mark.parametrize("way", ["upstream.ca_file", "SSL_CERT_FILE"])
def test_a_private_authority_is_trusted_when_it_is_named_and_only_then(root, tmp_path, way):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with Recorder(context) as server:
        env = {
            "PATH": os.environ["PATH"],
            "PICTOGRAPH_API_KEY": "k",
            "MIRROR_ROOT": str(root),
            "PICTOGRAPH_BASE_URL": f"https://localhost:{server.port}",
            "MIRROR_UPSTREAM_RETRY_BUDGET": "0s",
        }
        refused = mirror("sync", env=env)
        assert refused.returncode == 5
        assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
        name = "MIRROR_UPSTREAM_CA_FILE" if way == "upstream.ca_file" else way
        assert mirror("sync", env={**env, name: str(tmp_path / "ca.pem")}).returncode == 0


def test_an_answer_that_does_not_come_in_time_is_an_unreachable_upstream(upstream, root):
    upstream.inject(Hold(Gate()), kind="list", times=None)
    finished = run_sync(upstream, root, {"upstream.timeout": "1s"})
    assert finished.exit_code == 5
    assert "in time" in str(finished.error)


def test_so_many_models_are_fetched_at_once_as_there_are_workers(root):
    gates = [Gate(), Gate(), Gate()]
    with FaultyUpstream(many_models(3)) as upstream:
        for number, gate in enumerate(gates):
            upstream.inject(Hold(gate, after=10), kind="weights", path=make_document(number)["id"])
        process = start_mirror("sync", env=environment(upstream, root, MIRROR_SYNC_WORKERS="2"))
        for gate in gates[:2]:
            gate.wait_reached()
        assert not gates[2].reached.is_set()
        for gate in gates:
            gate.release.set()
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_the_watchdog_hears_of_a_daemon_that_waits_for_a_slow_list(upstream, root, tmp_path):
    gate = Gate()
    upstream.inject(Hold(gate), kind="list")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(20)
        listening.bind(str(tmp_path / "notify"))
        env = environment(upstream, root, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="300000")
        process = start_mirror("daemon", env=env)
        gate.wait_reached()
        heard = 0
        while heard < 4:
            heard += listening.recv(4096) == b"WATCHDOG=1"
        gate.release.set()
        process.terminate()
        process.communicate(timeout=20)
        assert process.returncode == 0


@pytest.mark.parametrize(("fault", "most"), [(error(401), 1), (HangUp(), 4 * 2)], ids=["key", "network"])
def test_an_error_that_would_meet_every_model_ends_the_handing_out(root, fault, most):
    with FaultyUpstream(many_models(40)) as upstream:
        upstream.inject(fault, kind="download", times=None)
        finished = run_sync(upstream, root, {"sync.workers": 1})
        asked = sum("/download" in path for _, _, path in upstream.requests.log)
    assert (finished.exit_code, "left for the next run" in (finished.record.error or "")) == (3, True)
    assert asked == most


@pytest.mark.parametrize("fault", [error(500), error(403), error(404)], ids=["500", "403", "404"])
def test_models_that_always_fail_however_many_never_keep_those_behind_them_waiting(root, fault):
    with FaultyUpstream(many_models(40)) as upstream:
        for number in range(39):
            upstream.inject(fault, kind="download", path=make_document(number)["id"], times=None)
        finished = run_sync(upstream, root, {"sync.workers": 1})
    assert finished.record.tally.fetched.files == 1
    assert len(finished.record.tally.failed) == 39
    assert Mirror(root).models.path("model-00039").exists()


def test_a_failure_of_a_model_that_is_gone_is_no_longer_open(root):
    with FaultyUpstream(many_models(12)) as upstream:
        upstream.inject(error(404), kind="weights", path=make_document(3)["id"], times=None)
        assert run_sync(upstream, root).exit_code == 3
        assert len(Mirror(root).status().as_json()["failures"]) == 1
        upstream.remove(make_document(3)["id"])
        assert run_sync(upstream, root).exit_code == 0
    assert Mirror(root).status().as_json()["failures"] == []


def test_download_fetch_and_a_key_of_another_organisation_do_not_mix(upstream, root, tmp_path):
    run_sync(upstream, root)
    with FaultyUpstream([make_model(9, organization_id="other")]) as other:
        done = mirror("download", "model-00009", "-o", str(tmp_path / "m"), "--fetch", env=environment(other, root))
    assert done.returncode == 2
    assert "organisation" in done.stderr
    assert [model.name for model in Mirror(root).models.iter() if model.name == "model-00009"] == []


def test_an_etag_of_other_bytes_and_another_length_is_not_taken_for_what_is_here(root):
    held = hashlib.md5(weights_bytes(1), usedforsecurity=False).hexdigest()
    with FaultyUpstream([make_model(1)]) as upstream:
        run_sync(upstream, root)
        upstream.add(make_model(2, data=b"\x08entirely different"))
        lying = Headers({"ETag": f'"{held}"', "Content-MD5": None, "x-goog-hash": None})
        upstream.inject(lying, kind="weights", path=make_document(2)["id"], times=None)
        assert run_sync(upstream, root).exit_code == 0
    assert Mirror(root).models.path("model-00002").read_bytes() == b"\x08entirely different"


def test_a_failed_run_does_not_make_the_mirror_look_fresh(upstream, root):
    run_sync(upstream, root)
    written = json.loads((root / "run.json").read_text())
    (root / "run.json").write_text(json.dumps({**written, "last_synced_at": "2020-01-01T00:00:00Z"}))
    upstream.inject(error(500), kind="list", times=None)
    run_sync(upstream, root)
    assert json.loads((root / "run.json").read_text())["last_synced_at"] == "2020-01-01T00:00:00Z"
    upstream.heal()
    run_sync(upstream, root)
    assert json.loads((root / "run.json").read_text())["last_synced_at"] > "2026"


def test_old_runs_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_KEPT", 3)
    migrate(tmp_path / "catalog.sqlite")
    with Catalog(tmp_path / "catalog.sqlite") as opened:
        for number in range(7):
            opened.runs.record({"finished_at": f"2026-01-0{number + 1}", "outcome": "ok", "number": number})
        with opened._engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT record FROM runs ORDER BY id")
            kept = [json.loads(row.record)["number"] for row in rows]
    assert kept == [4, 5, 6]


def test_bytes_are_durable_before_their_name_and_the_name_before_anything_refers_to_it(upstream, root, monkeypatch):
    """The order of fsync and rename, for blobs and for the index, as the system calls come."""
    events, fsync, replace = [], os.fsync, os.replace

    def name_of(descriptor):
        return os.readlink(f"/proc/self/fd/{descriptor}")

    def noted_fsync(descriptor):
        events.append(("fsync", name_of(descriptor)))
        fsync(descriptor)

    def noted_replace(source, target):
        events.append(("replace", str(source), str(target)))
        replace(source, target)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("descriptors are named by way of /proc")
    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    run_sync(upstream, root, {"sync.workers": 1})
    renamed = [event for event in events if event[0] == "replace" and ("blobs" in event[2] or "index" in event[2])]
    assert len(renamed) >= 4
    for event in renamed:
        _, source, target = event
        at = events.index(event)
        assert ("fsync", source) in events[:at], f"{source} was renamed before it was durable"
        folder = os.path.dirname(target)
        assert ("fsync", folder) in events[at : at + 4], f"the name {target} was not made durable"


def test_settings_reach_the_client(upstream, root):
    settings = settings_for(upstream, root, {"upstream.timeout": "7s"})
    from registry_mirror.secret import Secret

    with make_client(settings, Secret("k"), Stop().wait) as client:
        assert client.session._client.timeout.read == 7.0
        assert repr(client) == f"Client({upstream.base_url!r})"


def test_times_are_those_of_the_run(upstream, root):
    before = datetime.now(UTC).replace(microsecond=0)
    run = run_sync(upstream, root).record.as_json()
    assert before <= datetime.fromisoformat(run["started_at"]) <= datetime.fromisoformat(run["finished_at"])
    info = Mirror(root).models.get("model-00001").mirror
    assert info.first_seen >= before
    assert info.fetched_at >= before


# --- what a review found ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_neither_hangs_nor_refuses(upstream, root, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        assert run_sync(upstream, root).exit_code == 0


def test_a_publish_lock_that_somebody_holds_for_ever_holds_up_nobody_for_ever(upstream, root, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.3)
    run_sync(upstream, root)
    upstream.add(make_model(7))
    with open(root / "publish.lock", "r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert run_sync(upstream, root).exit_code == 0
    assert Mirror(root).models.path("model-00007").exists()


def test_details_that_came_before_a_rate_limit_are_kept_so_that_the_next_run_gets_further(root):
    with FaultyUpstream(many_models(40), list_rows="bare") as upstream:
        for number in (10, 20, 30):
            upstream.inject(error(429, retry_after=3000), kind="get", path=make_document(number)["id"])
        complete = []
        for _ in range(4):
            finished = run_sync(upstream, root, {"sync.workers": 1})
            complete.append(sum(bool(model.metrics) for model in Mirror(root).models.iter()))
        assert finished.exit_code == 0
    assert complete == sorted(set(complete))
    assert complete[-1] == 40


def test_one_model_whose_details_never_answer_is_one_models_failure(root):
    with FaultyUpstream(many_models(12), list_rows="bare") as upstream:
        upstream.inject(HangUp(), kind="get", path=make_document(1)["id"], times=None)
        finished = run_sync(upstream, root)
    assert (finished.exit_code, finished.record.tally.listed) == (3, 12)
    assert finished.record.tally.fetched.files == 12


def test_a_detail_that_fails_does_not_spoil_the_document_that_is_here(root):
    with FaultyUpstream(many_models(2), list_rows="bare") as upstream:
        run_sync(upstream, root)
        upstream.update(make_document(1)["id"], description="new")
        upstream.inject(error(500), kind="get", path=make_document(1)["id"], times=None)
        assert run_sync(upstream, root).exit_code == 3
        assert Mirror(root).models.get("model-00001").classes == ("pallet", "forklift")


def twice(body):
    for key in ("data", "models"):
        body[key] = [*body[key], *body[key]]
    return body


def test_an_id_that_a_page_has_twice_is_one_model(upstream, root):
    upstream.inject(Edit(twice), kind="list", times=None)
    for _ in range(2):
        finished = run_sync(upstream, root)
        assert (finished.exit_code, finished.record.tally.listed) == (0, 3)


def test_a_row_that_is_nested_too_deeply_fails_alone(upstream, root):
    good = json.dumps(make_document(1))
    bad = json.dumps(make_document(2))[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
    body = f'{{"data": [{good}, {bad}], "pagination": {{"has_more": false}}}}'.encode()
    upstream.inject(Answer(200, body, (("Content-Type", "application/json"),)), kind="list", times=None)
    finished = run_sync(upstream, root)
    assert finished.exit_code in (1, 3)
    assert json.loads((root / "run.json").read_text())["run"]["outcome"] in ("partial", "failed")


def test_a_fault_of_ours_still_leaves_a_record(upstream, root, monkeypatch):
    monkeypatch.setattr(writer, "publish", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("a bug")))
    finished = run_sync(upstream, root)
    assert finished.exit_code == 1
    assert "a bug" in json.loads((root / "run.json").read_text())["run"]["error"]


@pytest.mark.parametrize("body", [b"", b'{"error": "expired"}'], ids=["empty", "JSON"])
def test_what_cannot_be_weights_is_refused_without_a_digest(upstream, root, body):
    upstream.inject(Answer(200, body), kind="weights", path=make_document(1)["id"], times=None)
    finished = run_sync(upstream, root)
    assert (finished.exit_code, finished.record.tally.fetched.files) == (3, 2)


def test_a_passing_refusal_is_not_taken_for_a_format_that_was_never_exported(root):
    both = DemoModel(
        make_document(1), {"onnx": DemoWeights(b"o" * 9), "pytorch": DemoWeights(b"PK\x03\x04" + b"p" * 9)}
    )
    with FaultyUpstream([both]) as upstream:
        upstream.inject(error(400, "not ready"), kind="download", times=2)
        formats = {"sync.formats": ["onnx", "pytorch"], "sync.workers": 1}
        assert run_sync(upstream, root, formats).exit_code == 3
        assert run_sync(upstream, root, formats).record.tally.fetched.files == 2


def test_a_mirror_whose_run_was_cut_short_does_not_look_fresh(root):
    with FaultyUpstream(many_models(12)) as upstream:
        upstream.inject(error(401), kind="download", times=None)
        run_sync(upstream, root)
    assert json.loads((root / "run.json").read_text())["last_synced_at"] is None


def test_an_alert_gets_no_key_and_does_not_print_into_our_data(upstream, root, tmp_path):
    script = tmp_path / "alert.py"
    script.write_text("import os, sys; print('alert', 'PICTOGRAPH_API_KEY' in os.environ)")
    env = environment(upstream, root, MIRROR_SYNC_ON_FAILURE=f"{sys.executable} {script}")
    upstream.inject(error(500), kind="list", times=None)
    done = mirror("sync", "--json", env=env)
    assert json.loads(done.stdout)["run"]["outcome"] == "failed"
    assert "alert False" in done.stderr


def test_neither_logs_nor_what_hangs_on_an_error_tell_the_key_or_a_signed_address(upstream, tmp_path, caplog):
    caplog.set_level("INFO")
    with Client(upstream.api_key, upstream.base_url, retry=RetryPolicy(budget=0)) as client:
        client.models.download("model-00001", tmp_path / "m")
        assert "token=" not in caplog.text
        upstream.stop()
        with pytest.raises(NetworkError) as caught:
            client.models.list()
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_key_in_an_escaped_message_is_hidden_too():
    body = b'{"detail": "bad key abc\\/def\\u002b"}'
    failure = error_for("list", 401, {}, body, datetime.now(UTC), hide="abc/def+")
    assert "abc/def" not in str(failure)


def test_a_delete_whose_answer_got_lost_is_a_delete(root):
    with FaultyUpstream(many_models(2), hard_delete=True) as upstream:
        upstream.inject(HangUp(after_work=True), kind="delete")
        assert mirror("delete", "model-00001", "--yes", env=environment(upstream, root)).returncode == 0
        assert [model.name for model in upstream.models] == ["model-00000"]


def test_a_dry_run_of_a_name_that_nobody_has_ends_as_the_run_would(upstream, root):
    assert mirror("sync", "--dry-run", "nobody", env=environment(upstream, root)).returncode == 8


def test_an_upstream_that_refuses_to_list_archived_models_is_mirrored_all_the_same(upstream, root):
    class Strict(FaultyUpstream):
        def api(self, request):
            return error(422)(request, None) if "status=archived" in request.target else super().api(request)

    with Strict(many_models(3)) as strict:
        assert run_sync(strict, root).exit_code == 0


def test_what_killed_writers_left_in_the_root_is_swept_and_nothing_else(upstream, root):
    run_sync(upstream, root)
    ours = [".run.json.12.0a1b2c3d.tmp", ".catalog.sqlite.12.0a1b2c3d.tmp", ".catalog.sqlite.12.0a1b2c3d.tmp-journal"]
    for name in [*ours, ".notes.tmp"]:
        (root / name).write_text("x")
    run_sync(upstream, root)
    assert sorted(name for name in os.listdir(root) if name.startswith(".")) == [".notes.tmp"]


def test_download_fetch_brings_back_a_missing_blob(upstream, root, tmp_path):
    run_sync(upstream, root)
    Mirror(root).models.path("model-00001").unlink()
    done = mirror("download", "model-00001", "-o", str(tmp_path / "m"), "--fetch", env=environment(upstream, root))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m").read_bytes() == weights_bytes(1)


def test_download_verify_fetch_brings_back_a_damaged_blob_of_the_right_size(upstream, root, tmp_path):
    run_sync(upstream, root)
    blob = Mirror(root).models.path("model-00001")
    blob.chmod(0o600)
    blob.write_bytes(b"x" * blob.stat().st_size)
    command = ("download", "model-00001", "-o", str(tmp_path / "m"), "--verify")
    env = environment(upstream, root)
    assert mirror(*command, env=env).returncode == 4
    done = mirror(*command, "--fetch", env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m").read_bytes() == blob.read_bytes() == weights_bytes(1)
    assert len(os.listdir(root / "quarantine")) == 1
    assert mirror("verify", env=env).returncode == 0
