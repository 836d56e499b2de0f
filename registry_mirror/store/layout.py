"""The paths of files and folders in a root. Standard library only.

The layout is a contract with operators and with other tools. docs/root.md describes it, and `FORMAT` holds its number.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

FORMAT_VERSION = 1

SUFFIXES = {
    "onnx": ".onnx",
    "pytorch": ".pth",
    "safetensors": ".safetensors",
    "pte": ".pte",
    "engine": ".engine",
    "json": ".json",
}

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths inside a root."""

    root: Path

    @property
    def format_file(self) -> Path:
        return self.root / "FORMAT"

    @property
    def cachedir_tag(self) -> Path:
        return self.root / "CACHEDIR.TAG"

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def catalog(self) -> Path:
        return self.root / "catalog.sqlite"

    @property
    def index(self) -> Path:
        return self.root / "index.sqlite"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def incoming(self) -> Path:
        return self.root / "incoming"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def run_record(self) -> Path:
        return self.root / "run.json"

    @property
    def run_lock(self) -> Path:
        return self.root / "run.lock"

    @property
    def run_holder(self) -> Path:
        return self.root / "run.holder.json"

    @property
    def publish_lock(self) -> Path:
        return self.root / "publish.lock"

    @property
    def keys(self) -> Path:
        return self.root / "keys.toml"

    def blob(self, md5: str, weights_format: str) -> Path:
        """Returns the path of one blob.

        Raises:
            ValueError: `md5` is not 32 lower-case hex digits, so it must not become part of a path.
        """
        return self.blobs / blob_name(md5, weights_format)


def refuse_file(root: Path) -> None:
    """Refuses a root that is a file. A root that does not exist passes, since it may be created or mounted later.

    Raises:
        ConfigurationError: the root exists and is not a folder.
    """
    if os.path.exists(root) and not os.path.isdir(root):  # both are False for a path that we may not look at
        raise ConfigurationError(f"the root {root} is not a folder", hint="name a folder with --root or MIRROR_ROOT")


def blob_name(md5: str, weights_format: str) -> str:
    """Returns a blob's path relative to `blobs/`, as `ab/abcdef….onnx`, with `/` on every system.

    Raises ValueError when `md5` is not 32 lower-case hex digits.
    """
    if not _MD5.fullmatch(md5):
        raise ValueError(f"not an MD5 in lower-case hex: {md5!r}")
    return f"{md5[:2]}/{md5}{suffix(weights_format)}"


def suffix(weights_format: str) -> str:
    """Returns the file name ending that inference tools expect for a format; `.bin` for an unknown format."""
    return SUFFIXES.get(weights_format, ".bin")
