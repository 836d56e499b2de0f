"""The mirror offline: which model a name means, which weights it gives, and what it never does."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.roots import FETCHED, GONE, SEEN, Root, failure

from registry_mirror import (
    ConflictError,
    IntegrityError,
    Mirror,
    MirrorError,
    ModelStatus,
    NoIndexError,
    NotFoundError,
    ValidationError,
)
from registry_mirror.errors import ConfigurationError
from registry_mirror.explain import nearest, remarks
from registry_mirror.index import queries

HERE = Path(__file__).parents[1]
ODD_NAMES = [
    "../../etc/passwd",
    "a/b",
    "x" * 300,
    "🦖 dino",
    "100%",
    "",
    " ",
    "%2e%2e",
    "a\nb",
    "\x1b[31mred",
    "שלום",
    "'; --",
    "a\0b",
]


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path / "root")


@pytest.fixture
def mirror(root):
    with Mirror(root.path) as mirror:
        yield mirror


def listed(mirror: Mirror, **filters) -> list[str]:
    names = [model.name for model in mirror.models.list(500, **filters)]
    assert names == [model.name for model in mirror.models.iter(**filters)]
    return names


# --- which model -----------------------------------------------------------------------------------------------------


def test_a_model_is_found_by_name_and_by_id_with_its_document_and_what_the_mirror_knows(root, mirror):
    entry = root.add("forklifts", b"onnx bytes", metrics={"mAP50": 0.9}, novelty={"z": 1, "a": [None]})
    root.publish()
    for key in ("forklifts", entry.id):
        model = mirror.models.get(key)
        assert (model.id, model.name, model.status, model.metrics) == (entry.id, "forklifts", "ready", {"mAP50": 0.9})
        assert json.dumps(model.document) == entry.document
        weights = entry.weights[0]
        assert model.mirror.cached
        assert (model.mirror.md5, model.mirror.sha256, model.mirror.size) == (weights.md5, weights.sha256, 10)
        assert model.mirror.path == root.path_of(weights)
        assert (model.mirror.first_seen, model.mirror.fetched_at) == (entry.first_seen, FETCHED)
        assert (model.mirror.gone_at, model.mirror.shadows) == (None, ())


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_text_is_a_name_or_an_id_and_nothing_more(root, mirror, name):
    root.add(name, b"by name")
    root.add("other", b"by id", model_id=f"id {name}")
    root.publish()
    assert mirror.models.get(name).name == name
    assert mirror.models.path(name).read_bytes() == b"by name"
    assert mirror.models.path(f"id {name}").read_bytes() == b"by id"
    with pytest.raises(NotFoundError):
        mirror.models.get(name + "?")


def test_an_id_wins_over_a_name(root, mirror):
    root.add("b", model_id="a")
    root.add("a", model_id="c", created="2027-01-01")
    root.publish()
    assert mirror.models.get("a").id == "a"


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"created": "2026-01-02"}, {"created": "2026-01-01", "updated": "2027-01-01"}),
        ({"updated": "2026-01-02"}, {"updated": "2026-01-01"}),
        ({"model_id": "2"}, {"model_id": "1"}),
        ({}, {"created": "nonsense"}),
        ({}, {"status": "training", "created": "2027-01-01"}),
        ({"content": None}, {"status": "failed", "created": "2027-01-01"}),
        ({"status": "failed"}, {"status": "training", "content": None, "created": "2027-01-01"}),
        ({"status": "training", "content": None}, {"status": "archived", "created": "2027-01-01"}),
        ({"status": "archived", "content": None}, {"gone_at": GONE, "created": "2027-01-01"}),
    ],
)
@pytest.mark.parametrize("first", [0, 1])
def test_of_two_models_with_one_name_the_better_one_is_meant(root, mirror, better, worse, first):
    added = [root.add("x", **fields) for fields in ((better, worse) if first == 0 else (worse, better))]
    root.publish()
    assert mirror.models.get("x").id == added[first].id


def test_names_are_case_sensitive_and_the_nearest_are_told(root, mirror):
    for name in ("Forklifts", "forklift", "zebras"):
        root.add(name)
    root.publish()
    with pytest.raises(
        NotFoundError, match="no model 'forklifts' in this mirror; did you mean 'Forklifts'\\?"
    ) as caught:
        mirror.models.get("forklifts")
    assert caught.value.exit_code == 8
    with pytest.raises(NotFoundError, match="did you mean 'zebras'"):
        mirror.models.path("zebra")
    with pytest.raises(NotFoundError, match="`mirror list`"):
        mirror.models.get("nothing like it")


def test_a_message_never_carries_control_characters_or_a_novel(root, mirror):
    root.add("\x1b[2Jabc\u202e")
    root.publish()
    with pytest.raises(NotFoundError) as caught:
        mirror.models.get("\x1b[2Jabd\u202e")
    assert str(caught.value).isprintable()
    assert "did you mean" in str(caught.value)
    with pytest.raises(NotFoundError) as caught:
        mirror.models.get("x" * 5000)
    assert len(str(caught.value)) < 300


def test_looking_for_near_names_is_bounded_work():
    assert nearest("modle 77", [f"model {number}" for number in range(100)])[0] == "model 77"
    assert nearest("FOO", ["foo", "Foo", "food"]) == ["foo", "Foo"]
    assert nearest("", ["a"]) == []
    assert nearest("a" * 1000, ["a" * 999]) == []


def test_the_newest_of_two_ready_models_says_that_it_shadows_the_other(root, mirror):
    old = root.add("x", created="2026-01-01")
    new = root.add("x", created="2026-01-02")
    root.add("x", status="training")
    root.add("x", status="archived")
    root.add("x", gone_at=GONE)
    root.publish()
    model = mirror.models.get("x")
    assert (model.id, model.mirror.shadows) == (new.id, (old.id,))
    assert any(old.id in remark for remark in remarks(model))
    assert mirror.models.get(old.id).mirror.shadows == ()
    assert {one.id: one.mirror.shadows for one in mirror.models.list(status="ready")} == {new.id: (old.id,), old.id: ()}


# --- lists -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def assorted(root):
    states = ("ready", "training", "failed", "archived", "paused")
    for day, status in enumerate(states, 1):
        root.add(status, status=status, created=f"2026-01-0{day}", model_type="classification" if day > 3 else None)
    root.add("away", gone_at=GONE, created="2026-01-09")
    root.add("archived away", status="archived", gone_at=GONE, created="2026-01-08")
    root.publish()


@pytest.mark.usefixtures("assorted")
@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["paused", "failed", "training", "ready"]),
        ({"status": "archived"}, ["archived"]),
        ({"status": ModelStatus.ARCHIVED, "include_gone": True}, ["archived away", "archived"]),
        ({"status": ModelStatus.READY}, ["ready"]),
        ({"status": "paused"}, ["paused"]),
        ({"status": "unheard of"}, []),
        ({"model_type": "classification"}, ["paused"]),
        ({"model_type": "classification", "include_archived": True}, ["paused", "archived"]),
        ({"include_archived": True}, ["paused", "archived", "failed", "training", "ready"]),
        ({"include_gone": True}, ["away", "paused", "failed", "training", "ready"]),
        (
            {"include_archived": True, "include_gone": True},
            ["away", "archived away", "paused", "archived", "failed", "training", "ready"],
        ),
    ],
)
def test_lists_hide_archived_and_gone_models_unless_asked(mirror, filters, names):
    assert listed(mirror, **filters) == names


def test_list_is_cut_at_its_limit_and_iter_is_not(root, mirror):
    for number in range(120):
        root.add(f"{number}", None)
    root.publish()
    assert len(mirror.models.list()) == 50
    assert len(mirror.models.list(limit=1)) == 1
    assert len(list(mirror.models.iter(page_size=7))) == 120


@pytest.mark.parametrize("count", [0, 501, -1, True, "10", 2.0])
def test_an_impossible_limit_is_refused_before_anything_is_opened(mirror, count):
    with pytest.raises(ValidationError, match="1 to 500"):  # and not NoIndexError: there is no index
        mirror.models.list(count)
    with pytest.raises(ValidationError, match="1 to 500"):
        mirror.models.iter(page_size=count)


def test_iterating_keeps_its_picture_while_a_new_index_is_published(root, mirror):
    entries = [root.add(f"{number}", None) for number in range(10)]
    root.publish()
    models = mirror.models.iter()
    first = next(models)
    for entry in entries:
        root.alter(entry, status="failed")
    root.publish()
    assert {model.status for model in [first, *models]} == {"ready"}
    assert {model.status for model in mirror.models.list()} == {"failed"}


# --- weights ---------------------------------------------------------------------------------------------------------


def test_weights_are_chosen_by_format_version_and_md5(root, mirror):
    current, old, torch = (
        root.blob(b"2", version="2"),
        root.blob(b"1", version="1", current=False),
        root.blob(b"p", "pytorch"),
    )
    entry = root.add("x", weights=(old, torch, current))
    root.publish()
    path = mirror.models.path
    assert path("x") == root.path_of(current)
    assert path("x").is_absolute()
    assert path("x").suffix == ".onnx"
    assert path("x", format="pytorch").suffix == ".pth"
    assert (
        path("x", version="1")
        == path("x", md5=old.md5)
        == path(entry.id, md5=f" {old.md5.upper()} ")
        == root.path_of(old)
    )
    assert path("x", version="2", md5=current.md5) == root.path_of(current)
    with pytest.raises(ConflictError, match=f"version 2 \\(md5 {current.md5}\\).*version 1") as caught:
        path("x", version="3")
    assert caught.value.exit_code == 9
    for wish in (
        {"version": "1", "md5": current.md5},
        {"md5": torch.md5},
        {"md5": "../../etc/passwd"},
        {"version": ""},
    ):
        with pytest.raises(ConflictError):
            path("x", **wish)


@pytest.mark.parametrize(
    "state", [{"status": "training"}, {"status": "failed"}, {"status": "archived"}, {"gone_at": GONE}]
)
def test_what_was_once_here_stays_usable_and_its_status_is_said(root, mirror, state):
    entry = root.add("x", b"kept", **state)
    root.publish()
    found = mirror.models.weights("x")
    assert found.path.read_bytes() == b"kept"
    assert found.entry == entry.weights[0]
    (remark,) = remarks(found.model, found.entry)
    assert state.get("status", "gone") in remark


def test_a_superseded_version_is_said_to_be_one(root, mirror):
    root.add("x", weights=(root.blob(b"2"), root.blob(b"1", version="0", current=False)))
    root.publish()
    old = mirror.models.weights("x", version="0")
    assert any("superseded" in remark for remark in remarks(old.model, old.entry))
    assert old.model.mirror.path == old.path
    assert remarks(mirror.models.get("x")) == ()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"status": "training"}, "wait until it is ready"),
        ({"status": "failed"}, "look at its training run"),
        ({"status": "ready"}, "run `mirror sync`"),
        (
            {"status": "ready", "failures": (failure("storage answered 503\n", 3),)},
            "failed 3 times.*storage answered 503",
        ),
        ({"status": "archived"}, "restore it upstream"),
        ({"gone_at": GONE}, "gone from the upstream since 2026-03-05"),
        ({"status": "paused"}, "status paused"),
    ],
)
def test_no_cached_weights_is_a_conflict_that_says_what_to_do(root, mirror, state, said):
    root.add("x", None, **state)
    root.publish()
    with pytest.raises(ConflictError, match=said) as caught:
        mirror.models.path("x")
    assert "'x'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 9


def test_a_conflict_names_other_formats_and_other_models_that_could_help(root, mirror):
    old = root.add("x", b"old", created="2026-01-01")
    root.add("x", weights=(root.blob(b"p", "pytorch"),), created="2026-01-02")
    root.publish()
    with pytest.raises(ConflictError, match="pytorch") as caught:
        mirror.models.path("x")
    assert old.id in str(caught.value)
    assert mirror.models.path(old.id).read_bytes() == b"old"


def test_a_missing_or_resized_blob_is_an_integrity_error_with_a_cure(root, mirror):
    entry = root.add("x", b"whole")
    root.publish()
    blob = root.path_of(entry.weights[0])
    blob.chmod(0o644)
    blob.write_bytes(b"cut")
    with pytest.raises(IntegrityError, match=r"'x' have 3 bytes instead of 5.*run `mirror sync`") as caught:
        mirror.models.path("x")
    assert caught.value.exit_code == 4
    blob.unlink()
    with pytest.raises(IntegrityError, match=r"missing from the store.*`mirror sync` fetches"):
        mirror.models.path("x")


def test_changed_bytes_of_the_same_size_are_found_when_verified(root, mirror, tmp_path):
    entry = root.add("x", b"whole")
    root.publish()
    assert mirror.models.path("x", verify=True)
    blob = root.path_of(entry.weights[0])
    blob.chmod(0o644)
    blob.write_bytes(b"whale")
    assert mirror.models.path("x") == blob
    with pytest.raises(IntegrityError, match="do not match their digest"):
        mirror.models.path("x", verify=True)
    with pytest.raises(IntegrityError):
        mirror.models.download("x", tmp_path / "out", verify=True)
    assert not (tmp_path / "out").exists()


def test_a_forgery_is_found_by_sha256_and_damage_by_md5_alone(root, mirror):
    from dataclasses import replace

    root.add("x", weights=(replace(root.blob(b"whole"), sha256="0" * 64),))
    root.add("y", b"other")
    root.publish()
    with contextlib.closing(sqlite3.connect(root.layout.index)) as index, index:
        index.execute("UPDATE weights SET sha256 = NULL WHERE sha256 <> ?", ("0" * 64,))
    with pytest.raises(IntegrityError):
        mirror.models.path("x", verify=True)
    assert mirror.models.path("y", verify=True)
    blob = mirror.models.path("y")
    blob.chmod(0o644)
    blob.write_bytes(b"OTHER")
    with pytest.raises(IntegrityError):
        mirror.models.path("y", verify=True)


def test_an_index_cannot_lead_out_of_the_store(root, mirror):
    root.add("x")
    root.publish()
    connection = sqlite3.connect(root.layout.index, isolation_level=None)
    connection.execute("UPDATE weights SET md5 = '../../../../../../../../etc/passwd'")
    connection.close()
    with pytest.raises(IntegrityError, match="impossible"):
        mirror.models.path("x")


def test_download_makes_a_writable_copy_and_tells_its_progress(root, mirror, tmp_path):
    root.add("x", b"12345")
    root.publish()
    told = []
    output = mirror.models.download(
        "x", str(tmp_path / "x.onnx"), progress=lambda done, total: told.append((done, total))
    )
    assert output == tmp_path / "x.onnx"
    assert output.read_bytes() == b"12345"
    assert output.stat().st_mode & 0o600 == 0o600
    assert told[-1] == (5, 5)
    linked = mirror.models.download("x", tmp_path / "link.onnx", link="hard")
    assert linked.samefile(mirror.models.path("x"))
    with pytest.raises(ConfigurationError, match="folder"):
        mirror.models.download("x", f"{tmp_path}/new/")


# --- the root --------------------------------------------------------------------------------------------------------


def test_the_default_root_is_the_one_that_the_environment_names(root, monkeypatch):
    root.add("x")
    root.publish()
    monkeypatch.setenv("MIRROR_ROOT", str(root.path))
    with Mirror() as mirror:
        assert mirror.root == root.path
        assert mirror.models.get("x")


def test_a_relative_root_gives_absolute_paths_that_outlive_a_change_of_folder(root, monkeypatch, tmp_path):
    root.add("x")
    root.publish()
    monkeypatch.chdir(root.path.parent)
    with Mirror(root.path.name) as mirror:
        monkeypatch.chdir("/")
        assert mirror.models.path("x").is_absolute()
        assert mirror.models.path("x").exists()


def test_a_root_without_an_index_says_so_and_stays_as_it_was(root, mirror):
    before = root.footprint()
    for call in (mirror.status, lambda: mirror.models.get("x"), mirror.models.list, lambda: list(mirror.models.iter())):
        with pytest.raises(NoIndexError, match="no index in"):
            call()
    assert root.footprint() == before


def test_status_counts_what_is_there(root, mirror):
    root.add("a")
    root.add("b", None, failures=(failure(),))
    root.add("c", status="paused", content=None)
    root.add("d", gone_at=GONE)
    root.publish()
    status = mirror.status()
    assert status.counts() == {"total": 4, "ready": 2, "training": 0, "failed": 0, "archived": 0, "gone": 1, "other": 1}
    assert (status.totals.ready_not_cached, status.totals.cached_models) == (1, 2)
    assert [one.name for one in status.failures] == ["b"]
    assert status.age_seconds is None
    assert status.stale(1e12)


# --- what a reader never does ----------------------------------------------------------------------------------------


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    return subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment, **options)


def test_the_mirror_needs_the_standard_library_only(root):
    root.add("x")
    root.publish()
    program = """
