"""A server while its root changes: published anew, damaged, not there yet, read-only."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import threading
from urllib.parse import urlsplit

import pytest
from support.roots import Root
from support.serving import API, Serving
from support.syncing import environment, run_sync, start_mirror, wait_for
from support.upstream import many_models

LIST = f"{API}/?limit=1000"


def hammer(server: Serving, stop: threading.Event, seen: list[tuple[int, int]]) -> None:
    """Asks for the list until told to stop; keeps statuses and totals."""
    while not stop.is_set():
        answer = server.get(LIST)
        seen.append((answer.status, answer.json["pagination"]["total"] if answer.status == 200 else -1))


def test_a_new_index_is_served_at_once_and_no_request_fails(tmp_path):
    root = Root(tmp_path / "root")
    root.add("first", b"first")
    root.publish()
    with Serving(root.path) as server:
        stop, seen = threading.Event(), list[tuple[int, int]]()
        clients = [threading.Thread(target=hammer, args=(server, stop, seen)) for _ in range(3)]
        for each in clients:
            each.start()
        for number in range(20):
            root.add(f"model-{number}", b"%d" % number)
            root.publish()
            assert server.get(f"{API}/model-{number}").status == 200
            assert server.get(server.download_url(f"model-{number}")).body == b"%d" % number
        stop.set()
        for each in clients:
            each.join()
        assert {status for status, _ in seen} == {200}
        assert len({total for _, total in seen}) > 3
        assert server.get(LIST).json["pagination"]["total"] == 21
        wait_for(lambda: len([name for name in server.descriptors() if "index.sqlite" in name]) < 12)
        assert not [name for name in server.descriptors() if "(deleted)" in name and "index" in name][3:]


def test_before_the_first_sync_it_is_alive_and_not_ready(upstream, root):
    with Serving(root) as server:
        assert server.get("/healthz").status == 200
        assert server.get("/readyz").status == 503
        for path in (LIST, f"{API}/model-00000", f"{API}/model-00000/download", f"/blobs/{'0' * 32}.onnx"):
            answer = server.get(path)
            assert (answer.status, answer.json["error"]["code"]) == (503, "not_ready")
            assert "mirror sync" in answer.json["detail"]
        assert server.metrics()["mirror_index_readable"] == 0
        assert not root.exists()
        run_sync(upstream, root)
        assert server.get("/readyz").status == 200
        assert server.get(server.download_url("model-00000")).status == 200
        assert server.metrics()["mirror_last_sync_age_seconds"] < 60
        written = json.loads((root / "run.json").read_text())
        (root / "run.json").write_text(json.dumps({**written, "last_synced_at": "2999-01-01T00:00:00Z"}))
        wait_for(lambda: server.metrics()["mirror_last_sync_age_seconds"] == float("inf"))
        assert "mirror_last_sync_timestamp_seconds" not in server.metrics()
    assert "Traceback" not in server.text


def test_a_damaged_index_is_503_until_it_is_mended(tmp_path):
    root = Root(tmp_path / "root")
    root.add("forklifts", b"weights")
    root.publish()
    index, kept = root.layout.index, root.layout.index.read_bytes()

    def replace(content: bytes) -> None:
        beside = index.with_name("beside")
        beside.write_bytes(content)
        beside.rename(index)

    with Serving(root.path) as server:
        url = server.download_url("forklifts")
        for damage in (b"", b"SQLite format 3\0" + os.urandom(8000), b"<html>", kept[: len(kept) // 2], kept[:100]):
            replace(damage)
            statuses = {path: server.get(path).status for path in (LIST, "/readyz", "/healthz", "/metrics")}
            assert statuses.pop("/healthz") == statuses.pop("/metrics") == 200
            assert set(statuses.values()) == {503}, (damage[:20], statuses)
            assert server.get(url).status == 503
            replace(kept)
            assert [server.get(path).status for path in (LIST, "/readyz", url)] == [200, 200, 200]
        index.unlink()
        index.mkdir()
        assert [server.get(path).status for path in (LIST, "/readyz")] == [503, 503]
        index.rmdir()
        assert [server.get(path).status for path in (LIST, "/readyz")] == [503, 503]
    assert "Traceback" not in server.text


@pytest.fixture
def read_only(tmp_path):
    """A root on a mount that cannot be written."""
    root = Root(tmp_path / "root")
    root.add("forklifts", b"weights")
    root.add("training", None, status="training")
    root.publish()
    folder = tmp_path / "mounted"
    folder.mkdir()
    if subprocess.run(["mount", "--bind", str(root.path), str(folder)], check=False).returncode:
        pytest.skip("mounting needs root")
    subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
    yield root, folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_root_is_enough(read_only):
    root, folder = read_only
    with pytest.raises(OSError, match="Read-only"):
        (folder / "x").touch()
    before = root.footprint()
    with Serving(folder) as server:
        for path in (LIST, f"{API}/forklifts", f"{API}/training/download", "/", "/metrics", "/readyz"):
            assert server.get(path).status in (200, 409)
        assert server.get(server.download_url("forklifts")).body == b"weights"
        root.add("new", b"new")
        root.publish()
        after = root.footprint()
        assert server.get(server.download_url("new")).body == b"new"
        ours = {str(folder / "index.sqlite")}  # a blob is closed when its last bytes are handed over
        wait_for(lambda: {name for name in server.descriptors() if str(folder) in name} <= ours)
    assert root.footprint() == after
    assert before.keys() < after.keys()
    assert "Traceback" not in server.text


async def _download(url: str, go: asyncio.Event) -> bytes:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    await go.wait()
    writer.write(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200"), head
    return body


def test_two_hundred_clients_get_whole_files_while_a_sync_publishes(upstream, root):
    for model in many_models(8, size=1 << 20, start=100):
        upstream.add(model)
    run_sync(upstream, root)
    with Serving(root) as server:
        urls = [server.download_url(f"model-{100 + number:05d}") for number in range(8)]
        for model in many_models(20, start=200):
            upstream.add(model)
        syncing = start_mirror("sync", env=environment(upstream, root))

        async def all_of_them() -> list[bytes]:
            go = asyncio.Event()
            clients = [asyncio.create_task(_download(urls[number % 8], go)) for number in range(200)]
            await asyncio.sleep(0)
            go.set()
            return await asyncio.gather(*clients)

        bodies = asyncio.run(all_of_them())
        assert syncing.communicate(timeout=60) is not None
        assert syncing.returncode == 0
        for number, body in enumerate(bodies):
            md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
            assert (len(body), f"/{md5}.onnx" in urls[number % 8]) == (1 << 20, True)
        assert server.get(f"{API}/model-00219").status == 200
    assert "Traceback" not in server.text
