"""Damaging stored files, and verifying them in a test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from registry_mirror.config import load_settings
from registry_mirror.secret import Secret
from registry_mirror.sync.reporter import Reporter
from registry_mirror.sync.stop import Stop
from registry_mirror.upkeep.verify.record import Watcher
from registry_mirror.upkeep.verify.run import VerifyOptions, repair_after, verify

from .documents import weights_bytes
from .syncing import settings_for

if TYPE_CHECKING:
    from pathlib import Path

    from registry_mirror.demo import DemoUpstream
    from registry_mirror.upkeep.verify.record import VerifyRecord


class Listener(Watcher):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


def run_verify(root: Path, *, watcher: Watcher | None = None, stop: Stop | None = None, **options: Any) -> VerifyRecord:
    """One verify, in process. `options` are those of `VerifyOptions`."""
    settings = load_settings(root=root, env={}).settings
    return verify(settings, VerifyOptions(**options), watcher or Watcher(), stop or Stop())


def run_repair(upstream: DemoUpstream, root: Path, *, stop: Stop | None = None, **options: Any) -> VerifyRecord:
    """One verify with `--repair`, in process."""
    settings, asked, stop = settings_for(upstream, root), VerifyOptions(repair=True, **options), stop or Stop()
    record = verify(settings, asked, Watcher(), stop)
    return repair_after(settings, Secret(upstream.api_key), asked, record, Reporter(), stop)


def blob_of(root: Path, number: int, size: int = 256) -> Path:
    """The file of the model of that number."""
    import hashlib

    md5 = hashlib.md5(weights_bytes(number, size), usedforsecurity=False).hexdigest()
    return root / "blobs" / md5[:2] / f"{md5}.onnx"


def flip(path: Path, at: int = 10) -> bytes:
    """Changes a byte in place, and neither size nor time; gives back what the file holds now."""
    found = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    return bytes(data)