import sys
import registry_mirror.mirror
mirror = registry_mirror.mirror.Mirror(sys.argv[1])
mirror.models.path("x", verify=True)
mirror.models.list()
mirror.status()
try:
    mirror.models.get("y")
except registry_mirror.NotFoundError:
    pass
own = sys.stdlib_module_names | {"registry_mirror", "__main__"}
# A site's own start-up files are not ours.
began = set(sys.argv[2].split(","))
print(sorted({name.partition(".")[0] for name in sys.modules} - own - began))
"""
    began = run(sys.executable, "-c", "import sys; print(','.join({n.partition('.')[0] for n in sys.modules}))").stdout
    result = run(sys.executable, "-c", program, str(root.path), began.strip())
    assert (result.stdout, result.stderr) == ("[]\n", "")


READ_ALL = """
import sys
from registry_mirror import ConflictError, Mirror, NotFoundError

mirror = Mirror(sys.argv[1])
assert mirror.models.path("x", verify=True).read_bytes() == b"weights"
assert mirror.models.get("x").mirror.cached
assert len(mirror.models.list()) == len(list(mirror.models.iter())) == 2
mirror.status()
for name, error in (("nobody", NotFoundError), ("empty", ConflictError)):
    try:
        mirror.models.path(name)
    except error:
        pass
