"""Weights over HTTP: whole, in parts, on conditions, by signature, and what the disk may do meanwhile."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import random
import threading
import time
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from support.roots import Root
from support.serving import API, Serving

from registry_mirror.secret import Secret
from registry_mirror.server.downloads import in_memory, read_at
from registry_mirror.server.signing import Signer

CONTENT = random.Random(3).randbytes(3_500_001)
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
PATH = f"/blobs/{MD5}.onnx"
ETAG = f'"{MD5}"'
KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = Root(tmp_path_factory.mktemp("blobs") / "root")
    root.add("forklifts", weights=(root.blob(CONTENT), root.blob(b"superseded", version="0", current=False)))
    root.add("empty", b"")
    root.blob(b"nobody names this")
    root.publish()
    (root.path.parent / "signing").write_text(KEY)
    return root


@pytest.fixture(scope="module")
def server(root):
    with Serving(root.path, env={"MIRROR_SERVE_SIGNING_KEY_FILE": str(root.path.parent / "signing")}) as running:
        yield running
        assert "Traceback" not in running.text


@pytest.fixture(scope="module")
def url(server):
    return server.download_url("forklifts").removeprefix(server.url)


def test_the_whole_comes_with_its_digests(server, url):
    answer = server.get(url)
    assert (answer.status, answer.body) == (200, CONTENT)
    digest = base64.b64encode(bytes.fromhex(MD5)).decode()
    expected = {
        "content-length": str(len(CONTENT)),
        "content-type": "application/octet-stream",
        "etag": ETAG,
        "x-goog-hash": f"md5={digest}",
        "content-md5": digest,
        "accept-ranges": "bytes",
        "content-disposition": 'attachment; filename="forklifts.onnx"',
        "cache-control": "public, max-age=31536000, immutable",
        "x-content-type-options": "nosniff",
    }
    assert answer.headers.items() >= expected.items()
    assert not {"content-encoding", "transfer-encoding", "location"} & answer.headers.keys()


def test_no_encoding_is_applied_whatever_is_accepted(server, url):
    for accepted in ("gzip, br, zstd", "identity;q=0, gzip", "*"):
        answer = server.get(url, {"Accept-Encoding": accepted})
        assert answer.body == CONTENT
        assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("extra", [{}, {"Range": "bytes=5-9"}, {"Range": "bytes=99999999-"}, {"If-None-Match": ETAG}])
def test_head_says_what_get_would(server, url, extra):
    got, head = server.get(url, extra), server.request("HEAD", url, extra)
    assert (head.status, head.body) == (got.status, b"")
    for name in ("content-length", "etag", "content-range", "content-type", "last-modified"):
        assert head.headers.get(name) == got.headers.get(name)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1000000-2999999", 1_000_000, 3_000_000),
        ("bytes=0-1048575", 0, 1 << 20),
        ("bytes=0-1048576", 0, (1 << 20) + 1),
        ("bytes=3500000-", 3_500_000, 3_500_001),
        ("bytes=-1", 3_500_000, 3_500_001),
        ("bytes=-2000000", 1_500_001, 3_500_001),
        ("bytes=3499999-99999999", 3_499_999, 3_500_001),
        ("bytes=0-", 0, 3_500_001),
    ],
)
def test_a_part(server, url, asked, start, stop):
    answer = server.get(url, {"Range": asked})
    assert (answer.status, answer.body == CONTENT[start:stop]) == (206, True)
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"
    assert answer.headers["content-length"] == str(stop - start)
    assert answer.headers["etag"] == ETAG
    assert "content-md5" not in answer.headers


def test_a_range_that_is_not_there_is_416_with_the_size(server, url):
    for asked in ("bytes=3500001-", "bytes=9999999-99999999", "bytes=-0"):
        answer = server.get(url, {"Range": asked})
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")
        assert answer.json["detail"]


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=x", "items=0-1", "bytes=5-1", "bytes=-", ""])
def test_anything_else_is_the_whole(server, url, asked):
    answer = server.get(url, {"Range": asked})
    assert (answer.status, answer.body) == (200, CONTENT)


def test_conditions_hold_on_the_wire(server, url):
    modified = server.request("HEAD", url).headers["last-modified"]
    assert server.get(url, {"If-None-Match": f'"x", W/{ETAG}'}).status == 304
    assert server.get(url, {"If-Modified-Since": modified}).status == 304
    assert server.get(url, {"If-Match": '"x"'}).status == 412
    assert server.get(url, {"If-Match": ETAG}).status == 200
    for condition, status in ((ETAG, 206), (modified, 206), ('"x"', 200), (f"W/{ETAG}", 200)):
        assert server.get(url, {"Range": "bytes=7-", "If-Range": condition}).status == status
    not_modified = server.get(url, {"If-None-Match": ETAG})
    assert not_modified.body == b""
    assert not_modified.headers.items() >= {"etag": ETAG, "last-modified": modified}.items()


def test_a_download_that_was_cut_goes_on_where_it_was(server, url):
    with httpx.stream("GET", server.url + url, trust_env=False) as answer:
        etag, got = answer.headers["etag"], b""
        for piece in answer.iter_raw():
            got += piece
            if len(got) > 1_000_000:
                break
    rest = server.get(url, {"Range": f"bytes={len(got)}-", "If-Range": etag})
    assert rest.status == 206
    assert hashlib.md5(got + rest.body, usedforsecurity=False).hexdigest() == MD5


def test_parts_at_once_join_to_the_whole(server, url):
    parts: dict[int, bytes] = {}
    step = len(CONTENT) // 8 + 1

    def take(start: int) -> None:
        parts[start] = server.get(url, {"Range": f"bytes={start}-{start + step - 1}"}).body

    threads = [threading.Thread(target=take, args=(start,)) for start in range(0, len(CONTENT), step)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert b"".join(parts[start] for start in sorted(parts)) == CONTENT


def test_an_empty_file_is_a_file(server):
    url = server.download_url("empty")
    answer = server.get(url)
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
    assert server.get(url, {"Range": "bytes=0-"}).status == 416


def test_weights_can_be_read_only(server, url):
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        answer = server.request(method, url)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def signed(path: str, key: str = KEY, ttl: float = 3600, now: float | None = None) -> str:
    return f"{path}?{Signer(Secret(key), ttl).query(path, now or 4_000_000_000)}"


def test_superseded_weights_are_served_and_unreferenced_ones_are_not(server):
    for content, status in ((b"superseded", 200), (b"nobody names this", 404), (b"nowhere", 404)):
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        for path in (f"/blobs/{md5}.onnx", signed(f"/blobs/{md5}.onnx")):
            assert server.get(path).status == status


@pytest.mark.parametrize(
    "path",
    [
        f"/blobs/{MD5}",
        f"/blobs/{MD5}.pth",
        f"/blobs/{MD5}.exe",
        f"/blobs/{MD5.upper()}.onnx",
        f"/blobs/{MD5}.onnx/",
        f"/blobs/{MD5[:2]}/{MD5}.onnx",
        f"/blobs/%{ord(MD5[0]):02x}{MD5[1:]}.onnx",
        "/blobs/../index.sqlite",
        "/blobs/%2e%2e%2findex.sqlite",
        "/blobs//etc/passwd",
        "/blobs/",
        "/blobs",
    ],
)
def test_only_a_blobs_own_name_is_an_address(server, path):
    assert server.get(path).status == 404
    assert server.get(signed(path)).status == 404


def test_a_signature_is_only_good_as_it_is(server, url):
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query))
    for change in (
        {"signature": given["signature"][::-1]},
        {"signature": ""},
        {"signature": "\u00e9"},
        {"expires": str(int(given["expires"]) + 1)},
        {"expires": ""},
        {"name": "evil.exe"},
        {"holder": "box"},
    ):
        answer = server.get(f"{parts.path}?{urlencode({**given, **change})}")
        assert (answer.status, answer.json["error"]["code"]) == (403, "forbidden")
    assert server.get(signed(PATH, now=1_000_000_000)).status == 403
    assert server.get(signed(PATH, KEY[::-1])).status == 403
    assert server.get(f"/blobs/{'0' * 32}.onnx?{parts.query}").status == 403
    assert server.get(f"{url}&signature=x").status == 422
    assert server.get(f"{url}&utm=1").status == 200


def test_a_signature_ends(root):
    with Serving(root.path, env={"MIRROR_SERVE_URL_TTL": "10s"}) as server:
        expires = int(dict(parse_qsl(urlsplit(server.download_url("forklifts")).query))["expires"])
    assert 0 < expires - time.time() <= 11


@pytest.fixture
def own(tmp_path):
    """A root to damage, and its server."""
    root = Root(tmp_path / "root")
    entry = root.add("forklifts", CONTENT)
    page = root.add("page", b"p" * 4096)  # as large as a folder is on many file systems
    root.publish()
    with Serving(root.path) as running:
        yield root, root.path_of(entry.weights[0]), root.path_of(page.weights[0]), running
        assert "Traceback" not in running.text


def test_a_blob_that_is_lost_or_damaged_is_an_error_in_words_and_comes_back(own):
    root, blob, page, server = own
    url, other = server.download_url("forklifts"), server.download_url("page")
    blob.rename(blob.with_name("aside"))

    def outcome() -> tuple[int, int]:
        assert server.get(f"{API}/forklifts").status == 200
        return server.get(f"{API}/forklifts/download").status, server.get(url).status

    assert outcome() == (409, 404)
    assert server.get(url, {"Range": "bytes=1-"}).status == 404
    blob.write_bytes(CONTENT[:-1])
    assert outcome() == (409, 409)
    blob.unlink()
    blob.mkdir()
    assert outcome() == (409, 404)
    blob.rmdir()
    os.mkfifo(blob)
    assert outcome() == (409, 404)
    blob.unlink()
    blob.symlink_to(blob)
    assert outcome() == (409, 404)
    blob.unlink()
    blob.with_name("aside").rename(blob)
    assert outcome() == (200, 200)
    page.unlink()
    page.mkdir()
    assert server.get(other).status in (404, 409)  # by its size, where folders have another one
    assert server.get(f"{API}/page/download").status == 409
    assert str(root.path) not in server.get(other).body.decode()


def test_what_a_file_system_has_in_memory_is_read_without_a_thread(disk, monkeypatch):
    """tmpfs does not say what it has at hand; a file on it would be read over a thread, piece by piece."""
    (disk / "blob").write_bytes(CONTENT[: 1 << 20])
    monkeypatch.setattr(asyncio, "to_thread", None)
    descriptor = os.open(disk / "blob", os.O_RDONLY)
    try:
        assert asyncio.run(read_at(descriptor, 7, 1 << 20)) == CONTENT[7 : 7 + (256 << 10)]
    finally:
        os.close(descriptor)


def test_only_memory_counts_as_memory(disk):
    assert in_memory(os.stat(disk).st_dev, 0)
    assert not in_memory(os.stat("/proc").st_dev, 0)
    assert not in_memory(0, 0)


def test_a_download_under_way_outlives_its_file(own):
    """A blob is unlinked by `gc`, never cut; who has begun to read it reads it to the end."""
    _, blob, _, server = own
    url = server.download_url("forklifts")
    for headers in ({}, {"Range": "bytes=1-"}):
        with httpx.stream("GET", url, headers=headers, trust_env=False) as answer:
            pieces = answer.iter_raw()
            got = next(pieces)
            blob.rename(blob.with_name("aside"))
            got += b"".join(pieces)
            blob.with_name("aside").rename(blob)
        assert CONTENT.endswith(got)
        assert len(got) == len(CONTENT) - len(headers)


def test_a_file_that_is_cut_under_a_download_ends_its_connection(tmp_path):
    big = os.urandom(1 << 20) * 64
    root = Root(tmp_path / "root")
    blob = root.path_of(root.add("big", big).weights[0])
    root.publish()
    with Serving(root.path) as server:
        url = server.download_url("big")
        blob.chmod(0o644)
        for headers in ({}, {"Range": "bytes=1-"}):
            with httpx.stream("GET", url, headers=headers, trust_env=False) as answer:
                pieces = answer.iter_raw()
                next(pieces)
                os.truncate(blob, 1 << 20)
                with pytest.raises(httpx.RemoteProtocolError):
                    list(pieces)
            blob.write_bytes(big)
        assert server.get(url).status == 200
        assert "Traceback" not in server.text
