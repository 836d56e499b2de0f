"""Client keys: the file that keeps them, who is let in, and `mirror keys`."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from support.serving import keys as run_keys

from registry_mirror.errors import ConfigurationError
from registry_mirror.server import auth as keys
from registry_mirror.server.auth import (
    Authenticator,
    ClientKey,
    KeyRing,
    KeysUnreadableError,
    UnauthorizedError,
    change,
    digest_of,
    new_key,
    parse,
    presented_key,
    read,
    render,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = "mk_secret"


def key(name: str = "box", secret: str = SECRET, ends: datetime | None = None) -> ClientKey:
    return ClientKey(name, digest_of(secret), NOW, ends)


def put(path, *wanted: ClientKey) -> None:
    change(path, lambda _present: wanted)


def forever() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.toml"


def admitted(guard: Authenticator, secret: str = SECRET) -> str | None:
    try:
        return guard.admit({"x-api-key": secret})
    except UnauthorizedError:
        return None


def test_a_file_comes_back_as_it_was_written(path):
    wanted = (key("a"), key("b.c-d_e", "x", NOW + timedelta(days=3)), ClientKey("d", "0" * 64, None))
    assert parse(render(wanted), path) == wanted
    assert read(path) == ()


def test_a_key_is_long_and_kept_as_a_digest_only(path):
    assert len({new_key() for _ in range(100)}) == 100
    assert len(new_key()) >= 40
    put(path, key())
    assert SECRET not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "keys = 3",
        'keys = ["a"]',
        "[keys.a]",
        "[keys.a]\nsha256 = 3",
        "[keys.a]\nsha256 = ''",
        f"[keys.a]\nsha256 = '{'g' * 64}'",
        f"[keys.a]\nsha256 = '{'0' * 63}'",
        f"[keys.'a b']\nsha256 = '{'0' * 64}'",
        f"[keys.a]\nsha256 = '{'0' * 64}'\nexpires_at = 'soon'",
        f"[keys.a]\nsha256 = '{'0' * 64}'\nexpires_at = 7",
        f"[keys.a]\nsha256 = '{'0' * 64}'\n[keys.b]",
        "[" * 10_000,
    ],
)
def test_half_a_file_counts_for_nothing(text, path):
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"keys\.toml"):
        read(path)
    guard = Authenticator(KeyRing(path), open_to_all=False)
    with pytest.raises(KeysUnreadableError):
        guard.admit({"x-api-key": SECRET})


def test_a_file_that_cannot_be_read_lets_nobody_in(path):
    path.mkdir()
    with pytest.raises(KeysUnreadableError):
        Authenticator(KeyRing(path), open_to_all=False).admit({})
    path.rmdir()
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        read(path)


def test_a_key_that_has_ended_is_none(path):
    now = datetime.now(UTC)
    put(path, key("old", "1", now - timedelta(seconds=1)), key("new", "2", now + timedelta(days=1)))
    guard = Authenticator(KeyRing(path), open_to_all=False)
    assert [admitted(guard, secret) for secret in ("1", "2", "3", "")] == [None, "new", None, None]


def test_only_ended_keys_do_not_open_the_door(path):
    put(path, key(ends=NOW))
    assert admitted(Authenticator(KeyRing(path), open_to_all=False)) is None


def test_the_door_closes_with_the_first_key_and_stays_closed(path):
    guard = Authenticator(KeyRing(path), open_to_all=False)
    assert admitted(guard, "") == ""
    assert guard.still_admits("")
    put(path, key())
    assert admitted(guard, "") is None
    assert admitted(guard) == "box"
    assert not guard.still_admits("")
    path.unlink()
    assert admitted(guard) is None
    put(path)
    assert admitted(guard, "") is None


def test_a_file_without_keys_closes_the_door(path):
    put(path)
    assert admitted(Authenticator(KeyRing(path), open_to_all=False), "") is None


def test_the_open_door_stays_open(path):
    put(path, key())
    assert admitted(Authenticator(KeyRing(path), open_to_all=True), "") == ""


def test_a_revoked_key_takes_its_addresses_along_and_a_new_one_of_its_name_does_not_bring_them_back(path):
    guard = Authenticator(KeyRing(path), open_to_all=False, closed=True)
    put(path, key(), key("other", "x"))
    ticket = guard.ticket("box")
    assert guard.still_admits(ticket)
    assert SECRET not in ticket
    put(path, key("other", "x"))
    assert not guard.still_admits(ticket)
    put(path, key(secret="another"))
    assert not guard.still_admits(ticket)
    assert not guard.still_admits("box")
    put(path, key(ends=NOW))
    assert not guard.still_admits(ticket)


def test_a_change_of_the_same_length_within_one_tick_counts(path):
    ring = KeyRing(path)
    for secret in ("a", "b", "c", "d"):
        put(path, key(secret=secret))
        os.utime(path, ns=(1, 1))
        assert ring.holder(secret, NOW) == "box"


def basic(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-api-key": " k "}, "k"),
        ({"authorization": "Bearer k"}, "k"),
        ({"authorization": "bearer   k"}, "k"),
        ({"authorization": basic(b"user:k:k")}, "k:k"),
        ({"authorization": basic(b":k")}, "k"),
        ({"authorization": basic(b"k")}, ""),
        ({"authorization": "Basic \xff\xfe"}, ""),
        ({"authorization": "Basic %%%"}, ""),
        ({"authorization": "Digest k"}, ""),
        ({"authorization": "k"}, ""),
        ({"x-api-key": "", "authorization": "Bearer k"}, "k"),
        ({"x-api-key": "a", "authorization": "Bearer b"}, "a"),
        ({}, ""),
    ],
)
def test_where_a_key_may_stand(headers, expected):
    assert presented_key(headers) == expected


def test_a_key_of_odd_bytes_is_just_wrong(path):
    put(path, key())
    guard = Authenticator(KeyRing(path), open_to_all=False)
    for odd in ("\xff", "\udc80", "a" * 100_000, "\0"):
        assert admitted(guard, odd) is None


def test_ring_is_read_while_it_is_changed(path):
    put(path, key(ends=forever()))
    guard, stop = Authenticator(KeyRing(path), open_to_all=False), threading.Event()

    def churn() -> None:
        for i in range(100):
            put(path, key(ends=forever()), key("x", str(i)))
        stop.set()

    churner = threading.Thread(target=churn)
    churner.start()
    seen = set()
    while not stop.is_set():
        seen.add(admitted(guard))
    churner.join()
    assert seen == {"box"}


# -- the command ------------------------------------------------------------------------------------------------------


def test_keys_are_made_listed_and_revoked(tmp_path):
    (tmp_path / "FORMAT").touch()
    made = run_keys(tmp_path, "add", "box")
    assert made.returncode == 0
    secret = made.stdout.strip()
    assert secret.startswith("mk_")
    assert secret not in made.stderr + (tmp_path / "keys.toml").read_text()
    ending = json.loads(run_keys(tmp_path, "add", "lab", "--expires", "90d", "--json").stdout)
    assert ending["key"].startswith("mk_")
    assert ending["expires_at"] > ending["created_at"]
    listed = json.loads(run_keys(tmp_path, "list", "--json").stdout)["keys"]
    assert [row["name"] for row in listed] == ["box", "lab"]
    assert "key" not in listed[0]
    assert run_keys(tmp_path, "revoke", "box").returncode == 0
    assert "box" not in run_keys(tmp_path, "list").stdout


@pytest.mark.parametrize(
    "args",
    [
        ("add", "a b"),
        ("add", ""),
        ("add", "-x"),
        ("add", "../x"),
        ("add", "x" * 65),
        ("add", "box"),
        ("add", "new", "--expires", "0s"),
        ("add", "new", "--expires", "soon"),
        ("revoke", "nobody"),
    ],
)
def test_a_mistake_is_a_usage_error_and_changes_nothing(tmp_path, args):
    put(tmp_path / "keys.toml", key())
    before = (tmp_path / "keys.toml").read_bytes()
    done = run_keys(tmp_path, *args)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "keys.toml").read_bytes() == before


def test_a_folder_that_is_not_there_names_the_setting_that_named_it(tmp_path):
    (tmp_path / "file").touch()
    named = run_keys(tmp_path, "list", env={"MIRROR_SERVE_KEYS_FILE": str(tmp_path / "no" / "keys.toml")})
    assert (named.returncode, "serve.keys_file" in named.stderr, "--root" in named.stderr) == (2, True, False)
    for folder, said in (("no", "there is no folder"), ("file", "is not a folder")):
        done = run_keys(tmp_path / folder, "add", "box")
        assert (done.returncode, said in done.stderr, "--root" in done.stderr) == (2, True, True)


@pytest.mark.parametrize("stranger", [None, "thesis.tex"])
def test_a_folder_that_is_no_root_gets_no_key(tmp_path, stranger):
    if stranger:
        (tmp_path / stranger).touch()
    done = run_keys(tmp_path, "add", "box")
    assert (done.returncode, "is no mirror root" in done.stderr) == (2, True)
    assert [each.name for each in tmp_path.iterdir()] == [stranger][: bool(stranger)]


@pytest.mark.parametrize("mark", ["FORMAT", "index.sqlite", "keys.toml"])
def test_a_root_a_copy_of_one_and_a_folder_that_has_keys_get_more(tmp_path, mark):
    (tmp_path / mark).touch()
    assert run_keys(tmp_path, "add", "box").returncode == 0


def test_a_file_of_keys_that_others_may_read_is_said(tmp_path, monkeypatch):
    """As on a file system that keeps no permissions: what the mount says holds."""
    (tmp_path / "FORMAT").touch()
    code = (
        "import os, registry_mirror.server.auth as keys, registry_mirror.cli as cli\n"
        "keys._MODES = keys.Modes(file=0o644)\n"
        f"raise SystemExit(cli.run(['--root', {str(tmp_path)!r}, 'keys', 'add', 'box']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert f"others may read {tmp_path / 'keys.toml'}" in done.stderr
    assert "others may read" not in run_keys(tmp_path, "add", "lab").stderr


def test_an_end_that_is_none_is_said(tmp_path):
    assert "is never good" in run_keys(tmp_path, "add", "box", "--expires", "0d").stderr
    assert "more than 100 years" in run_keys(tmp_path, "add", "box", "--expires", "99999d").stderr


def test_a_damaged_file_is_not_overwritten(tmp_path):
    (tmp_path / "keys.toml").write_text("damaged")
    done = run_keys(tmp_path, "add", "box")
    assert (done.returncode, (tmp_path / "keys.toml").read_text()) == (2, "damaged")


def test_keys_made_at_once_are_all_there(tmp_path):
    (tmp_path / "FORMAT").touch()
    command = [sys.executable, "-m", "registry_mirror", "--root", str(tmp_path), "keys", "add"]
    running = [subprocess.Popen([*command, f"box-{i}"], stdout=subprocess.DEVNULL) for i in range(6)]
    assert [each.wait(60) for each in running] == [0] * 6
    assert {each.name for each in keys.read(tmp_path / "keys.toml")} == {f"box-{i}" for i in range(6)}
