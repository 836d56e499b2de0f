"""`mirror doctor`: each thing that can be wrong is provoked, found, and told with its cure; nothing is changed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
import ssl
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from support.documents import make_model, many_models
from support.roots import Root
from support.syncing import environment, mirror, run_sync, settings_for
from support.upstream import FaultyUpstream, error, html
from support.verifying import blob_of, flip, run_verify
from test_sync_edges import Recorder

from registry_mirror.config import load_settings
from registry_mirror.secret import Secret
from registry_mirror.sources.api import session
from registry_mirror.sources.api.session import skew_of
from registry_mirror.store.layout import Layout
from registry_mirror.upkeep.doctor import disk as probe_disk
from registry_mirror.upkeep.doctor import examine as doctor
from registry_mirror.upkeep.doctor import network as probe_upstream
from registry_mirror.upkeep.doctor import root as probe_books
from registry_mirror.upkeep.doctor import root as probe_root
from registry_mirror.upkeep.doctor.finding import DoctorContext, ProbeVerdict

OK, WARNING, PROBLEM, SKIPPED = ProbeVerdict.OK, ProbeVerdict.WARNING, ProbeVerdict.PROBLEM, ProbeVerdict.SKIPPED


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A synced root of three models."""
    root = tmp_path_factory.mktemp("template") / "root"
    with FaultyUpstream(many_models(3)) as upstream:
        run_sync(upstream, root)
    return root


@pytest.fixture
def root(template, tmp_path):
    """A copy of it, for one test to damage."""
    return shutil.copytree(template, tmp_path / "root")


def patient(root, **changes):
    """What is probed, without an upstream."""
    return DoctorContext(Layout(root), load_settings(root=root, env={}).settings, offline=True, **changes)


def asked(probe, of):
    """Verdicts and messages of one probe, as the doctor takes them."""
    return [(each.verdict, each.message, each.cure) for each in doctor._asked("probe", probe, of)]


def verdicts(probe, of):
    return [verdict for verdict, _, _ in asked(probe, of)]


def worst(probe, of):
    """The one finding that is not well."""
    (found,) = [each for each in asked(probe, of) if each[0] is not OK]
    assert found[2], "there is no cure"
    return found


def test_a_healthy_root_has_no_problem_and_is_left_as_it_was(root):
    before = Root(root).footprint()
    found = list(doctor.examine(patient(root)))
    after = Root(root).footprint()
    assert {each.verdict for each in found} == {OK, SKIPPED}
    assert {each.probe for each in found if each.verdict is SKIPPED} == {"key", "upstream"} or os.access(root, os.W_OK)
    # The folder of the probe files has another time; no other name and no content has changed.
    assert {path: stat[2] for path, stat in before.items()} == {path: stat[2] for path, stat in after.items()}


def test_every_probe_has_a_name_of_its_own_and_every_problem_a_cure(root):
    (root / "FORMAT").write_text("9\n")
    (root / "index.sqlite").write_bytes(b"no index" * 100)
    found = list(doctor.examine(patient(root)))
    assert {each.probe for each in found if each.verdict is PROBLEM} == {"layout", "index"}
    assert all(each.cure for each in found if each.verdict is PROBLEM)
    assert len({each.probe for each in found}) == 14


def test_a_folder_that_is_no_root(tmp_path):
    assert worst(probe_root.layout, patient(tmp_path / "nothing"))[0] is WARNING
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "notes.txt").write_text("mine")
    found = asked(probe_root.layout, patient(tmp_path))
    assert (found[0][0], found[1][0]) == (PROBLEM, WARNING)
    assert "'notes.txt'" in found[1][1]


def test_a_copy_of_a_root_is_well(root, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(root / "index.sqlite", copy)
    shutil.copytree(root / "blobs", copy / "blobs")
    found = list(doctor.examine(dataclasses.replace(patient(copy), key=Secret("k"))))
    assert {each.verdict for each in found} == {OK, SKIPPED}


@pytest.mark.parametrize(("path", "mode"), [("blobs", 0o777), ("catalog.sqlite", 0o666)])
def test_what_everybody_may_write_to_is_told(root, path, mode):
    (root / path).chmod(mode)
    verdict, message, cure = worst(probe_root.permissions, patient(root))
    assert (verdict, cure) == (WARNING, f"chmod o-w {root / path}")
    assert "everybody may write" in message


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_files_of_another_account_are_told(root):
    os.chown(root / "catalog.sqlite", 12345, -1)
    assert "catalog.sqlite belong to another account" in worst(probe_root.permissions, patient(root))[1]


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs another account")
def test_an_account_that_may_not_write(template):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - another account is to read it
        _as_nobody(shutil.copytree(template, Path(folder, "root")))


def _as_nobody(root):
    env = {"PATH": os.environ["PATH"], "MIRROR_ROOT": str(root), "HOME": str(root)}
    program = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "registry_mirror"]
    done = subprocess.run(
        [*program, "doctor", "--json", "--offline"], env=env, capture_output=True, text=True, check=False
    )
    if "ModuleNotFound" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("another account cannot run this Python")
    found = json.loads(done.stdout)["doctor"]
    assert found["ok"], found
    assert {each["probe"]: each["verdict"] for each in found["findings"]}["key"] == "skipped"


