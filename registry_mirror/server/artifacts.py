"""Versions and files of a model, as SDKs from 1.67.7 ask for them. Pure.

A mirror holds one version of a model at a time. It shows the same synthetic version that the upstream shows for a model
without versions: the model's id is its id, and it is both the latest and the current version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..errors import ConflictError, NotFoundError
from ..explain import quoted
from ..store.layout import SUFFIXES, suffix
from .dialects import is_time
from .requests import usual_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..index.values import WeightsEntry
    from .lookups import FoundModel

# SDKs 1.68.0 to 1.69.18 ask for this literal name, whatever the file is called.
SAFETENSORS_ALIAS = "model.safetensors"
_RUNTIMES = {
    "onnx": "onnxruntime",
    "pytorch": "torch",
    "safetensors": "torch",
    "pte": "executorch",
    "engine": "tensorrt",
}
# The targets that mean the only build. An engine is built for one GPU, so it has no such target.
_TARGETS = {"onnx": ("portable",), "pte": ("xnnpack",)}


@dataclass(frozen=True, slots=True)
class WantedArtifact:
    """The weights that a client asks for. SDK 1.0.x names no format and means onnx."""

    format: str = "onnx"
    precision: str | None = None
    target: str | None = None

    @classmethod
    def of(cls, given: Mapping[str, str]) -> WantedArtifact:
        """Reads the query parameters of a download."""
        return cls(given.get("format") or "onnx", given.get("precision"), given.get("target"))


def check_variant(found: FoundModel, wanted: WantedArtifact) -> None:
    """Checks that the mirror can have what a client asks for. It holds one build of each format.

    Raises:
        ConflictError: the client asks for an unknown format, or for another precision or target.
    """
    name = quoted(found.name)
    if wanted.format not in SUFFIXES:
        raise ConflictError(
            f"model {name} has no {quoted(wanted.format)} weights: nobody knows that format", status=409
        )
    if wanted.precision is not None and wanted.precision != _precision(found):
        raise ConflictError(
            f"this mirror has the {wanted.format} weights of model {name} in {_precision(found)} only", status=409
        )
    if wanted.target is not None and wanted.target not in _TARGETS.get(wanted.format, ()):
        raise ConflictError(
            f"this mirror cannot tell whether the {wanted.format} weights of model {name} fit {quoted(wanted.target)}",
            hint="ask without a target for the ones that it has",
            status=409,
        )


def versions(found: FoundModel) -> dict[str, Any]:
    """Returns the answer to `/versions`."""
    pins = {"current_version_id": found.id, "pinned_version_id": None, "latest_version_id": found.id}
    return {"versions": [_version(found)], **pins}


def files(found: FoundModel) -> dict[str, Any]:
    """Returns the answer to `/files`. It lists cached files only."""
    listed = [_file(found, each) for each in found.weights if each.current]
    return {"versions": [_version(found)], "files": listed, "pinned_version_id": None}


def named_file(found: FoundModel, version_id: str, name: str) -> WantedArtifact:
    """Finds the file that a client names.

    Raises:
        NotFoundError: this mirror has no such version or file.
    """
    if usual_id(version_id) != usual_id(found.id):
        raise NotFoundError(
            f"model {quoted(found.name)} has no version {quoted(version_id)} in this mirror", status=404
        )
    for each in found.weights:
        alias = name == SAFETENSORS_ALIAS and each.format == "safetensors"
        if each.current and (alias or name == filename(found.name, each.format)):
            return WantedArtifact(each.format)
    raise NotFoundError(f"model {quoted(found.name)} has no file {quoted(name)} in this mirror", status=404)


def filename(name: str, weights_format: str) -> str:
    """Returns the file name that the platform would use: the model's name in plain letters, and the format's suffix."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:100].strip("-") or "model"
    return plain + suffix(weights_format)


def blob_file(entry: WeightsEntry) -> str:
    """Returns a blob's file name in its address: `abcdef….onnx`."""
    return entry.md5 + suffix(entry.format)


def fetch_name(found: FoundModel, weights_format: str) -> str:
    """Returns the part of an address that names weights whose digest is not known yet."""
    return f"{quote(found.id, safe='')}/{weights_format}"


def _precision(found: FoundModel) -> str:
    said = found.fields.get("precision")
    return said if said in ("fp32", "fp16") else "fp32"


def _version(found: FoundModel) -> dict[str, Any]:
    fields = found.fields
    label, metrics = fields.get("version"), fields.get("metrics")
    entry = {
        "id": found.id,
        "version_id": found.id,
        "version_number": 1,
        "version_label": label if isinstance(label, str) else "1.0.0",
        "status": found.status,
        "is_latest": True,
        "is_current": True,
        "precision": _precision(found),
        "metrics": metrics if isinstance(metrics, dict) else {},
    }
    architecture, created = fields.get("architecture"), fields.get("created_at")
    entry |= {"architecture": architecture} if isinstance(architecture, str) else {}
    return entry | ({"created_at": created} if is_time(created) else {})


def _file(found: FoundModel, entry: WeightsEntry) -> dict[str, Any]:
    row = {
        "version_id": found.id,
        "name": filename(found.name, entry.format),
        "kind": "config" if entry.format == "json" else "weights",
        "format": entry.format,
        "size_bytes": entry.size,
        "content_type": "application/octet-stream",
        "precision": _precision(found),
        "stale": False,
        "md5": entry.md5,
        "sha256": entry.sha256,
    }
    row |= {"runtime": _RUNTIMES[entry.format]} if entry.format in _RUNTIMES else {}
    updated = found.fields.get("updated_at")
    return row | ({"updated_at": updated} if is_time(updated) else {})