mirror.models.download("x", sys.argv[2])
mirror.close()
print("read")
"""

WATCHED = """
import os, sys
root, events = os.path.realpath(sys.argv[1]), []
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
           "os.chown", "os.utime", "os.setxattr", "shutil.", "tempfile.")

def inside(value):
    return isinstance(value, (str, bytes, os.PathLike)) and os.path.realpath(os.fsdecode(value)).startswith(root)

def watch(event, arguments):
    if event.startswith(("socket.", "fcntl.flock", "fcntl.lockf", "fcntl.fcntl", "subprocess.", "os.exec", "os.fork")):
        events.append((event, arguments))
    elif event == "open" and inside(arguments[0]) and arguments[2] & WRITES:
        events.append((event, arguments))
    elif event == "sqlite3.connect" and not ("mode=ro" in arguments[0] and "immutable=1" in arguments[0]):
        events.append((event, arguments))
    elif event.startswith(CHANGES) and any(map(inside, arguments)):
        events.append((event, arguments))

sys.addaudithook(watch)
"""


def readable(root: Root) -> None:
    root.add("x")
    root.add("empty", None)
    root.publish()


def test_a_reader_opens_nothing_to_write_and_dials_and_locks_nothing(root, tmp_path):
    readable(root)
    before = root.footprint()
    result = run(sys.executable, "-c", f"{WATCHED}\n{READ_ALL}\nprint(events)", str(root.path), str(tmp_path / "out"))
    assert (result.stdout, result.stderr) == ("read\n[]\n", "")
    assert root.footprint() == before


def test_a_reader_waits_for_nobody_s_lock(root, tmp_path):
    readable(root)
    holder = sqlite3.connect(root.layout.index, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    result = run(sys.executable, "-c", READ_ALL, str(root.path), str(tmp_path / "out"), timeout=60)
    holder.close()
    assert (result.stdout, result.stderr) == ("read\n", "")


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs a mount namespace")
def test_a_root_on_a_read_only_mount_is_read(root, tmp_path):
    readable(root)
    script = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 77
touch "$1/probe" 2>/dev/null && exit 78
shift
exec "$@"
"""
    program = [sys.executable, "-c", READ_ALL, str(root.path), str(tmp_path / "out")]
    result = run("unshare", "-rm", "sh", "-c", script, "sh", str(root.path), *program)
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("mounting is not allowed here")
    assert (result.stdout, result.stderr, result.returncode) == ("read\n", "", 0)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted by way of /proc")