@pytest.mark.parametrize(("file", "code", "verdict"), [(None, 0, "skipped"), ("/nope/api.key", 1, "problem")])
def test_no_key_is_no_problem_offline_and_a_key_file_that_is_not_there_is_one(root, file, code, verdict):
    env = {"PATH": os.environ["PATH"], "HOME": str(root.parent)}
    env |= {} if file is None else {"MIRROR_UPSTREAM_API_KEY_FILE": file}
    done = mirror("--root", str(root), "doctor", "--offline", "--json", env=env)
    verdicts = {each["probe"]: each["verdict"] for each in json.loads(done.stdout)["doctor"]["findings"]}
    assert (done.returncode, verdicts["key"]) == (code, verdict)


def test_keys_that_others_may_read(root, tmp_path):
    (root / "keys.toml").write_text("")
    (root / "keys.toml").chmod(0o640)
    assert worst(probe_root.secrets, patient(root))[0] is PROBLEM
    (root / "keys.toml").chmod(0o600)
    (tmp_path / "api.key").write_text("k")
    (tmp_path / "api.key").chmod(0o644)
    settings = load_settings(root=root, env={}, overrides={"upstream.api_key_file": str(tmp_path / "api.key")}).settings
    assert worst(probe_root.secrets, dataclasses.replace(patient(root), settings=settings))[0] is WARNING
    (tmp_path / "api.key").chmod(0o640)
    assert verdicts(probe_root.secrets, dataclasses.replace(patient(root), settings=settings)) == [OK]


def test_locks_that_keep_nobody_out_are_found(root, monkeypatch):
    assert verdicts(probe_disk.locks, patient(root)) == [OK]
    import fcntl

    # As on a file system that grants a lock to everybody: ours is not taken, whatever the call says.
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", lambda *_: None)
        assert worst(probe_disk.locks, patient(root))[0] is WARNING
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "lockf", lambda *_: None)
        assert worst(probe_disk.locks, patient(root))[0] is PROBLEM
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(38, "Function not implemented")))
        assert "has no locks" in worst(probe_disk.locks, patient(root))[1]
    assert os.listdir(root / "incoming") == []


def test_a_folder_that_cannot_be_synced_and_a_rename_that_shows_through(root, monkeypatch):
    assert set(verdicts(probe_disk.files, patient(root))) == {OK}
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(22, "Invalid argument")))
        (found,) = [each for each in asked(probe_disk.files, patient(root)) if each[0] is not OK]
        assert "a power cut may lose" in found[1]
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", shutil.copyfile)
        assert worst(probe_disk.files, patient(root))[0] is PROBLEM
    assert os.listdir(root / "incoming") == []


def test_a_root_of_two_file_systems_is_found(root, disk):
    shutil.move(root / "quarantine", disk / "quarantine")
    (root / "quarantine").symlink_to(disk / "quarantine")
    verdict, message, _ = worst(probe_disk.files, patient(root))
    assert (verdict, message) == (PROBLEM, "incoming/ and quarantine are on two file systems")


@pytest.mark.parametrize(
    ("free", "blocks", "needed", "expected"),
    [(0, 0, 0, SKIPPED), (1 << 20, 9, 0, PROBLEM), (1 << 29, 9, 0, WARNING), (1 << 40, 9, 0, OK),
     (1 << 34, 9, 1 << 35, PROBLEM), (1 << 34, 9, 1 << 33, WARNING)],
)  # fmt: skip
def test_the_verdict_on_space(free, blocks, needed, expected):
    assert probe_disk.judge_space(free, blocks, needed)[0] is expected


@pytest.mark.parametrize(
    ("free", "inodes", "expected"), [(0, 0, OK), (5, 9, PROBLEM), (500, 999, WARNING), (99999, 999999, OK)]
)
def test_the_verdict_on_inodes(free, inodes, expected):
    assert probe_disk.judge_inodes(free, inodes)[0] is expected


