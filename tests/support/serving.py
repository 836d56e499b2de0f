"""A real `mirror serve` in a process of its own, and what a client, a rude one too, says to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from .syncing import wait_for

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

API = "/api/v1/developer/models"
_SERVING = re.compile(r"serving .* at (https?://\S+) \(")
_COUNTED = re.compile(r"([a-z_]+)(\{[^}]*\})? (\S+)")


@dataclass(frozen=True)
class Reply:
    """One answer; header names in lower case, of those that came twice both."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Serving:
    """`mirror serve` on a free port, from the moment it answers until the block ends.

    Args:
        args: of `serve`.
        before: Python statements run in front of the command, for what no option sets.
        popen: for the process.
    """

    def __init__(
        self,
        root: Path,
        *args: str,
        env: Mapping[str, str] | None = None,
        before: str = "",
        tls: ssl.SSLContext | None = None,
        **popen: Any,
    ) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
        program = f"{before}\nfrom registry_mirror.cli import main\nmain()\n" if before else None
        start = [sys.executable, *(("-c", program) if program else ("-m", "registry_mirror"))]
        self.root, self._tls = root, tls
        self.process = subprocess.Popen(
            [*start, "--root", str(root), "serve", "--port", "0", *args],
            env={**kept, **(env or {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            **{"stdin": subprocess.DEVNULL, **popen},
        )
        self.log: list[str] = []
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            wait_for(lambda: self.url or self.process.poll() is not None)
            assert self.url, f"mirror serve ended with {self.process.wait()}: {self.text}"
            parts = urlsplit(self.url)
            self.host, self.port = parts.hostname or "", parts.port or 0
            wait_for(self._answers)
        except BaseException:
            self.process.kill()
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if not self.url and (found := _SERVING.search(line)):
                self.url = found[1]
            self.log.append(line.rstrip("\n"))

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"mirror serve ended with {self.process.returncode}: {self.text}"
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/healthz").status == 200
        return False

    @property
    def text(self) -> str:
        """Everything on standard error so far."""
        return "\n".join(self.log)

    def stop(self, seconds: float = 30.0) -> int:
        """Sends SIGTERM and gives the exit code; kills what does not end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            for worker in self.workers():
                os.kill(worker, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
            raise
        self._reader.join(10)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code

    # -- asking ---------------------------------------------------------------------------------------------------

    def connect(self, seconds: float = 20.0) -> socket.socket:
        """A bare connection."""
        made = socket.create_connection((self.host, self.port), timeout=seconds)
        return self._tls.wrap_socket(made, server_hostname=self.host) if self._tls else made

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Reply:
        """One request, on a connection of its own; the path goes out as it is."""
        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        more: dict[str, Any] = {"context": self._tls} if self._tls else {}
        connection = kind(self.host, self.port, timeout=30, **more)
        try:
            connection.request(method, path, body, dict(headers or {}))
            return _reply(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """GET, of a path or of an absolute address of this server."""
        return self.request("GET", path.removeprefix(self.url), headers)

    def download_url(self, model: str, query: str = "", headers: Mapping[str, str] | None = None) -> str:
        """The address of a model's weights."""
        answer = self.get(f"{API}/{model}/download{query}", headers)
        assert answer.status == 200, answer.body
        url: str = answer.json["data"]["download_url"]
        return url

    def raw(self, data: bytes, seconds: float = 20.0) -> bytes:
        """Sends bytes as they are and gives all that comes until the server closes or ends an answer.

        Raises:
            TimeoutError: nothing came, and the connection stays open.
        """
        with self.connect(seconds) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
            return read_answer(connection)

    # -- looking at -----------------------------------------------------------------------------------------------

    def workers(self) -> list[int]:
        """The processes that answer."""
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(child) for child in (task / "children").read_text().split()]
        return [pid for pid in found if b"resource_tracker" not in _proc(pid, "cmdline")]

    def descriptors(self) -> list[str]:
        """What the workers have open."""
        found = []
        for pid in self.workers():
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    found.append(str(entry.readlink()))
        return found

    def memory(self) -> int:
        """Resident bytes of the workers."""
        return sum(int(_proc(pid, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE") for pid in self.workers())

    def metrics(self, headers: Mapping[str, str] | None = None) -> dict[str, float]:
        """The numbers of `/metrics`, each under its name and labels as they stand there."""
        return counted(self.get("/metrics", headers).body.decode())

    def logged(self, needle: str) -> str:
        """The first line that has `needle`, once it is there."""
        wait_for(lambda: needle in self.text, 10)
        return next(line for line in self.log if needle in line)


def counted(text: str) -> dict[str, float]:
    """A Prometheus page as a table; a name that stands there twice is a mistake."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#") and (match := _COUNTED.fullmatch(line)):
            name = match[1] + (match[2] or "")
            assert name not in found, f"{name} stands there twice"
            found[name] = float(match[3])
    return found


def read_answer(connection: socket.socket) -> bytes:
    """All that comes until the end of one answer, or of the connection."""
    got = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return got
        if not piece:
            return got
        got += piece
        head, _, body = got.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if length and len(body) >= int(length[1]):
            return got


def keys(root: Path, *args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `mirror keys`."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "registry_mirror", "--root", str(root), "keys", *args],
        env={**kept, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def new_key(root: Path, name: str = "box", *args: str) -> dict[str, str]:
    """A new client key, as a header."""
    made = keys(root, "add", name, *args)
    assert made.returncode == 0, made.stderr
    return {"X-API-Key": made.stdout.strip()}


@contextlib.contextmanager
def vanishing(server: Serving, request: bytes, at_least: int = 1) -> Iterator[None]:
    """A client that asks, takes a few bytes and is gone without a word."""
    connection = server.connect()
    try:
        connection.sendall(request)
        got = 0
        while got < at_least:
            got += len(connection.recv(4096)) or at_least
        yield
    finally:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.close()


def _reply(answer: http.client.HTTPResponse) -> Reply:
    headers: dict[str, str] = {}
    for name, value in answer.getheaders():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return Reply(answer.status, headers, answer.read())


def _proc(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b"0 0"
