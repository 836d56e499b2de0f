"""Who is let in, over what, and how the server starts and ends."""

from __future__ import annotations

import base64
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
from support.roots import Root
from support.serving import API, Serving, keys, new_key
from support.syncing import wait_for

from registry_mirror.server.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = os.urandom(100_000)
KEYED = ("/metrics", f"{API}/", f"{API}/forklifts", f"{API}/forklifts/download", f"{API}/nobody")
FREE = ("/healthz", "/readyz", "/openapi.json")


@pytest.fixture
def root(tmp_path):
    root = Root(tmp_path / "root")
    root.add("forklifts", CONTENT)
    root.publish()
    return root


def fails(root: Path, *args: str, env: dict[str, str] | None = None) -> str:
    """What `mirror serve` says when it refuses to start."""
    done = subprocess.run(
        [sys.executable, "-m", "registry_mirror", "--root", str(root), "serve", *args],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def statuses(server: Serving, paths: tuple[str, ...], headers: dict[str, str] | None = None) -> set[int]:
    return {server.get(path, headers).status for path in paths}


def test_the_life_of_a_key(root):
    with Serving(root.path) as server:
        old = server.download_url("forklifts")
        assert server.get(old).body == CONTENT
        box = new_key(root.path)
        # From here on everybody needs one, and what was given out before does not count any more.
        assert statuses(server, KEYED) == {401}
        assert statuses(server, FREE) == {200}
        assert statuses(server, (old,)) == {403}
        assert statuses(server, KEYED[:-1], box) == {200}
        refused = server.get(f"{API}/")
        assert refused.headers["www-authenticate"].startswith("Basic ")
        assert refused.json["error"]["code"] == "unauthorized"
        assert statuses(server, KEYED, {"X-API-Key": "mk_wrong"}) == {401}
        wrong = server.get(f"{API}/", {"X-API-Key": "mk_wrong"}).json["detail"]
        assert ("asks for a client key" in refused.json["detail"], "does not know" in wrong) == (True, True)
        assert statuses(server, KEYED, {"X-API-Key": box["X-API-Key"] + "x"}) == {401}
        password = base64.b64encode(f"any:{box['X-API-Key']}".encode()).decode()
        for other in ({"Authorization": f"Bearer {box['X-API-Key']}"}, {"Authorization": f"Basic {password}"}):
            assert server.get(f"{API}/forklifts", other).status == 200

        lab = new_key(root.path, "lab")
        of_box, of_lab = (server.download_url("forklifts", headers=key) for key in (box, lab))
        assert box["X-API-Key"] not in of_box
        whole = server.get(of_box)
        assert whole.body == CONTENT
        assert whole.headers["cache-control"].startswith("private,")
        bare = of_box.partition("?")[0]
        assert [server.get(bare).status, server.get(bare, box).status] == [401, 200]

        assert keys(root.path, "revoke", "box").returncode == 0
        assert statuses(server, KEYED, box) == {401}
        assert [server.get(of_box).status, server.get(of_lab).status] == [403, 200]
        again = new_key(root.path)
        assert [server.get(of_box).status, server.get(of_box, again).status] == [403, 403]
        for name in ("box", "lab"):
            keys(root.path, "revoke", name)
        assert statuses(server, KEYED) == {401}  # the last key gone opens no door
        secrets = [box["X-API-Key"], lab["X-API-Key"], again["X-API-Key"], "mk_wrong", password, "signature="]
        signatures = [url.rpartition("=")[2] for url in (old, of_box, of_lab)]
    assert not [secret for secret in (*secrets, *signatures) if secret in server.text]
    assert " box GET /blobs/" in server.text


def test_a_file_of_keys_that_is_lost_or_damaged_lets_nobody_in(root):
    box, file = new_key(root.path), root.path / "keys.toml"
    with Serving(root.path) as server:
        url = server.download_url("forklifts", headers=box)
        kept = file.read_bytes()
        for damage in (
            lambda: file.write_bytes(kept[: len(kept) // 2]),
            lambda: file.write_bytes(b"\xff\xfe"),
            lambda: (file.unlink(), file.mkdir()),
        ):
            damage()
            assert statuses(server, KEYED, box) == statuses(server, KEYED) == statuses(server, (url,)) == {503}
            assert statuses(server, FREE) == {200}
            assert str(root.path) not in server.get(f"{API}/", box).body.decode()
        file.rmdir()
        assert statuses(server, KEYED, box) == statuses(server, KEYED) == {401}
        assert statuses(server, (url,)) == {403}
        file.write_bytes(kept)
        assert statuses(server, (*KEYED[:-1], url), box) == {200}
    assert "keys.toml is not a file of client keys" in server.text
    assert "keys.toml is not UTF-8" in server.text
    assert "cannot read" in server.text
    assert "Traceback" not in server.text


def test_a_damaged_file_of_keys_keeps_an_open_server_from_starting(root):
    (root.path / "keys.toml").write_text("damaged")
    assert "not a file of client keys" in fails(root.path)


def test_revoking_the_last_key_opens_no_door_at_the_next_start(root):
    box = new_key(root.path)
    assert "still asked for" in keys(root.path, "revoke", "box").stderr
    with Serving(root.path) as server:
        assert statuses(server, KEYED) == statuses(server, KEYED, box) == {401}
        assert "nobody has one yet" in server.log[0]
        assert statuses(server, KEYED[:-1], new_key(root.path)) == {200}


def test_a_named_file_of_keys_that_is_not_there_ends_it_at_the_start(root, tmp_path):
    env = {"MIRROR_SERVE_KEYS_FILE": str(tmp_path / "etc-keys.toml")}
    said = fails(root.path, "--port", "0", env=env)
    assert f"serve.keys_file {tmp_path / 'etc-keys.toml'} is not there" in said
    assert "mirror keys add" in said
    with Serving(root.path, "--without-keys", env=env) as server:
        assert statuses(server, KEYED[:-1]) == {200}


def test_keys_that_are_required_are_asked_for_without_any(root):
    env = {"MIRROR_SERVE_REQUIRE_KEYS": "true"}
    assert "say the opposite" in fails(root.path, "--port", "0", "--without-keys", env=env)
    with Serving(root.path, env=env) as server:
        assert statuses(server, KEYED) == {401}
        box = new_key(root.path)
        assert statuses(server, KEYED[:-1], box) == {200}
        (root.path / "keys.toml").unlink()
        assert statuses(server, KEYED, box) == {401}


def test_without_keys_asks_nobody(root):
    new_key(root.path)
    with Serving(root.path, "--without-keys") as server:
        assert statuses(server, KEYED[:-1]) == {200}
        assert server.get(server.download_url("forklifts")).headers["cache-control"].startswith("public,")
        assert "no keys: whoever reaches" in server.log[0]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104
def test_another_address_needs_keys_or_a_deliberate_word(root, host):
    said = fails(root.path, "--host", host, "--port", "0")
    assert f"serving on {host} without client keys would give every model to anyone" in said
    assert "--without-keys" in said
    assert "mirror keys add" in said
    box = new_key(root.path)
    with Serving(root.path, "--host", host) as server:
        assert server.get(f"{API}/forklifts", box).status == 200
        assert "client keys are asked for" in server.log[0]


def test_keys_may_lie_elsewhere(root, tmp_path):
    env = {"MIRROR_SERVE_KEYS_FILE": str(tmp_path / "etc-keys.toml")}
    made = keys(root.path, "add", "box", env=env)
    with Serving(root.path, env=env) as server:
        assert statuses(server, KEYED[:-1], {"X-API-Key": made.stdout.strip()}) == {200}
        assert statuses(server, KEYED) == {401}
    assert not (root.path / "keys.toml").exists()


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def certificate(authority, tmp_path):
    issued = authority.issue_cert("127.0.0.1", "localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.private_key_pem.write_to_path(str(key))
    cert.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    return {"MIRROR_SERVE_TLS_CERT": str(cert), "MIRROR_SERVE_TLS_KEY": str(key)}


def trusting(authority: trustme.CA, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def test_tls_with_addresses_that_say_so(root, authority, certificate):
    with Serving(root.path, env=certificate, tls=trusting(authority)) as server:
        url = server.download_url("forklifts")
        assert url.startswith(f"https://127.0.0.1:{server.port}/blobs/")
        assert httpx.get(url, verify=trusting(authority), trust_env=False).content == CONTENT
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE"):
            httpx.get(url, trust_env=False)
        for protocol in ("h2", "http/1.1"):
            with socket.create_connection((server.host, server.port), timeout=10) as bare:
                context = trusting(authority, protocol)
                with context.wrap_socket(bare, server_hostname="127.0.0.1") as connection:
                    assert connection.selected_alpn_protocol() == protocol
        # Plain HTTP to a TLS port, and other noise, cost nothing.
        for noise in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b""):
            with socket.create_connection((server.host, server.port), timeout=10) as bare:
                bare.sendall(noise)
        assert server.get("/healthz").status == 200
        assert server.stop() == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl, for HTTP/2")
def test_a_range_over_http_2_is_whole_or_told(authority, certificate, tmp_path):
    root, content = Root(tmp_path / "root"), os.urandom(1 << 20) * 24
    blob = root.path_of(root.add("big", content).weights[0])
    root.publish()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with Serving(root.path, env=certificate, tls=trusting(authority)) as server:
        curl = ["curl", "-sS", "--noproxy", "*", "--cacert", str(tmp_path / "ca.pem"), "--http2", "-r", "1-"]
        curl.append(server.download_url("big"))
        said = subprocess.run([*curl, "-w", "%{stderr}%{http_version}"], capture_output=True, check=True)
        assert (said.stdout == content[1:], said.stderr) == (True, b"2")
        with subprocess.Popen([*curl, "--limit-rate", "1M"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as slow:
            assert slow.stdout is not None
            slow.stdout.read(1)
            blob.chmod(0o644)
            os.truncate(blob, 1 << 20)
            assert len(slow.stdout.read()) < len(content) - 2
        assert slow.returncode != 0
        server.logged("ended early")


def test_a_certificate_that_cannot_be_used_is_said_at_the_start(root, authority, certificate, tmp_path):
    cert, key = certificate.values()
    other = tmp_path / "other.pem"
    authority.issue_cert("x").private_key_pem.write_to_path(str(other))
    (tmp_path / "junk.pem").write_text("junk")
    for pair in (
        (cert, None),
        (None, key),
        (cert, str(other)),
        (cert, str(tmp_path / "junk.pem")),
        (str(tmp_path / "junk.pem"), key),
        (str(tmp_path / "nowhere.pem"), key),
        (cert, str(tmp_path)),
    ):
        names = ("MIRROR_SERVE_TLS_CERT", "MIRROR_SERVE_TLS_KEY")
        said = fails(root.path, "--port", "0", env={name: file for name, file in zip(names, pair, strict=True) if file})
        assert "tls_cert" in said
        assert ("_ssl.c" in said) == ("in PEM, is in the place" in said or "the certificate was made for" in said)
        assert "tls_key" in said


# -- starting and ending ----------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_said(root):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1, port {port}" in fails(root.path, "--port", port)
    assert "cannot listen on 192.0.2.1" in fails(root.path, "--host", "192.0.2.1", "--without-keys")
    with Serving(root.path) as server:
        assert "cannot listen" in fails(root.path, "--port", str(server.port))


def test_a_root_that_is_a_file_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    assert "is not a folder" in fails(tmp_path / "file")


def test_without_its_libraries_the_extra_is_named(root):
    program = "import sys; sys.modules['granian'] = None\nfrom registry_mirror.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--root", str(root.path), "serve"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install '.[serve]'" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well_and_at_once(root, number):
    with Serving(root.path) as server:
        idle = server.connect()  # an idle connection holds nothing up
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(10)
        began = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(20) == 0
        assert time.monotonic() - began < 5
        idle.close()
    assert "Traceback" not in server.text


@pytest.mark.parametrize("_again", range(3))
def test_two_signals_at_once_end_it_as_one_does(root, _again):
    """Granian's own waiting slept through them in one try of three."""
    with Serving(root.path) as server:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            server.process.send_signal(number)
        assert server.stop() == 0


def test_a_slow_download_holds_the_end_up_for_a_while_only(tmp_path):
    root = Root(tmp_path / "root")
    root.add("big", os.urandom(1 << 20) * 40)
    root.publish()
    quick = "import registry_mirror.server.run as run; run._QUIET_SECONDS = 1"
    with Serving(root.path, before=quick) as server:
        path = server.download_url("big").removeprefix(server.url)
        stuck = []
        for more in ("", "Range: bytes=1-\r\n"):
            stuck.append(server.connect())
            stuck[-1].sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())
            assert stuck[-1].recv(10)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 6
        for each in stuck:
            each.close()
    assert "Traceback" not in server.text


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=1-"}], ids=["whole", "part"])
def test_a_download_under_way_is_finished_when_the_end_comes(tmp_path, headers):
    root = Root(tmp_path / "root")
    root.add("big", CONTENT * 200)
    root.publish()
    with Serving(root.path) as server:
        parts = urlsplit(server.download_url("big"))
        connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        got = answer.read(1000)
        ender = threading.Thread(target=server.stop)
        ender.start()
        wait_for(lambda: not _listens(server))
        got += answer.read()
        connection.close()
        ender.join()
        assert got == (CONTENT * 200)[len(headers) :]
        assert server.process.returncode == 0


def _listens(server: Serving) -> bool:
    try:
        socket.create_connection((server.host, server.port), timeout=1).close()
    except OSError:
        return False
    return True


# -- several workers --------------------------------------------------------------------------------------------------


def test_several_workers_and_fetching_are_refused_before_a_key_is_asked_for(root):
    said = fails(
        root.path, "--port", "0", "--fetch", env={"MIRROR_SERVE_WORKERS": "2", "PICTOGRAPH_API_KEY": "pk_live_key"}
    )
    assert "fetching for clients needs a single worker" in said


@pytest.mark.parametrize("port", ["22x", "-1", "65536", "1.5", ""])
def test_a_port_that_is_none_is_said(root, port):
    said = fails(root.path, f"--port={port}")
    assert f"'{port}' is no port; write a whole number from 0 to 65535" in said


def test_a_root_without_an_index_is_said_at_the_start(root, tmp_path):
    (tmp_path / "other").mkdir()
    with Serving(tmp_path / "other") as server:
        server.logged("no index in")
    with Serving(root.path) as server:
        assert "no index in" not in server.text


def test_both_kinds_of_lines_have_one_form_of_time(root):
    with Serving(root.path) as server:
        (root.path / "keys.toml").write_text("damaged")
        server.get(f"{API}/")
        lines = [server.logged("not a file of client keys"), server.logged(" 503 ")]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} ", line) for line in lines)


def test_several_workers_need_a_key_that_they_share(root):
    env = {"MIRROR_SERVE_WORKERS": "2"}
    assert "signing_key_file" in fails(root.path, "--port", "0", env=env)
    (root.path / "key").write_text("k" * 40)
    env["MIRROR_SERVE_SIGNING_KEY_FILE"] = str(root.path / "key")
    assert "single worker" in fails(root.path, "--port", "0", "--fetch", env={**env, "PICTOGRAPH_API_KEY": "x"})


def test_several_workers_honour_each_others_addresses_and_count_together(root):
    (root.path / "key").write_text("k" * 40)
    env = {"MIRROR_SERVE_WORKERS": "2", "MIRROR_SERVE_SIGNING_KEY_FILE": str(root.path / "key")}
    with Serving(root.path, env=env) as server:
        assert len(server.workers()) == 2
        before = server.metrics()
        for _ in range(20):
            assert server.get(server.download_url("forklifts")).body == CONTENT
        after = [server.metrics() for _ in range(8)]
        for numbers in after:  # whichever worker is asked
            assert gained(before, numbers, 'mirror_http_requests_total{method="GET",route="blobs",status="200"}') == 20
            assert gained(before, numbers, 'mirror_http_sent_bytes_total{route="blobs"}') == 20 * len(CONTENT)
            assert gained(before, numbers, "mirror_weights_hits_total") == 20
            assert numbers["mirror_index_readable"] == 1
        box = new_key(root.path)
        assert {server.get(f"{API}/").status for _ in range(12)} == {401}
        keys(root.path, "revoke", "box")
        assert {server.get(f"{API}/", box).status for _ in range(12)} == {401}
        assert server.stop() == 0


def gained(before: dict[str, float], after: dict[str, float], name: str) -> float:
    return after[name] - before.get(name, 0)


def test_the_numbers_are_right(root):
    root.add("training", None, status="training")
    root.publish()
    (root.path / "run.json").unlink(missing_ok=True)
    with Serving(root.path) as server:
        before = server.metrics()
        for _ in range(3):
            server.get(server.download_url("forklifts"))
        server.get(f"{API}/training/download")
        server.get(server.download_url("forklifts"), {"Range": "bytes=0-9"})
        server.request("HEAD", f"{API}/forklifts")
        server.request("BREW", f"{API}/forklifts")
        server.get("/nowhere/at/all")
        after = server.metrics()

        def more(name: str) -> float:
            return gained(before, after, name)

        assert more('mirror_http_requests_total{method="GET",route="blobs",status="200"}') == 3
        assert more('mirror_http_requests_total{method="GET",route="blobs",status="206"}') == 1
        assert more('mirror_http_requests_total{method="HEAD",route="models",status="200"}') == 1
        assert more('mirror_http_requests_total{method="other",route="models",status="405"}') == 1
        assert more('mirror_http_requests_total{method="GET",route="models",status="409"}') == 1
        assert more('mirror_http_requests_total{method="GET",route="other",status="404"}') == 1
        assert more('mirror_http_sent_bytes_total{route="blobs"}') == 3 * len(CONTENT) + 10
        assert more("mirror_weights_hits_total") == 4
        assert more("mirror_weights_not_cached_total") == 1
        assert more('mirror_http_request_seconds_count{route="blobs"}') == 4
        assert after["mirror_index_readable"] == 1
        assert 0 <= after["mirror_index_age_seconds"] < 60
        assert after["mirror_weights_files"] == 1
        assert after["mirror_weights_bytes"] == len(CONTENT)
        assert after['mirror_models{status="ready"}'] == 1
        assert after['mirror_models{status="training"}'] == 1
        disk = os.statvfs(root.path)
        assert after["mirror_free_bytes"] == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.2)
        names = "\n".join(after)
        assert "forklifts" not in names
        assert "nowhere" not in names


def test_odd_methods_do_not_grow_the_counters():
    metrics = Metrics()
    for number in range(500):
        metrics.answered("models", f"BREW{number}", 501, 0, 0.0)
    assert metrics.text(None, None, None).count(b"mirror_http_requests_total{") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others, which root alone may")
def test_a_file_of_keys_that_another_account_put_there_lets_nobody_in(root):
    key = new_key(root.path)
    file = root.path / "keys.toml"
    with Serving(root.path) as server:
        assert server.get(f"{API}/", key).status == 200
        planted = file.with_name("planted")
        planted.write_bytes(file.read_bytes())
        os.chown(planted, 12345, -1)
        planted.rename(file)
        assert server.get(f"{API}/", key).status == 503
    assert "belongs to account 12345" in fails(root.path, "--port", "0")
    os.chown(root.path, 12345, -1)  # the account that syncs; root serves
    with Serving(root.path) as server:
        assert server.get(f"{API}/", key).status == 200