def test_a_small_disk_is_told(disk):
    with FaultyUpstream(many_models(3)) as upstream:
        run_sync(upstream, disk / "root")
    assert PROBLEM in verdicts(probe_disk.space, patient(disk / "root"))


def test_clocks(root, monkeypatch):
    assert verdicts(probe_disk.clock, patient(root)) == [OK]
    now = probe_disk.time.time()
    with monkeypatch.context() as patched:
        patched.setattr(probe_disk.time, "time", lambda: now - 3600)
        patched.setattr(probe_disk, "utc_now", lambda: datetime.now(UTC) - timedelta(hours=1))
        found = asked(probe_disk.clock, patient(root))
    assert [each[0] for each in found] == [WARNING, PROBLEM, PROBLEM, PROBLEM]
    assert "ahead" in found[0][1]
    assert all("in the future" in each[1] for each in found[1:])


def test_an_index_that_is_dated_in_the_future_is_told(root):
    with contextlib.closing(sqlite3.connect(root / "index.sqlite")) as database, database:
        database.execute("UPDATE meta SET value = '2999-01-01T00:00:00Z' WHERE key LIKE '%_at'")
    found = asked(probe_disk.clock, patient(root))
    assert [each[0] for each in found] == [OK, PROBLEM]
    assert found[1][1] == "the index is dated in the future (2999-01-01T00:00:00Z), and `mirror gc` removes nothing"


def test_a_damaged_page_of_the_index_or_the_catalog_is_found(root):
    assert verdicts(probe_books.index, patient(root)) == [OK, OK]
    assert verdicts(probe_books.catalog, patient(root)) == [OK]
    for name, probe in (("index.sqlite", probe_books.index), ("catalog.sqlite", probe_books.catalog)):
        with contextlib.closing(sqlite3.connect(root / name)) as database:
            (page,) = database.execute("SELECT max(rootpage) FROM sqlite_master WHERE type = 'index'").fetchone()
            (size,) = database.execute("PRAGMA page_size").fetchone()
        data = bytearray((root / name).read_bytes())
        data[(page - 1) * size : page * size] = os.urandom(size)
        (root / name).write_bytes(data)
        verdict, message, cure = worst(probe, patient(root))
        assert verdict is PROBLEM
        assert "damaged" in message
        assert "mirror sync" in cure


def test_a_catalog_of_a_newer_version_one_that_is_none_and_one_that_is_being_written(root):
    with contextlib.closing(sqlite3.connect(root / "catalog.sqlite")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "upgrade" in worst(probe_books.catalog, patient(root))[2]
    (root / "catalog.sqlite-journal").write_bytes(b"x")
    assert worst(probe_books.catalog, patient(root))[0] is WARNING
    assert (root / "catalog.sqlite-journal").exists()
    (root / "catalog.sqlite-journal").unlink()
    (root / "catalog.sqlite").write_bytes(b"no database" * 1000)
    assert worst(probe_books.catalog, patient(root))[0] is PROBLEM


def test_lost_files_and_quarantine_and_leftovers_are_told(root):
    flip(blob_of(root, 1))
    run_verify(root)
    assert worst(probe_books.index, patient(root))[1] == "1 stored files are damaged or missing"
    assert worst(probe_books.leftovers, patient(root))[1] == "1 bad files are in quarantine/, 256 B"
    shutil.rmtree(root / "quarantine")
    part = root / "incoming" / "weights.elsewhere.7.abcdef.part"
    part.write_bytes(b"x")
    assert verdicts(probe_books.leftovers, patient(root)) == [OK]
    os.utime(part, (1, 1))
    assert "1 abandoned" in worst(probe_books.leftovers, patient(root))[1]
    assert part.exists()


def test_the_last_run(root):
    assert verdicts(probe_books.runs, patient(root)) == [OK]
    record = json.loads((root / "run.json").read_text())
    record["run"] |= {"outcome": "partial", "failed": [{"id": "1", "name": "a", "error": "e"}]}
    (root / "run.json").write_text(json.dumps(record))
    assert worst(probe_books.runs, patient(root))[1] == "the last run was partial: 1 models failed"
    (root / "run.json").write_text("{")
    assert worst(probe_books.runs, patient(root))[0] is PROBLEM


def online(upstream, root, overrides=None, key=None):
    settings = settings_for(upstream, root, overrides)
    return DoctorContext(Layout(root), settings, Secret(key or upstream.api_key))


def test_the_upstream_is_asked_once_for_one_model(root):
    with FaultyUpstream(many_models(3)) as upstream:
        assert verdicts(probe_upstream.upstream, online(upstream, root)) == [OK, OK]
        assert [entry.query for entry in upstream.requests.entries] == [{"limit": "1", "offset": "0"}]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (error(401), "check the API key"),
        (error(403), "its role"),
        (error(503), None),
        (html(), "upstream.base_url"),
    ],
)
def test_an_upstream_that_refuses_or_fails_is_told_with_the_cure_and_not_asked_again(root, fault, said):
    with FaultyUpstream(many_models(3)) as upstream:
        upstream.inject(fault, kind="list", times=9)
        found = asked(probe_upstream.upstream, online(upstream, root))
        assert len(upstream.requests.entries) == 1
    assert found[-1][0] is PROBLEM
    assert said is None or said in f"{found[-1][1]} {found[-1][2]}"