def test_a_mirror_that_nobody_closes_leaves_nothing_open(root):
    root.add("x", b"x")
    root.publish()

    def opened():
        found = []
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/self/fd/{number}"))
        return [path for path in found if path.startswith(str(root.path))]

    kept = Mirror(root.path)
    assert kept.models.path("x").exists()
    assert opened()
    kept.close()
    assert Mirror(root.path).models.path("x").exists()
    gc.collect()
    assert opened() == []


def answer_of(call, *args, **options):
    """What a call gives, or its error in words."""
    try:
        return call(*args, **options)
    except MirrorError as error:
        return type(error), str(error)


def test_the_short_way_to_a_path_answers_word_for_word_as_the_long_way_does(root, mirror):
    """`path` asks one question of its own where nothing is unusual; `weights` looks at everything."""
    plain = root.add("plain")
    root.add("named as an id", b"other", model_id="plain id")
    root.add("plain id", b"never this")
    root.add("twins", b"older", created="2026-01-01T00:00:00Z")
    root.add("twins", b"newer", created="2026-01-02T00:00:00Z")
    root.add("twins", None, created="2026-01-03T00:00:00Z", status="training")
    root.add("archived", b"archived", status="archived")
    root.add("gone", b"gone", gone_at=GONE)
    root.add("no weights", None)
    root.add("other format", weights=(root.blob(b"pth", "pytorch"),))
    root.add("both", weights=(root.blob(b"1"), root.blob(b"2", "pytorch"), root.blob(b"3", current=False)))
    root.add("two at once", weights=(root.blob(b"4"), root.blob(b"5")))
    root.add("only superseded", weights=(root.blob(b"6", current=False),))
    root.add("impossible", weights=(replace(root.blob(b"7"), md5="../../etc/passwd"),))
    root.path_of(root.add("missing", b"missing").weights[0]).unlink()
    root.add("resized", weights=(replace(root.blob(b"resized"), size=3),))
    root.publish()
    asked = {each.name for each in root.entries.values()} | {plain.id, "plain id", "nobody", "", "\udce9", "a\0b"}
    for name in asked:
        for weights_format in ("onnx", "pytorch", "json"):
            long = answer_of(mirror.models.weights, name, format=weights_format)
            expected = long if isinstance(long, tuple) else long.path
            for _ in range(2):  # also when the answer is remembered
                assert answer_of(mirror.models.path, name, format=weights_format) == expected, (name, weights_format)


