"""Giving a blob out: a file of one's own, whole, and never at the store's cost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.roots import Root

from registry_mirror.errors import ConfigurationError, IntegrityError, ValidationError
from registry_mirror.store.deliver import deliver, output_file

HERE = Path(__file__).parents[1]
CONTENT = os.urandom(3 << 20) + b"end"


@pytest.fixture
def blob(tmp_path):
    root = Root(tmp_path / "root")
    return root.path_of(root.blob(CONTENT))


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("progress", [None, lambda _done, _total: None])
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o644)])
def test_a_copy_is_whole_and_one_s_own(blob, out, umask, mode, progress):
    old = os.umask(umask)
    try:
        assert deliver(blob, out / "x.onnx", progress=progress) in ("copy", "reflink")
    finally:
        os.umask(old)
    assert (out / "x.onnx").read_bytes() == CONTENT
    assert (out / "x.onnx").stat().st_mode & 0o777 == mode
    assert os.listdir(out) == ["x.onnx"]
    assert blob.stat().st_mode & 0o777 == 0o444


def test_progress_starts_at_nothing_only_grows_and_ends_at_all(blob, out):
    told = []
    way = deliver(blob, out / "x", progress=lambda *one: told.append(one))
    assert told == sorted(told)
    assert {total for _, total in told} == {len(CONTENT)}
    assert told[-1][0] == len(CONTENT)
    assert way == "reflink" or len(told) > 3
    for link in ("hard", "symbolic"):
        told.clear()
        deliver(blob, out / "x", link=link, progress=lambda *one: told.append(one))
        assert told == [(len(CONTENT), len(CONTENT))]


@pytest.mark.parametrize("link", [None, "hard", "symbolic"])
def test_an_older_output_is_replaced_and_again(blob, out, link):
    output = out / "x"
    output.write_text("old")
    output.chmod(0o400)
    for _ in range(2):  # the second time a hard link meets its own file, where rename does nothing
        deliver(blob, output, link=link)
        assert output.read_bytes() == CONTENT
        assert os.listdir(out) == ["x"]


def test_links_are_links(blob, out):
    assert deliver(blob, out / "hard", link="hard") == "hard link"
    assert (out / "hard").samefile(blob)
    assert not (out / "hard").is_symlink()
    assert deliver(blob, out / "soft", link="symbolic") == "symbolic link"
    assert os.readlink(out / "soft") == str(blob)


def test_a_symbolic_link_is_absolute_even_from_a_relative_path(blob, out, monkeypatch):
    monkeypatch.chdir(blob.parent)
    deliver(Path(blob.name), out / "soft", link="symbolic")
    assert os.readlink(out / "soft") == str(blob)


def test_a_copy_over_a_link_to_the_blob_leaves_the_blob_alone(blob, out):
    for link in ("hard", "symbolic"):
        deliver(blob, out / "x", link=link)
        deliver(blob, out / "x")
        (out / "x").write_text("mine now")
        assert blob.read_bytes() == CONTENT


@pytest.mark.parametrize("target", ["nowhere", "x", "real"])
def test_a_link_that_has_the_output_s_name_is_replaced_and_not_followed(blob, out, target):
    (out / "real").write_text("precious")
    (out / "x").symlink_to(target)
    deliver(blob, out / "x")
    assert not (out / "x").is_symlink()
    assert (out / "x").read_bytes() == CONTENT
    assert (out / "real").read_text() == "precious"
    assert not (out / "nowhere").exists()


def refused(blob, output, match, **options):
    with pytest.raises(ConfigurationError, match=match) as caught:
        deliver(blob, output, **options)
    assert caught.value.exit_code == 2
    assert str(output) in str(caught.value) or repr(str(output)) in str(caught.value)


def test_an_output_that_cannot_be_is_refused_in_words(blob, out):
    (out / "file").write_text("old")
    os.mkfifo(out / "pipe")
    refused(blob, out, "it is a folder")
    refused(blob, out / "missing" / "x", "there is no folder .*missing; create it first")
    refused(blob, out / "file" / "x", "there is no folder")
    refused(blob, out / "pipe", "not an ordinary file")
    refused(blob, out / ("x" * 256), "[Nn]ame too long")
    refused(blob, out / "a\0b", "null")
    refused(blob, Path(), "it is a folder")
    assert sorted(os.listdir(out)) == ["file", "pipe"]


@pytest.mark.parametrize("name", ["/dev/null", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_device_is_never_replaced_by_a_file(blob, name):
    before = os.lstat(name).st_mode
    refused(blob, Path(name), "no place for files")
    assert os.lstat(name).st_mode == before


def test_a_trailing_slash_names_a_folder():
    with pytest.raises(ConfigurationError, match="names a folder"):
        output_file("models/")
    assert output_file("models/x") == Path("models/x")


@pytest.mark.parametrize("link", [None, "hard", "symbolic"])
def test_the_store_is_no_place_for_an_output(blob, out, link):
    (out / "door").symlink_to(blob.parent)
    store = blob.parent.parent
    for output in (
        blob,
        blob.parent / "x",
        store / "x",
        out / "door" / "x",
        blob.parent / ".." / blob.parent.name / blob.name,
    ):
        refused(blob, output, "lies in the store", link=link)
    assert blob.read_bytes() == CONTENT
    assert os.listdir(blob.parent) == [blob.name]


def test_a_missing_blob_is_said_before_the_output_is_touched(blob, out):
    (out / "x").write_text("old")
    blob.unlink()
    for link in (None, "hard", "symbolic"):
        with pytest.raises(IntegrityError, match="missing from the store"):
            deliver(blob, out / "x", link=link)
    assert (out / "x").read_text() == "old"


def test_an_unknown_kind_of_link_is_refused(blob, out):
    with pytest.raises(ValidationError, match="'soft'"):
        deliver(blob, out / "x", link="soft")
    assert os.listdir(out) == []


def test_an_older_output_survives_a_failure_in_the_middle(blob, out):
    (out / "x").write_text("old")

    def fail(done, _total):
        if done > 1 << 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deliver(blob, out / "x", progress=fail)
    assert (out / "x").read_text() == "old"
    assert os.listdir(out) == ["x"]


ON_ANOTHER = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from registry_mirror.errors import ConfigurationError, NoSpaceError
from registry_mirror.store.deliver import deliver

blob, out = Path(sys.argv[1]), Path(sys.argv[2])
(out / "x").write_text("old")
for progress in (None, lambda done, total: None):
    try:
        deliver(blob, out / "x", progress=progress)
    except NoSpaceError as error:
        assert str(out / "x") in str(error), error
    else:
        sys.exit("3 MiB fit into 1")
try:
    deliver(blob, out / "x", link="hard")
except ConfigurationError as error:
    assert "copy it" in str(error), error
else:
    sys.exit("a hard link across file systems")
assert (out / "x").read_text() == "old"
assert [path.name for path in out.iterdir()] == ["x"]
assert deliver(blob, out / "y", link="symbolic") == "symbolic link"
print("survived")
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs a mount namespace")
def test_a_full_disk_and_another_file_system_leave_the_older_output(blob, out):
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" || exit 77; shift; exec "$@"'
    program = [sys.executable, "-c", ON_ANOTHER, str(blob), str(out), str(HERE.parent)]
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(out), *program], capture_output=True, text=True, check=False
    )
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("mounting is not allowed here")
    assert (result.stdout, result.stderr) == ("survived\n", "")


@pytest.mark.parametrize("progress", ["None", "lambda *_: None"])
def test_memory_does_not_grow_with_the_file(blob, out, progress):
    large = blob.with_name("large.onnx")
    with large.open("wb") as file:
        file.truncate(200 << 20)
    program = f"""