def test_an_upstream_that_is_gone_and_one_of_another_organisation(root):
    with FaultyUpstream([make_model(5, organization_id="another")]) as upstream:
        other = online(upstream, root)
        assert "another" in worst(probe_upstream.upstream, other)[1]
    assert "cannot reach" in worst(probe_upstream.upstream, other)[1]


def test_a_certificate_that_is_not_trusted_is_told_with_its_own_cure(root):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with Recorder(context) as server:
        given = {"upstream.base_url": f"https://localhost:{server.port}"}
        settings = load_settings(root=root, env={}, overrides=given).settings
        verdict, message, cure = worst(probe_upstream.upstream, DoctorContext(Layout(root), settings, Secret("k")))
    assert verdict is PROBLEM
    assert "CERTIFICATE_VERIFY_FAILED" in message
    assert "upstream.ca_file" in cure


@pytest.mark.parametrize(("skew", "expected"), [(3, OK), (-300, WARNING), (100000, PROBLEM)])
def test_the_clock_of_the_upstream(root, monkeypatch, skew, expected):
    monkeypatch.setattr(session, "utc_now", lambda: datetime.now(UTC) - timedelta(seconds=skew))
    with FaultyUpstream(many_models(3)) as upstream:
        found = asked(probe_upstream.upstream, online(upstream, root))
    assert [each[0] for each in found] == [OK, expected]


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Tue, 24 Nov 2026 00:01:00 GMT", 60.0),
        ("Tue, 24 Nov 2026 00:00:00 -0000", 0.0),
        ("soon", None),
        (None, None),
        ("Tue, 24 Nov 99999999999999999999 00:00:00 GMT", None),
    ],
)
def test_a_date_header(date, expected):
    assert skew_of(date, datetime(2026, 11, 24, tzinfo=UTC)) == expected


@pytest.mark.parametrize(
    ("base", "configured", "env", "bypassed", "expected"),
    [
        ("https://registry.example", None, {}, False, (None, "")),
        ("https://registry.example", None, {"https": "http://p:1"}, False, ("http://p:1", "environment HTTPS_PROXY")),
        ("https://registry.example", None, {"https": "http://p:1"}, True, (None, "")),
        ("https://registry.example", None, {"http": "http://p:1"}, False, (None, "")),
        ("https://registry.example", None, {"all": "http://p:1"}, False, ("http://p:1", "environment ALL_PROXY")),
        ("https://registry.example", "http://q:2", {"https": "http://p:1"}, True, ("http://q:2", "upstream.proxy")),
        ("http://127.0.0.1:9", "http://q:2", {"http": "http://p:1"}, False, (None, "")),
    ],
)
def test_which_proxy_is_used(tmp_path, base, configured, env, bypassed, expected):
    given = {"upstream.base_url": base} | ({"upstream.proxy": configured} if configured else {})
    settings = load_settings(root=tmp_path, env={}, overrides=given).settings
    assert probe_upstream.proxy_for(settings, env, lambda _: bypassed) == expected


