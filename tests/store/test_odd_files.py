"""Links, pipes, sockets, devices and folders in place of what the root has: nobody waits, nothing outside changes, and
one odd thing costs one model.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from typing import TYPE_CHECKING

import pytest
from support.roots import Root
from support.serving import API, Serving
from support.syncing import base_environment, environment, mirror, run_sync
from support.upstream import make_model

from registry_mirror import Mirror
from registry_mirror.errors import IntegrityError

if TYPE_CHECKING:
    from pathlib import Path

VERBS = (["sync"], ["gc"], ["verify"], ["list"], ["status"], ["doctor"])
WRITERS = (["sync"], ["gc"], ["verify"], ["pin", "model-00001"])


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        before = os.getcwd()
        os.chdir(path.parent)  # its name may have a hundred characters only
        made.bind(path.name)
        os.chdir(before)


ODD = {
    "pipe": os.mkfifo,
    "socket": a_socket,
    "folder": lambda path: path.mkdir(),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
}


def put(path: Path, kind: str) -> None:
    """Puts an odd thing in the place of a file."""
    path.unlink(missing_ok=True)
    ODD[kind](path)


def blobs(root: Path) -> list[Path]:
    return sorted((root / "blobs").glob("*/*"))


def old(folder: Path) -> list[str]:
    """Precious files of somebody else, old enough for anything."""
    folder.mkdir()
    names = ["passwd", ".bashrc", "notes.txt", "weights.box-1.999999.abcdef.part", f"{'a' * 32}.onnx.bad.box.7.ab"]
    for name in names:
        (folder / name).write_text("precious")
        os.utime(folder / name, (1, 1))
    return sorted(names)


@pytest.mark.parametrize("folder", ["incoming", "quarantine", "blobs"])
def test_a_folder_of_the_root_that_is_a_link_is_refused_by_every_writer(upstream, root, tmp_path, folder):
    run_sync(upstream, root)
    elsewhere = tmp_path / "elsewhere"
    names = old(elsewhere)
    shutil.rmtree(root / folder)
    (root / folder).symlink_to(elsewhere)
    for verb in WRITERS:
        done = mirror(*verb, env=environment(upstream, root))
        assert done.returncode == 2, (verb, done.stderr)
        assert "is a link to" in done.stderr
        assert "bind-mount the whole root" in done.stderr
    assert sorted(os.listdir(elsewhere)) == names


def test_a_link_among_the_folders_of_blobs_costs_its_models_and_leads_nobody_out(upstream, root, tmp_path):
    run_sync(upstream, root)
    elsewhere = tmp_path / "elsewhere"
    names = old(elsewhere)
    shard = blobs(root)[0].parent
    shutil.rmtree(shard)
    shard.symlink_to(elsewhere)
    upstream.add(make_model(9))
    done = mirror("sync", env=environment(upstream, root))
    assert done.returncode == 3, done.stderr
    assert str(shard) in done.stderr
    assert mirror("path", "model-00009", env=environment(upstream, root)).returncode == 0
    assert mirror("gc", env=environment(upstream, root)).returncode == 0
    assert sorted(os.listdir(elsewhere)) == names


def test_only_files_of_ours_are_removed_from_our_folders(upstream, root):
    run_sync(upstream, root)
    for folder in ("incoming", "quarantine"):
        for name in ("passwd", ".bashrc", "notes.txt"):
            (root / folder / name).write_text("precious")
            os.utime(root / folder / name, (1, 1))
    (root / "incoming" / "weights.box-1.999999.abcdef.part").write_text("left")
    os.utime(root / "incoming" / "weights.box-1.999999.abcdef.part", (1, 1))
    assert mirror("gc", env=environment(upstream, root)).returncode == 0
    assert sorted(os.listdir(root / "incoming")) == [".bashrc", "notes.txt", "passwd"]
    assert len(os.listdir(root / "quarantine")) == 3


@pytest.mark.parametrize("name", ["run.lock", "publish.lock", "catalog.sqlite", "FORMAT"])
def test_a_link_in_place_of_a_file_that_writers_open_changes_nothing_elsewhere(upstream, root, tmp_path, name):
    run_sync(upstream, root)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (root / name).unlink()
    (root / name).symlink_to(victim)
    for verb in (["sync"], ["gc"], ["verify"]):
        assert mirror(*verb, env=environment(upstream, root)).returncode in (1, 2)
    assert victim.read_text() == "precious"


NAMES = ["index.sqlite", "FORMAT", "run.json", "catalog.sqlite", "run.lock", "publish.lock", "keys.toml", "config.toml"]


@pytest.mark.parametrize("name", NAMES)
def test_no_verb_waits_for_what_is_no_file_or_calls_it_a_fault_of_ours(upstream, root, name):
    run_sync(upstream, root)
    put(root / name, "pipe")
    for verb in VERBS:
        began = time.monotonic()
        done = mirror(*verb, env=environment(upstream, root))
        assert time.monotonic() - began < 8, verb
        assert done.returncode in range(11), (verb, done.stderr)
        assert "Traceback" not in done.stderr, (verb, done.stderr)
        assert "a fault in registry-mirror" not in done.stderr, (verb, done.stderr)


@pytest.mark.parametrize("kind", ODD)
def test_one_odd_thing_among_the_blobs_costs_one_model_at_most_and_is_mended(upstream, root, kind):
    run_sync(upstream, root)
    odd = blobs(root)[0]
    put(odd, kind)
    with pytest.raises(IntegrityError):
        _paths(root)
    upstream.add(make_model(9))
    done = mirror("sync", env=environment(upstream, root))
    assert done.returncode in (0, 3), done.stderr
    assert mirror("verify", env=environment(upstream, root)).returncode in (0, 4)
    assert mirror("sync", env=environment(upstream, root)).returncode == 0
    assert odd.is_file()
    assert not odd.is_symlink()
    assert len(_paths(root)) == 3


def _paths(root: Path) -> list[Path]:
    with Mirror(root) as opened:
        return [opened.models.path(f"model-{number:05d}") for number in range(3)]


@pytest.mark.parametrize("made", ["file", "pipe"])
def test_what_stands_in_place_of_a_folder_of_blobs_costs_its_models(upstream, root, made):
    run_sync(upstream, root)
    shard = blobs(root)[0].parent
    shutil.rmtree(shard)
    (shard.touch if made == "file" else lambda: os.mkfifo(shard))()
    upstream.add(make_model(9))
    done = mirror("sync", env=environment(upstream, root))
    assert done.returncode == 3, done.stderr
    assert f"no blob can be kept in {shard}: it is a {made}, not a folder" in done.stderr
    assert "move it away" in done.stderr
    assert mirror("path", "model-00009", env=environment(upstream, root)).returncode == 0
    shard.unlink()
    assert mirror("sync", env=environment(upstream, root)).returncode == 0


@pytest.mark.parametrize("kind", ODD)
def test_a_server_does_not_wait_for_them_nor_give_them_out(tmp_path, kind):
    root = Root(tmp_path / "root")
    root.add("odd", b"a" * 300)
    root.add("good", b"b" * 300)
    root.publish()
    with Serving(root.path) as server:
        urls = {name: server.download_url(name) for name in ("odd", "good")}
        odd = next(path for path in blobs(root.path) if path.stem in urls["odd"])
        put(odd, kind)
        for headers in ({}, {"Range": "bytes=1-"}):
            assert server.get(urls["odd"], headers).status == 404
            assert server.get(urls["good"], headers).status in (200, 206)
        assert server.get(f"{API}/odd/download").status == 409
        put(root.path / "run.json", kind)
        for path in ("/", "/metrics", "/readyz", "/healthz", f"{API}/"):
            assert server.get(path).status == 200, path
    assert "Traceback" not in server.text


def test_keys_that_are_no_file_let_nobody_in(tmp_path):
    root = Root(tmp_path / "root")
    root.add("good", b"b" * 300)
    root.publish()
    os.mkfifo(root.path / "keys.toml")
    done = mirror("--root", str(root.path), "serve", "--port", "0", env=base_environment())
    assert done.returncode == 2
    assert "keys.toml" in done.stderr