import resource, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from registry_mirror.store.deliver import deliver
deliver(Path(sys.argv[1]), Path(sys.argv[1]).parents[2].parent / "out" / "small")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
deliver(Path(sys.argv[2]), Path(sys.argv[1]).parents[2].parent / "out" / "large", progress={progress})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, str(blob), str(large), str(HERE.parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(result.stdout) < 20_000  # KiB


@pytest.fixture
def sharing_disk(tmp_path):
    """A file system whose files can share blocks."""
    image, folder = tmp_path / "image", tmp_path / "btrfs"
    folder.mkdir()
    with open(image, "wb") as stream:
        stream.truncate(300 << 20)
    try:
        subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs root and btrfs-progs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_where_the_file_system_shares_blocks_a_delivery_takes_none(sharing_disk):
    blob, out = sharing_disk / "root" / "blobs" / "ab" / "blob.onnx", sharing_disk / "out.onnx"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(os.urandom(64 << 20))
    os.sync()
    before = os.statvfs(sharing_disk).f_bfree
    assert deliver(blob, out) == "reflink"
    os.sync()
    state = os.statvfs(sharing_disk)
    assert (before - state.f_bfree) * state.f_frsize < 8 << 20
    assert out.read_bytes() == blob.read_bytes()
    out.write_bytes(b"mine now")
    assert blob.stat().st_size == 64 << 20
