"""`mirror serve` as a process of its own, on a port of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Self

from .syncing import base_environment, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

_ADDRESS = re.compile(r"serving .* at (http\S+) \(")
_ACCESS = re.compile(r"\S+ \S+ \S+ (GET|HEAD|POST|PUT|PATCH|DELETE) (\S+) (\d{3}) \d+ \S+ms (\S+)$")


class ServedMirror:
    """A root as the network sees it. It is an upstream like any other: `base_url`, `api_key`.

    Args:
        env: more environment, such as `MIRROR_SERVE_PATH_PREFIX`.
    """

    def __init__(self, root: Path, *, env: Mapping[str, str] | None = None, api_key: str = "any") -> None:
        self.root, self.api_key = root, api_key
        self._env = {**base_environment(), "MIRROR_ROOT": str(root), **(env or {})}
        self._lines: list[str] = []
        self.base_url = ""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "registry_mirror", "serve", "--port", "0"]
        self._process = subprocess.Popen(command, env=self._env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        wait_for(lambda: self.base_url or self._process.poll() is not None, 60)
        wait_for(lambda: self._answers() or self._process.poll() is not None, 60)
        assert self._process.poll() is None, self.log
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._reading.join()

    @property
    def log(self) -> str:
        """What it has said so far."""
        return "\n".join(self._lines)

    def requests_since(self, mark: int) -> list[tuple[str, str, int]]:
        """Method, path and status of each request since `mark`, which `marked` gave."""
        end = self.marked()
        found = (_ACCESS.search(line) for line in self._lines[mark : end - 1])
        return [(match[1], match[2], int(match[3])) for match in found if match]

    def marked(self) -> int:
        """The place in the log after everything that was asked until now."""
        name = f"mark-{time.monotonic_ns()}"
        request = urllib.request.Request(f"{self.base_url}/healthz", headers={"X-Request-Id": name})
        with urllib.request.urlopen(request, timeout=10):
            pass
        wait_for(lambda: any(line.endswith(name) for line in self._lines))
        return next(place for place, line in enumerate(self._lines, 1) if line.endswith(name))

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for raw in stream:
                line = raw.decode("utf-8", "replace").rstrip()
                self._lines.append(line)
                if match := _ADDRESS.match(line):
                    self.base_url = match[1]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.base_url}/healthz", timeout=5):
                return True
        except OSError:
            return False
