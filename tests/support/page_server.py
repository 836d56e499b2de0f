"""A running `mirror serve`, and plain requests to it."""

from __future__ import annotations

import re
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from .syncing import start_mirror, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message
    from pathlib import Path

_ADDRESS = re.compile(r" at (https?://\S+) ")


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Serving:
    """`with Serving(root) as server:` it listens on a port of its own until the block ends."""

    def __init__(self, root: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        given = {"PATH": "/usr/bin:/bin", "HOME": str(root), "MIRROR_ROOT": str(root), **(env or {})}
        self._process = start_mirror("serve", "--port", "0", *arguments, env=given)
        self.base = ""

    def __enter__(self) -> Self:
        assert self._process.stderr is not None
        for line in self._process.stderr:  # it says its address first, and where that fails, why
            if found := _ADDRESS.search(line):
                self.base = found[1]
                wait_for(self._answers)
                return self
        raise AssertionError(f"it ended with {self._process.wait(10)}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise

    def _answers(self) -> bool:
        try:
            return self.get("/healthz").status == 200
        except OSError:
            return False

    def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Answer:
        """One request; `path` is put after the base URL, unless it is a whole address."""
        address = path if "://" in path else self.base + path
        request = urllib.request.Request(address, headers=dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())
