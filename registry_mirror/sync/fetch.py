"""One model's weights from the upstream into the store. Writes no row: the caller does, after the blob."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..catalog import Weights
from ..errors import ConflictError
from ..model import utc_now
from ..store.incoming import Part
from ..store.layout import blob_name
from ..store.publish import examine, publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..catalog import Known, KnownWeights
    from ..upstream import Declared, Received, Row
    from .reporter import Reporter
    from .workshop import Workshop


@dataclass(frozen=True, slots=True)
class Job:
    """One file to fetch: a model as it was listed, a format, and the weights that are its own so far."""

    row: Row
    format: str
    current: KnownWeights | None

    @property
    def key(self) -> str:
        return f"{self.row.id}/{self.format}"


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob that is in the store. `published` says whether its bytes came now; else they were here already."""

    md5: str
    sha256: str
    size: int
    declared_md5: bool = False
    validator: str | None = None
    published: bool = False


def fetch(shop: Workshop, job: Job, reporter: Reporter, check: Callable[[], None]) -> Stored | None:
    """Fetches the weights, or recognises that they are here.

    Args:
        check: raises when the work is to end; called for every chunk.

    Returns:
        None when the model was never exported in this format (onnx excepted: every ready model has it).

    Raises:
        MirrorError: what went wrong with this model.
    """
    api, name = shop.client.models.api, job.row.name

    def progress(done: int, total: int | None) -> None:
        check()
        if done:
            reporter.advanced(job.key, done)
        else:
            reporter.started(job.key, name, total)

    def part(_declared: Declared) -> Part:
        made = Part(shop.layout.incoming, shop.modes)
        reporter.opened(job.key, made.path)
        return made

    try:
        found = shop.client.storage.fetch(
            f"model {name!r}",
            address=lambda: api.download_url(job.row.id, job.format),
            sink=part,
            held=lambda declared: _held(shop, job, declared),
            progress=progress,
        )
    except ConflictError as error:
        # 400 is how some answer for a model that is not ready, which passes; 409 says that this format is not there.
        if job.format == "onnx" or error.status != 409:
            raise
        return None
    return found if isinstance(found, Stored) else _publish(shop, job, found)


def _publish(shop: Workshop, job: Job, received: Received[Part]) -> Stored:
    digest = received.digest
    published = publish(shop.layout, received.sink, digest, job.format)
    validator = received.declared.validator
    return Stored(
        digest.md5,
        digest.sha256,
        digest.size,
        declared_md5=received.declared_md5,
        validator=validator,
        published=published,
    )


def _held(shop: Workshop, job: Job, declared: Declared) -> Stored | None:
    """The blob that the storage's headers speak of, when it is in the store; then the body need not come."""
    md5 = declared.md5 or declared.hint
    if md5 is not None:
        stored = _held_by_md5(shop, job.format, md5, declared)
        if stored is not None or declared.md5 is not None:
            return stored
    current = job.current
    if current is None or current.validator is None or declared.validator != current.validator:
        return None
    if declared.size != current.size or not _is_whole(shop, current.md5, job.format, current.size):
        return None
    return Stored(current.md5, current.sha256, current.size, validator=current.validator)


def _held_by_md5(shop: Workshop, weights_format: str, md5: str, declared: Declared) -> Stored | None:
    """A blob under this MD5. One that the catalog does not vouch for, or that changed, is hashed before it counts."""
    blob = shop.layout.blob(md5, weights_format)
    if not blob.exists():
        return None
    vouched = shop.catalog.weights_with(md5)
    if vouched is None or not _is_whole(shop, md5, weights_format, vouched[1]):
        digest = examine(shop.layout, md5, weights_format)
        if digest is None:
            return None
        vouched = (digest.sha256, digest.size)
    sha256, size = vouched
    # An ETag is a hint: only together with the length is it believed. A binding MD5 may come without one.
    if declared.size != size and (declared.md5 is None or declared.size is not None):
        return None
    return Stored(md5, sha256, size, declared_md5=declared.md5 is not None, validator=declared.validator)


def _is_whole(shop: Workshop, md5: str, weights_format: str, size: int) -> bool:
    with contextlib.suppress(OSError):
        return (shop.layout.blobs / blob_name(md5, weights_format)).stat().st_size == size
    return False


def weights_of(job: Job, stored: Stored) -> Weights:
    """The row to record for a stored blob."""
    return Weights(
        model_id=job.row.id,
        format=job.format,
        version=job.row.version,
        md5=stored.md5,
        sha256=stored.sha256,
        size=stored.size,
        stamp=job.row.stamp,
        declared_md5=stored.declared_md5,
        validator=stored.validator,
        fetched_at=utc_now(),
    )


def job_for(row: Row, weights_format: str, known: Known | None) -> Job:
    """The job of one file."""
    return Job(row, weights_format, known.weights_of(weights_format) if known else None)
