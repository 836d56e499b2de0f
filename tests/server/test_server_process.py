"""How the server begins, reads its settings anew, and ends: what a terminal, systemd and `nohup` expect of it."""

from __future__ import annotations

import contextlib
import http.client
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
from support.roots import Root
from support.serving import API, Serving, new_key
from support.syncing import wait_for

CONTENT = os.urandom(1 << 20) * 8


@pytest.fixture
def root(tmp_path):
    root = Root(tmp_path / "root")
    root.add("forklifts", CONTENT)
    root.publish()
    return root


def asks_for_a_key(server: Serving) -> bool:
    """A connection that the old worker accepts while it ends is closed before its request is read."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return server.get(f"{API}/").status == 401
    return False


def hears_hangups() -> None:
    """Whatever the tests themselves were started with, such as `nohup`."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_ends_it_with_0(root, tmp_path, number):
    """Ctrl-C, and what `systemctl stop` sends: the worker may end before its parent knows why."""
    signing = tmp_path / "signing.key"
    signing.write_text("s" * 40)
    signing.chmod(0o600)
    env = {"MIRROR_SERVE_WORKERS": "2", "MIRROR_SERVE_SIGNING_KEY_FILE": str(signing)}
    for more in ({}, env):
        with Serving(root.path, env=more, start_new_session=True) as server:
            os.killpg(server.process.pid, number)
            assert server.process.wait(20) == 0, server.text
            assert "Traceback" not in server.text


def test_a_worker_that_is_killed_ends_it_with_1(root):
    with Serving(root.path) as server:
        os.kill(server.workers()[0], signal.SIGKILL)
        assert server.process.wait(20) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_starts_ends_it_with_0(root, number):
    program = (
        "import os, signal, registry_mirror.server.settings as s\n"
        f"old = s.decide\ns.decide = lambda *a: (os.kill(os.getpid(), {int(number)}), old(*a))[1]\n"
        "from registry_mirror.cli import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--root", str(root.path), "serve", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


def test_a_signal_right_after_its_first_word_ends_it(root):
    """The worker is being started then; a signal that it does not know yet must not be lost."""
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-m", "registry_mirror", "--root", str(root.path), "serve", "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            assert process.stderr is not None
            assert "serving" in process.stderr.readline()
            os.killpg(process.pid, signal.SIGTERM)
            assert process.wait(6) == 0


def test_the_address_is_told_when_it_can_be_connected_to(root):
    with subprocess.Popen(
        [sys.executable, "-m", "registry_mirror", "--root", str(root.path), "serve", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+) ", process.stderr.readline())
        assert found
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=10) as made:
            made.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert made.recv(100).startswith(b"HTTP/1.1 200")
        process.terminate()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104
def test_a_server_on_every_address_tells_one_that_can_be_used(root, host):
    if host == "::" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with Serving(root.path, "--without-keys", "--host", host) as server:
        assert server.host not in ("0.0.0.0", "::")  # noqa: S104
        assert server.get("/healthz").status == 200


def test_sighup_reads_the_settings_anew_and_breaks_nothing_off(root, tmp_path):
    config = root.path / "config.toml"
    config.write_text("[serve]\nurl_ttl = '10m'\n")
    with Serving(root.path, preexec_fn=hears_hangups) as server:
        url = server.download_url("forklifts")
        old = server.workers()
        with server.connect() as slow:
            slow.sendall(
                f"GET {url.removeprefix(server.url)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            got = len(slow.recv(1000))
            config.write_text("[serve]\nrequire_keys = true\n")
            server.process.send_signal(signal.SIGHUP)
            server.logged("the settings were read anew")
            wait_for(lambda: asks_for_a_key(server), 10)
            while piece := slow.recv(1 << 20):
                got += len(piece)
            assert got > len(CONTENT)
        wait_for(lambda: not set(old) & set(server.workers()), 10)
        key = new_key(root.path)
        assert server.get(f"{API}/", key).status == 200
        config.write_text("[serve]\nrequire_keys = maybe\n")
        server.process.send_signal(signal.SIGHUP)
        server.logged("the settings stay as they were")
        assert server.get(f"{API}/", key).status == 200
        assert server.stop() == 0
    assert "Traceback" not in server.text


@pytest.mark.parametrize("gone", [False, True])
def test_the_hangup_of_its_terminal_ends_it(root, gone):
    """Of a terminal that is gone, the system says that it is none."""
    leader, follower = pty.openpty()
    with Serving(root.path, start_new_session=True, stdin=follower, preexec_fn=hears_hangups) as server:
        os.close(follower)
        if gone:
            os.close(leader)
        server.process.send_signal(signal.SIGHUP)
        assert server.process.wait(15) == 0
    if not gone:
        os.close(leader)


def test_nohup_keeps_it(root):
    leader, follower = pty.openpty()
    try:
        ignores = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
        with Serving(root.path, start_new_session=True, stdin=follower, preexec_fn=ignores) as server:
            os.killpg(server.process.pid, signal.SIGHUP)
            for _ in range(20):
                assert server.get("/healthz").status == 200
            assert server.stop() == 0
    finally:
        os.close(leader)
        os.close(follower)


def test_many_clients_at_its_end_get_whole_answers(root):
    """SIGTERM to the whole group, in the middle of downloads: those that have begun end well."""
    with Serving(root.path, start_new_session=True) as server:
        path = server.download_url("forklifts").removeprefix(server.url)
        sizes, begun = list[int](), threading.Barrier(9)

        def download() -> None:
            with server.connect() as made:
                made.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                got = len(made.recv(1000))
                begun.wait(20)
                while piece := made.recv(1 << 20):
                    got += len(piece)
                sizes.append(got)

        clients = [threading.Thread(target=download) for _ in range(8)]
        for each in clients:
            each.start()
        begun.wait(20)
        os.killpg(server.process.pid, signal.SIGTERM)
        for each in clients:
            each.join()
        assert len(sizes) == 8
        assert min(sizes) > len(CONTENT)
        assert server.process.wait(20) == 0