def test_a_proxy_s_password_is_not_shown_and_a_bad_address_is_told(tmp_path, monkeypatch):
    settings = load_settings(
        root=tmp_path, env={}, overrides={"upstream.base_url": "https://registry.example"}
    ).settings
    of = DoctorContext(Layout(tmp_path), settings)
    monkeypatch.setattr(probe_upstream, "getproxies", lambda: {"https": "http://me:hunter2@proxy.example:3128"})
    (found,) = asked(probe_upstream.proxy, of)
    assert found[0] is OK
    assert "hunter2" not in found[1]
    monkeypatch.setattr(probe_upstream, "getproxies", lambda: {"https": "socks9://me:hunter2@proxy.example"})
    (found,) = asked(probe_upstream.proxy, of)
    assert found[0] is PROBLEM
    assert "hunter2" not in f"{found}"


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_ends_with_0_when_all_is_well_and_prints_a_line_for_each_finding(root):
    with FaultyUpstream(many_models(3)) as upstream:
        env = environment(upstream, root)
        done = mirror("doctor", env=env)
        assert (done.returncode, done.stderr) == (0, "")
        assert all(line.split()[0] in {"ok", "skipped", "warning"} or "->" in line for line in done.stdout.splitlines())
        assert upstream.api_key not in done.stdout
    done = mirror("doctor", env=env)
    assert done.returncode == 1
    assert "cannot reach" in done.stdout
    assert mirror("doctor", "--offline", env=env).returncode == 0
    assert os.listdir(root / "incoming") == []


def test_warnings_alone_are_no_failure(root):
    with FaultyUpstream(many_models(3)) as upstream:
        env = environment(upstream, root)
    (root / "notes.txt").write_text("mine")
    done = mirror("doctor", "--offline", "--json", env=env)
    report = json.loads(done.stdout)["doctor"]
    assert (done.returncode, report["ok"], report["root"]) == (0, True, str(root))
    (found,) = [each for each in report["findings"] if each["verdict"] == "warning"]
    assert list(found) == ["probe", "verdict", "message", "cure"]


@pytest.mark.parametrize("fault", ["a wrong setting", "no key"])
def test_settings_that_cannot_be_used_are_a_finding_and_the_other_probes_go_on(root, fault):
    with FaultyUpstream(many_models(3)) as upstream:
        env = environment(upstream, root)
    if fault == "no key":
        del env["PICTOGRAPH_API_KEY"]
    else:
        (root / "config.toml").write_text("[sync]\nworkers = 'many'\n")
    done = mirror("doctor", "--json", env=env)
    findings = json.loads(done.stdout)["doctor"]["findings"]
    assert done.returncode == 1
    assert [each["probe"] for each in findings if each["verdict"] == "problem"] == [
        "key" if fault == "no key" else "config"
    ]
    assert {each["probe"]: each["verdict"] for each in findings}["locks"] == "ok"


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs a mount namespace")
def test_a_read_only_root_is_probed_as_far_as_that_goes(root):
    env = {"PATH": os.environ["PATH"], "MIRROR_ROOT": str(root), "HOME": str(root)}
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 77; shift; exec "$@"'
    program = [sys.executable, "-m", "registry_mirror", "doctor", "--json", "--offline"]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(root), *program],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("mounting is not allowed here")
    found = {each["probe"]: each["verdict"] for each in json.loads(done.stdout)["doctor"]["findings"]}
    assert done.returncode == 0
    assert {found[name] for name in ("locks", "files", "clock", "key")} == {"skipped"}
    assert {found[name] for name in ("index", "catalog", "permissions")} == {"ok"}


def test_a_folder_that_is_a_mount_of_its_own_is_told_although_its_disk_is_the_same(root):
    made = subprocess.run(["mount", "--bind", str(root / "blobs"), str(root / "blobs")], check=False)
    if made.returncode:
        pytest.skip("mounting needs root")
    try:
        found = asked(probe_disk.files, patient(root))
    finally:
        subprocess.run(["umount", str(root / "blobs")], check=True)
    assert (found[0][0], found[0][1]) == (PROBLEM, "incoming/ and blobs are on two file systems")


def test_a_copy_without_a_catalog_needs_no_key(root, upstream):
    (root / "catalog.sqlite").unlink()
    env = environment(upstream, root)
    del env["PICTOGRAPH_API_KEY"]
    done = mirror("doctor", "--json", env=env)
    found = {each["probe"]: each["verdict"] for each in json.loads(done.stdout)["doctor"]["findings"]}
    assert (found["key"], done.returncode) == ("skipped", 0), done.stdout
    env["MIRROR_UPSTREAM_API_KEY_FILE"] = "/no/such/key"  # named, and so wanted
    assert mirror("doctor", env=env).returncode == 1


def test_a_root_to_sync_into_still_needs_a_key(root, upstream):
    env = environment(upstream, root)
    del env["PICTOGRAPH_API_KEY"]
    done = mirror("doctor", env=env)
    assert (done.returncode, "no API key" in done.stdout) == (1, True)