def test_a_remembered_path_ends_with_the_index_that_it_came_from(root, mirror):
    entry = root.add("forklifts", b"first")
    root.publish()
    first = mirror.models.path("forklifts")
    assert mirror.models.path("forklifts") == first
    root.alter(entry, weights=(root.blob(b"second"),))
    root.publish()
    second = mirror.models.path("forklifts")
    assert second != first
    assert second.read_bytes() == b"second"
    second.chmod(0o644)
    second.write_bytes(b"cut")
    with pytest.raises(IntegrityError, match="3 bytes instead of 6"):
        mirror.models.path("forklifts")


def test_what_is_remembered_of_paths_is_bounded(root, mirror, monkeypatch):
    monkeypatch.setattr(queries, "_REMEMBERED", 3)
    paths = {
        f"model {number}": root.path_of(root.add(f"model {number}", b"%d" % number).weights[0]) for number in range(9)
    }
    root.publish()
    for _ in range(2):
        assert {name: mirror.models.path(name) for name in paths} == paths
    assert mirror._reader.read(lambda snapshot: len(snapshot._current)) <= 3


def test_tables_that_an_older_index_lacks_are_missed_in_every_new_picture(root, mirror):
    root.add("forklifts")
    root.publish()
    with contextlib.closing(sqlite3.connect(root.layout.index)) as index:
        index.execute("DROP TABLE pins")
    assert not mirror.models.get("forklifts").mirror.pinned
    root.alter(next(iter(root.entries.values())), pinned_at=SEEN)
    root.publish()
    assert mirror.models.get("forklifts").mirror.pinned
