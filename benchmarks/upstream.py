"""A fast upstream on loopback, all of it nginx and files: the models API as precomputed pages, the storage by sendfile.

The address of a file carries its MD5, which storage puts into `x-goog-hash`, so no header needs a file of its own.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .nginx import free_port, nginx, wait_for_port
from .tools import TOP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGE = 100
ORGANIZATION = "0b7d2f60-9c1e-4a3b-8f55-3f2f6b1d9e10"
_BLOCK = 1 << 20
# A limit other than that of the pages that were made is refused as the real API refuses one that is too large.
_API = """
  server {{
    listen 127.0.0.1:{api_port}; root {folder}; default_type application/json;
    location = /api/v1/developer/models/ {{
      if ($arg_limit != {page}) {{ return 422 '{{"detail": "limit must be {page}"}}'; }}
      try_files /pages/$arg_status/$arg_offset.json /empty.json =404;
    }}
    location ~ ^/api/v1/developer/models/([^/]+)$ {{ try_files /models/$1.json =404; }}
    location ~ ^/api/v1/developer/models/([^/]+)/download$ {{ try_files /addresses/$1.json =404; }}
  }}
"""
_STORAGE = """
  server {{ listen 127.0.0.1:{port}{tls}; root {folder}/storage; add_header x-goog-hash md5=$arg_md5; }}
"""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of the storage. `size` is in bytes."""

    md5: str
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed model, and its file where one will be asked for."""

    document: dict[str, Any]
    blob: Blob | None


class Upstream:
    """A folder of pages, addresses and files, and the ports that they are served on.

    Args:
        rate: bytes a second for one connection to storage; then `slow.py` is the storage.
        certificate: a PEM file with key and certificate, for storage over TLS.
    """

    def __init__(self, folder: Path, *, rate: int | None = None, certificate: Path | None = None) -> None:
        self.folder = folder
        self.storage = folder / "storage"
        self._rate, self._certificate = rate, certificate
        self._api_port, self._storage_port = free_port(), free_port()
        self.base_url = f"http://127.0.0.1:{self._api_port}"
        for each in (self.storage, folder / "pages", folder / "models", folder / "addresses"):
            each.mkdir(parents=True)
        (folder / "empty.json").write_text(json.dumps(_page([], 0, more=False)))

    @contextlib.contextmanager
    def running(self) -> Iterator[Upstream]:
        """Serves it.

        Raises:
            NotMeasuredError: nginx is not installed, or does not start.
        """
        servers = _API.format(folder=self.folder, page=PAGE, api_port=self._api_port)
        if self._rate is None:
            servers += _STORAGE.format(folder=self.folder, port=self._storage_port, tls=self._tls())
        with nginx(self.folder / "nginx", servers, self._api_port), self._slow_storage():
            yield self

    def _tls(self) -> str:
        pem = self._certificate
        return "" if pem is None else f" ssl; ssl_certificate {pem}; ssl_certificate_key {pem}"

    @contextlib.contextmanager
    def _slow_storage(self) -> Iterator[None]:
        if self._rate is None:
            yield
            return
        arguments = [str(self.storage), str(self._storage_port), str(self._rate)]
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.slow", *arguments], cwd=TOP)
        try:
            wait_for_port(process, self._storage_port)
            yield
        finally:
            process.terminate()
            process.wait()

    def url_of(self, blob: Blob) -> str:
        """The address that storage gives a file out under."""
        scheme = "http" if self._certificate is None else "https"
        md5 = base64.b64encode(bytes.fromhex(blob.md5)).decode()
        return f"{scheme}://127.0.0.1:{self._storage_port}/{blob.md5}?md5={md5}"

    def add(self, number: int, size: int) -> Blob:
        """Puts a file of `size` bytes into storage; no other number has the same."""
        grown = self.storage / f"{number}.growing"
        blob = Blob(write_bytes(grown, number, size), size)
        grown.rename(self.storage / blob.md5)
        return blob

    def list(self, count: int, entry: Callable[[int], Entry]) -> None:
        """Makes the listing anew: `entry` gives the model of each number."""
        for offset in range(0, count, PAGE):
            entries = [entry(number) for number in range(offset, min(offset + PAGE, count))]
            page = _page([each.document for each in entries], offset, more=offset + PAGE < count, total=count)
            (self.folder / "pages" / f"{offset}.json").write_text(json.dumps(page))
            for each in entries:
                if each.blob is not None:
                    self._offer(each.document, each.blob)

    def _offer(self, document: dict[str, Any], blob: Blob) -> None:
        url, name = self.url_of(blob), f"{document['id']}.json"
        (self.folder / "models" / name).write_text(json.dumps({"model": document, "data": document}))
        (self.folder / "addresses" / name).write_text(json.dumps({"download_url": url, "data": {"download_url": url}}))


def _page(rows: list[dict[str, Any]], offset: int, *, more: bool, total: int = 0) -> dict[str, Any]:
    """As the newest API sends it: one envelope."""
    pagination = {"limit": PAGE, "offset": offset, "total": total, "has_more": more}
    return {"success": True, "data": rows, "pagination": pagination}


def write_bytes(path: Path, number: int, size: int) -> str:
    """Writes bytes that no other number and no other block has; their MD5 in hex."""
    digest, block = hashlib.md5(usedforsecurity=False), os.urandom(min(_BLOCK, size))
    with path.open("wb") as stream:
        for start in range(0, size, _BLOCK):
            piece = (f"\x08\x08{number:012d}{start:016d}".encode() + block)[: min(_BLOCK, size - start)]
            digest.update(piece)
            stream.write(piece)
    return digest.hexdigest()


def document(number: int, generation: int = 0) -> dict[str, Any]:
    """A ready model such as the platform lists; `generation` changes its version and its time of change."""
    return {
        "id": model_id(number),
        "organization_id": ORGANIZATION,
        "name": model_name(number),
        "description": "What stands on the floor of the hall, by day.",
        "model_type": "object_detection",
        "architecture": "yolox-s",
        "visibility": "private",
        "status": "ready",
        "metrics": {"mAP": 0.61, "precision": 0.72, "recall": 0.58},
        "class_mapping": {"classes": ["forklift", "person", "pallet", "box"]},
        "training_config": {"image_height": 640, "image_width": 640, "model_size": "s", "epochs": 80},
        "version": f"1.{generation}.0",
        "precision": "fp32",
        "created_at": "2026-03-01T08:00:00.250000+00:00",
        "updated_at": f"2026-03-01T08:{generation // 60 % 60:02d}:{generation % 60:02d}.250000+00:00",
    }


def model_id(number: int) -> str:
    """The id of the model of that number."""
    return f"00000000-0000-4000-8000-{number:012d}"


def model_name(number: int) -> str:
    """Its name."""
    return f"model-{number:06d}"
