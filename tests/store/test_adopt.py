"""What an interrupted fetch left is adopted by a later one: copied, hashed, never trusted."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest
from support.counting import CountingUpstream
from support.documents import make_document, make_model, weights_bytes
from support.syncing import environment, files_under, mirror, run_sync, start_mirror, wait_for
from support.upstream import CutAfter, Do, Gate, Hold, error, etag_only, no_digest, unrelated_etag

from registry_mirror import Mirror
from registry_mirror.demo import DemoModel, DemoWeights, SyntheticBytes
from registry_mirror.digests import digest_file
from registry_mirror.files import PRIVATE, host_name
from registry_mirror.model import format_time, parse_time
from registry_mirror.store import parts as incoming
from registry_mirror.store.adopt import adopt, left_behind
from registry_mirror.store.parts import (
    KEPT_FOR,
    SILENT_AFTER,
    IncomingFile,
    Part,
    adoptable,
    is_as_old,
    process_age,
    process_lives,
    sweep,
)
from registry_mirror.store.sidecar import Origin, parse_origin, read_origin, sidecar

SIZE = 400_000
DATA = weights_bytes(1, SIZE)
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
ID = make_document(1)["id"]
KEY = f"{ID}/onnx"
HERE = host_name()
ORIGIN = Origin(KEY, SIZE, MD5, f'"{MD5}"')


@pytest.fixture
def upstream():
    with CountingUpstream([make_model(1, data=DATA)]) as running:
        yield running


@pytest.fixture
def folder(root):
    return root / "incoming"


@pytest.fixture(scope="module")
def dead():
    """The id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def leave(folder, data, pid, *, origin=ORIGIN, host=HERE, nonce="0a", age=0.0):
    """A part as a killed fetch leaves one."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"weights.{host}.{pid}.{nonce}.part"
    part.write_bytes(data)
    if origin is not None:
        sidecar(part).write_bytes(origin if isinstance(origin, bytes) else origin.encode())
    os.utime(part, (time.time() - age,) * 2)
    return part


def adopted(folder, key=KEY):
    return adopt(folder, PRIVATE, key, lambda _done, _total: None)


def blob(root):
    return Mirror(root).models.path("model-00001").read_bytes()


# --- from run to run -------------------------------------------------------------------------------------------------


@pytest.fixture
def cut_run(upstream, root, folder):
    """A run that was cut at 300,000 bytes and met a dead storage then, and left a part."""
    upstream.inject(CutAfter(300_000), kind="weights")
    upstream.inject(error(503), kind="weights", times=3)
    assert run_sync(upstream, root).exit_code == 3
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".part"]
    upstream.sent = 0
    upstream.requests.clear()


@pytest.mark.usefixtures("cut_run")
def test_the_next_run_of_the_same_process_fetches_the_rest_only(upstream, root):
    said = []
    from registry_mirror.sync.reporter import Reporter

    class Listening(Reporter):
        def started(self, key, name, size):
            said.append(("started", size))

        def advanced(self, key, done):
            said.append(done)

        def finished(self, key, name, how):
            said.append(how)

    finished = run_sync(upstream, root, reporter=Listening())
    assert finished.exit_code == 0
    assert upstream.sent == 100_000
    assert blob(root) == DATA
    assert files_under(root / "incoming") == []
    assert finished.record.tally.fetched.bytes == SIZE
    assert said[0] == ("started", SIZE)
    assert said[1] == 300_000
    assert said[-1] == "fetched 390.6 KiB, 293.0 KiB of it in an earlier run"
    again = run_sync(upstream, root).record.as_json()
    assert (again["unchanged"], again["requests"]["storage"]) == (1, 0)


@pytest.mark.usefixtures("cut_run")
def test_a_download_that_fetches_goes_on_with_what_a_run_left(upstream, root, tmp_path):
    env = environment(upstream, root)
    # To another process, a part of this one is one of a living writer.
    for path in (root / "incoming").iterdir():
        path.rename(path.with_name(path.name.replace(f".{os.getpid()}.", ".4194305.")))
    done = mirror("download", "model-00001", "-o", str(tmp_path / "m"), "--fetch", env=env)
    assert done.returncode == 0, done.stderr
    assert upstream.sent == 100_000
    assert (tmp_path / "m").read_bytes() == DATA


@pytest.mark.usefixtures("cut_run")
def test_weights_that_changed_meanwhile_come_whole_and_the_part_is_gone(upstream, root, folder):
    new = weights_bytes(9, SIZE)
    upstream.replace_weights(ID, new)
    assert run_sync(upstream, root).exit_code == 0
    assert blob(root) == new
    assert upstream.sent == SIZE
    assert files_under(folder) == []


@pytest.mark.usefixtures("cut_run")
def test_a_part_that_was_damaged_on_the_disk_costs_one_more_fetch_and_never_a_wrong_blob(upstream, root, folder):
    (part,) = folder.glob("weights.*.part")
    with open(part, "r+b") as stream:
        stream.seek(12345)
        stream.write(b"damaged")
    assert run_sync(upstream, root).exit_code == 0
    assert blob(root) == DATA
    assert upstream.sent == 100_000 + SIZE
    assert files_under(folder) == []


@pytest.mark.usefixtures("cut_run")
def test_the_sidecar_names_no_address_and_its_part_is_readable_as_any_file(upstream, folder):
    (beside,) = folder.glob("*.json")
    said = json.loads(beside.read_text())
    assert said["key"] == KEY
    assert (said["size"], said["md5"], said["etag"]) == (SIZE, MD5, f'"{MD5}"')
    assert "token" not in beside.read_text()
    assert "http" not in beside.read_text()
    assert upstream.api_key not in beside.read_text()


def test_a_part_that_is_whole_needs_no_body_at_all(upstream, root, folder, dead):
    leave(folder, DATA, dead)
    assert run_sync(upstream, root).exit_code == 0
    assert upstream.ranges() == [(f"bytes={SIZE}-", f'"{MD5}"')]
    assert upstream.sent < 1000
    assert blob(root) == DATA


def test_a_whole_part_with_wrong_bytes_is_fetched_anew(upstream, root, folder, dead):
    leave(folder, b"x" * SIZE, dead)
    assert run_sync(upstream, root).exit_code == 0
    assert blob(root) == DATA


@pytest.mark.parametrize("faults", [[no_digest()], [unrelated_etag('"v1"')]])
def test_without_a_digest_nothing_is_kept_from_run_to_run(upstream, root, folder, faults):
    upstream.inject(*faults, CutAfter(300_000), kind="weights")
    upstream.inject(error(503), kind="weights", times=3)
    assert run_sync(upstream, root).exit_code == 3
    assert files_under(folder) == []


def test_an_etag_that_is_the_digest_is_enough_to_keep_a_part(upstream, root, folder):
    upstream.inject(etag_only(), CutAfter(300_000), kind="weights")
    upstream.inject(error(503), kind="weights", times=3)
    run_sync(upstream, root)
    upstream.inject(etag_only(), kind="weights", times=None)
    upstream.sent = 0
    assert run_sync(upstream, root).exit_code == 0
    assert upstream.sent == 100_000
    assert blob(root) == DATA


def test_weights_that_came_by_another_model_meanwhile_are_recognised_and_the_part_is_dropped(root, folder, dead):
    twin = make_model(2, data=DATA)
    with CountingUpstream([twin]) as upstream:
        run_sync(upstream, root)
        upstream.add(make_model(1, data=DATA))
        leave(folder, DATA[:300_000], dead)
        upstream.sent = 0
        assert run_sync(upstream, root).record.tally.reused.files == 1
        assert files_under(folder) == []


def test_a_process_that_is_killed_at_56_of_64_mib_leaves_8_to_the_next(root, folder):
    mib = 1 << 20
    model = DemoModel(make_document(1), {"onnx": DemoWeights(SyntheticBytes(64 * mib))})
    with CountingUpstream([model]) as upstream:
        gate = Gate()
        upstream.inject(Hold(gate, after=56 * mib), kind="weights")
        process = start_mirror("sync", env=environment(upstream, root))
        wait_for(lambda: any(path.stat().st_size == 56 * mib for path in folder.glob("weights.*.part")))
        process.kill()
        process.communicate(timeout=20)
        assert len(list(folder.glob("weights.*.part"))) == 1
        upstream.sent = 0
        assert run_sync(upstream, root).exit_code == 0
        assert upstream.sent == 8 * mib
        assert digest_file(Mirror(root).models.path("model-00001")).md5 == model.weights["onnx"].md5_hex


def test_ctrl_c_in_a_download_that_fetches_leaves_its_part_too(upstream, root, folder, tmp_path):
    gate = Gate()
    upstream.inject(Hold(gate, after=300_000), kind="weights")
    args = ("download", "model-00001", "-o", str(tmp_path / "m"), "--fetch")
    process = start_mirror(*args, env=environment(upstream, root))
    wait_for(lambda: any(path.stat().st_size == 300_000 for path in folder.glob("weights.*.part")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    upstream.sent = 0
    assert mirror(*args, env=environment(upstream, root)).returncode == 0
    assert upstream.sent == 100_000
    assert (tmp_path / "m").read_bytes() == DATA
    assert files_under(folder) == []


# --- nobody can spoil it ---------------------------------------------------------------------------------------------


def test_a_writer_that_was_taken_for_dead_writes_to_a_file_without_a_name(upstream, root, folder, dead):
    part = leave(folder, DATA[:300_000], dead)
    with open(part, "ab", buffering=0) as zombie:
        upstream.inject(Do(lambda: zombie.write(b"poison" * 1000)), kind="weights")
        assert run_sync(upstream, root).exit_code == 0
        zombie.write(b"poison")
    assert blob(root) == DATA
    assert upstream.sent == 100_000
    assert not part.exists()


def test_a_writer_that_goes_on_while_its_part_is_copied_cannot_make_it_longer_than_the_object(folder, dead):
    part = leave(folder, DATA[:300_000], dead)
    with open(part, "ab", buffering=0) as zombie:
        taken = adopt(folder, PRIVATE, KEY, lambda _done, _total: zombie.write(b"z" * SIZE))
        assert taken.hasher.size <= SIZE
        before = taken.part.path.read_bytes()
        zombie.write(b"poison")
    assert taken.part.path.read_bytes() == before
    assert hashlib.md5(before, usedforsecurity=False).hexdigest() == taken.hasher.digest().md5
    taken.part.discard()


def test_a_writer_on_another_host_that_wakes_up_while_it_is_copied_loses_its_part(folder):
    part = leave(folder, DATA[:300_000], 7, host="pod-4026532000", age=SILENT_AFTER + 5)
    with open(part, "ab", buffering=0) as zombie:
        taken = adopt(folder, PRIVATE, KEY, lambda _done, _total: zombie.write(b"z"))
    assert not part.exists()
    assert not sidecar(part).exists()
    taken.part.discard()


def test_two_that_adopt_one_part_at_once_have_a_copy_each(folder, dead):
    leave(folder, DATA[:300_000], dead)
    both, taken = threading.Barrier(2, timeout=20), []

    def take():
        taken.append(adopt(folder, PRIVATE, KEY, lambda _done, _total: both.wait()))

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.part.path.read_bytes() for each in taken] == [DATA[:300_000]] * 2
    assert len(files_under(folder)) == 4
    for each in taken:
        each.part.discard()
    assert files_under(folder) == []


def test_two_processes_at_once_both_end_well(upstream, root, folder, tmp_path, dead):
    upstream.inject(error(404), kind="weights")
    run_sync(upstream, root)
    leave(folder, DATA[:300_000], dead)
    env = environment(upstream, root)
    several = [
        start_mirror("download", "model-00001", "-o", str(tmp_path / f"m{number}"), "--fetch", env=env)
        for number in range(2)
    ]
    for process in several:
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
    assert (tmp_path / "m0").read_bytes() == (tmp_path / "m1").read_bytes() == DATA
    assert files_under(folder) == []


def test_a_disk_without_room_for_the_copy_gives_the_part_up_and_fetches_from_the_first_byte(disk, dead):
    data = weights_bytes(1, 2 << 20)
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    with CountingUpstream([make_model(1, data=data)]) as upstream:
        root = disk / "root"
        upstream.inject(error(404), kind="weights")
        run_sync(upstream, root)
        upstream.requests.clear()
        leave(root / "incoming", data[: 1700 << 10], dead, origin=Origin(KEY, len(data), md5))
        assert run_sync(upstream, root).exit_code == 0
        assert upstream.ranges() == [(None, None)]
        assert blob(root) == data
        assert files_under(root / "incoming") == []


def test_an_interruption_while_adopting_leaves_the_part_as_it_was(folder, dead):
    part = leave(folder, DATA[:300_000], dead)

    def interrupted(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adopt(folder, PRIVATE, KEY, interrupted)
    assert files_under(folder) == [part.name, sidecar(part).name]


def test_the_longest_fitting_part_is_taken_and_shorter_ones_of_the_object_go(folder, dead):
    leave(folder, DATA[:100], dead, nonce="01")
    leave(folder, DATA[:300], dead, nonce="02")
    leave(folder, DATA + b"more", dead, nonce="03")
    other = leave(folder, b"other", dead, nonce="04", origin=Origin(KEY, 77, None, '"old"'))
    stranger = leave(folder, b"x" * 900, dead, nonce="05", origin=Origin("another/onnx", SIZE, MD5))
    taken = adopted(folder)
    assert taken.hasher.size == 300
    assert taken.head == DATA[:300]
    kept = {taken.part.path, other, stranger}
    assert set(folder.glob("weights.*.part")) == kept
    taken.part.discard()


def test_nothing_is_adopted_twice_and_a_living_part_never(folder):
    part = Part(folder, PRIVATE, origin=ORIGIN)
    part.write(b"abc")
    assert adopted(folder) is None
    part.keep()
    taken = adopted(folder)
    assert taken.part.path != part.path
    assert adopted(folder) is None
    taken.part.discard()
    assert files_under(folder) == []


# --- sidecars that cannot be relied on -------------------------------------------------------------------------------

GOOD = {"key": KEY, "size": SIZE, "md5": MD5, "etag": f'"{MD5}"', "last_modified": None, "started_at": "x"}
HOSTILE = {
    "empty": b"",
    "torn": ORIGIN.encode()[:40],
    "no object": b"[1]",
    "nested deeply": b"[" * 10_000,
    "huge": b'{"key": "' + b"x" * 100_000 + b'"}',
    "no text at all": b"\xff\xfe\x00",
    "nothing to notice a change by": json.dumps({"key": KEY, "size": SIZE}).encode(),
    **{
        f"{name} is {value!r:.20}": json.dumps({**GOOD, name: value}).encode()
        for name, value in [
            ("size", -1),
            ("size", 0),
            ("size", True),
            ("size", 1e300),
            ("size", 1 << 80),
            ("size", "400000"),
            ("key", 7),
            ("md5", "../../etc/passwd"),
            ("md5", [MD5]),
            ("etag", '"a"\r\nX-Injected: 1'),
            ("etag", "W/weak"),
            ("etag", '"é"'),
            ("last_modified", "now\r\nX: y"),
            ("last_modified", 5),
            ("digests", ["crc32c"]),
            ("digests", {"crc32c": "zz"}),
            ("digests", {"sha-256": "00"}),
            ("digests", {"unheard-of": ""}),
            ("kept", "100"),
        ]
    },
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_sidecar_that_is_not_sound_is_as_none_and_its_part_is_swept(folder, dead, data):
    assert parse_origin(data) is None
    part = leave(folder, DATA[:100], dead, origin=data)
    assert adopted(folder) is None
    assert part in sweep(folder)
    assert files_under(folder) == []


def test_a_sound_sidecar_survives_its_own_writing():
    assert parse_origin(ORIGIN.encode()).same_object(ORIGIN)
    assert parse_origin(json.dumps({**GOOD, "unknown": 1}).encode()) is not None


def test_links_and_pipes_are_not_opened(folder, dead, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(DATA)
    name = f"weights.{HERE}.{dead}.0{{}}.part"
    leave(folder, b"", dead, nonce="01").unlink()
    (folder / name.format(1)).symlink_to(secret)
    leave(folder, b"", dead, nonce="02").unlink()
    os.mkfifo(folder / name.format(2))
    leave(folder, DATA[:5], dead, nonce="03", origin=None)
    os.mkfifo(folder / (name.format(3) + ".json"))
    assert adopted(folder) is None
    assert secret.read_bytes() == DATA
    assert read_origin(folder / (name.format(3) + ".json")) is None


# --- what is kept, and how long --------------------------------------------------------------------------------------


def test_the_sweep_keeps_parts_to_go_on_with_and_removes_the_rest(folder, dead):
    kept = leave(folder, DATA[:100], dead, nonce="01")
    old = leave(folder, DATA[:100], dead, nonce="02", age=KEPT_FOR + 60)
    empty = leave(folder, b"", dead, nonce="03")
    long = leave(folder, DATA + b"x", dead, nonce="04")
    bare = leave(folder, DATA[:100], dead, nonce="05", origin=None)
    orphan = sidecar(leave(folder, b"x", dead, nonce="06"))
    orphan.with_name(orphan.name.removesuffix(".json")).unlink()
    assert set(sweep(folder)) == {old, empty, long, bare, orphan}
    assert files_under(folder) == [kept.name, sidecar(kept).name]


@pytest.mark.parametrize(
    ("host", "pid", "age", "lives", "expected"),
    [
        ("here-1", 7, 0, False, True),
        ("here-1", 7, SILENT_AFTER - 1, True, False),
        ("here-1", 7, SILENT_AFTER + 1, True, True),  # the number is somebody else's by now
        ("there-2", 7, SILENT_AFTER - 1, False, False),
        ("there-2", 7, SILENT_AFTER + 1, True, True),
        (None, None, 10**9, False, False),
    ],
)
def test_a_part_is_adopted_when_its_process_is_gone_or_it_is_silent(tmp_path, host, pid, age, lives, expected):
    assert adoptable(IncomingFile(tmp_path, host, pid, age), "here-1", lambda _: lives) is expected


@pytest.fixture
def young():
    """A process that runs and has only just begun."""
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield child
    child.stdin.close()
    child.wait()


def test_a_process_that_began_after_the_last_byte_is_not_the_writer_of_a_file(folder, young):
    old = leave(folder, DATA[:100], young.pid, nonce="01", origin=None, age=SILENT_AFTER + 60)
    fresh = leave(folder, DATA[:100], young.pid, nonce="02", origin=None)
    index = old.rename(old.with_name(f"index.{HERE}.{young.pid}.0a.part"))
    assert sweep(folder) == [index]
    assert files_under(folder) == [fresh.name]


def test_neither_is_this_very_process_when_its_number_was_anothers_before_a_reboot(folder):
    age = process_age(os.getpid()) + SILENT_AFTER
    old = leave(folder, DATA[:100], os.getpid(), nonce="01", origin=None, age=age)
    leave(folder, DATA[:100], os.getpid(), nonce="02", origin=None, age=min(age - SILENT_AFTER, SILENT_AFTER - 60))
    assert sweep(folder) == [old]


def test_a_process_that_was_there_when_a_file_was_written_may_be_its_writer_for_a_week(folder, monkeypatch):
    monkeypatch.setattr(incoming, "process_age", lambda _: 10 * KEPT_FOR)
    leave(folder, DATA[:100], 1, nonce="01", origin=None, age=KEPT_FOR - 60)
    old = leave(folder, DATA[:100], 1, nonce="02", origin=None, age=KEPT_FOR + 60)
    assert sweep(folder) == [old]


@pytest.mark.parametrize(
    ("age", "silence", "expected"), [(None, 10.0**9, True), (5.0, 4.0, True), (5.0, 5.0, True), (5.0, 6.0, False)]
)
def test_where_nothing_tells_when_a_process_began_its_number_speaks_for_it(age, silence, expected):
    assert is_as_old(age, silence) is expected


def test_the_age_of_a_process_is_told_and_is_that_of_the_system_at_most(young, dead):
    assert 0 <= process_age(young.pid) <= process_age(os.getpid()) <= process_age(dead)  # nothing is told of the dead
    assert process_age(dead) == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=5)
    assert (process_lives(young.pid), process_lives(dead)) == (True, False)


def test_a_process_that_nobody_has_waited_for_yet_writes_no_more(folder):
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    part = leave(folder, DATA[:100], child.pid, origin=None)
    try:
        assert sweep(folder) == [part]
    finally:
        child.communicate()


@pytest.mark.parametrize(
    ("ahead", "adopts", "sweeps"),
    [(SILENT_AFTER - 60, False, False), (SILENT_AFTER + 60, True, False), (8e5, True, True)],
)
def test_a_time_that_is_still_to_come_is_one_of_silence(folder, ahead, adopts, sweeps):
    elsewhere = leave(folder, DATA[:100], 7, host="pod-4026532000", age=-ahead)
    assert bool(left_behind(folder, KEY)) is adopts
    bare = leave(folder, DATA[:100], 7, host="pod-4026532000", nonce="0b", origin=None, age=-ahead)
    assert set(sweep(folder)) == ({elsewhere, bare} if sweeps else set())


# --- a beginning that never helps ------------------------------------------------------------------------------------


def dated(days, **values):
    moment = datetime.now(UTC) - timedelta(days=days)
    return replace(ORIGIN, started_at=format_time(moment), **values)


GIVEN_UP = {
    "no date": replace(ORIGIN, started_at="x"),
    "an old date": dated(8),
    "a date to come": dated(-1),
    "an old date, and as long as it was": dated(8, kept=100),
}


@pytest.mark.parametrize("origin", GIVEN_UP.values(), ids=GIVEN_UP)
def test_a_part_that_has_not_helped_for_a_week_is_given_up(folder, dead, origin):
    old = json.dumps({key: value for key, value in asdict(origin).items() if value is not None}).encode()
    part = leave(folder, DATA[:100], dead, origin=old)
    assert adopted(folder) is None
    assert files_under(folder) == []
    part = leave(folder, DATA[:100], dead, origin=old)
    assert sweep(folder) == [part]


@pytest.mark.parametrize("origin", [dated(6), dated(6, kept=100), dated(30, kept=99), dated(-1, kept=0)])
def test_one_that_is_younger_or_has_grown_is_gone_on_with(folder, dead, origin):
    leave(folder, DATA[:100], dead, origin=origin)
    assert sweep(folder) == []
    adopted(folder).part.discard()


def test_going_on_with_a_part_that_does_not_grow_does_not_make_it_younger(folder, dead):
    began = dated(6, kept=100)
    leave(folder, DATA[:100], dead, origin=began)
    for _ in range(2):  # from fetch to fetch, each a new file with a new time
        taken = adopted(folder)
        assert read_origin(sidecar(taken.part.path)) == began
        taken.part.keep()
    (part,) = left_behind(folder, KEY)
    assert (part.found.age < 60, part.origin) == (True, began)


def test_one_that_has_grown_gets_another_week(folder, dead):
    leave(folder, DATA[:101], dead, origin=dated(6, kept=100))
    taken = adopted(folder)
    again = read_origin(sidecar(taken.part.path))
    assert again.kept == 101
    assert datetime.now(UTC) - parse_time(again.started_at) < timedelta(minutes=5)
    taken.part.discard()


def test_a_run_gives_up_a_beginning_that_no_run_could_use_and_fetches_the_whole(upstream, root, folder, dead):
    leave(folder, DATA[:300_000], dead, origin=dated(8, kept=300_000))
    assert run_sync(upstream, root).exit_code == 0
    assert upstream.sent == SIZE
    assert files_under(folder) == []


def test_a_container_that_comes_back_as_another_host_goes_on_with_its_part(upstream, root, folder):
    leave(folder, DATA[:300_000], 1, host="pod-4026532000", age=SILENT_AFTER + 5)
    assert run_sync(upstream, root).exit_code == 0
    assert upstream.sent == 100_000
    assert files_under(folder) == []


def test_a_part_whose_sidecar_cannot_be_written_is_not_left_behind(folder, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(incoming, "write_all", full)
    with pytest.raises(incoming_errors()):
        Part(folder, PRIVATE, origin=ORIGIN)
    assert files_under(folder) == []


def incoming_errors():
    from registry_mirror.errors import NoSpaceError

    return NoSpaceError


def test_a_part_of_weights_has_its_sidecar_before_its_first_byte(root, folder):
    with CountingUpstream([make_model(1)]) as upstream:
        gate = Gate()
        upstream.inject(Hold(gate, after=0), kind="weights")
        process = start_mirror("sync", env=environment(upstream, root))
        gate.wait_reached()
        wait_for(lambda: list(folder.glob("weights.*.part.json")))
        assert [path.stat().st_size for path in folder.glob("weights.*.part")] == [0]
        assert left_behind(folder, KEY) == []
        gate.release.set()
        process.communicate(timeout=20)
        assert process.returncode == 0
    assert files_under(folder) == []
