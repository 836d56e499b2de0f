"""One model's weights from the upstream into the store. Writes no row: the caller does, after the blob."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..catalog import Weights
from ..errors import ConflictError, IntegrityError, MirrorError, StoreError
from ..files import regular_status
from ..model import utc_now
from ..store.adopt import adopt
from ..store.incoming import Part
from ..store.layout import blob_name
from ..store.origin import Origin
from ..store.publish import examine, publish, settle, touch
from ..upstream import Begun, of_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..catalog import Known, KnownWeights
    from ..digests import Digest
    from ..store.room import Guest
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
    """A blob that is in the store.

    `published` says whether its bytes came now; else they were here already. `kept` counts those that came in an
    earlier run, which did not get to the end of them.
    """

    md5: str
    sha256: str
    size: int
    declared_md5: bool = False
    published: bool = False
    kept: int = 0


def fetch(shop: Workshop, job: Job, reporter: Reporter, check: Callable[[], None]) -> Stored | None:
    """Fetches the weights, or recognises that they are here.

    Args:
        check: raises when the work is to end; called for every chunk.

    Returns:
        None when the model was never exported in this format (onnx excepted: every ready model has it).

    Raises:
        MirrorError: what went wrong with this model.
    """
    try:
        with shop.room.guest() as guest:
            found = _transferred(shop, job, reporter, _Progress(job, reporter, check, guest))
            stored = found if isinstance(found, Stored) else _publish(shop, job, found, guest)
            if stored.published:
                guest.stored(stored.size)
    except ConflictError as error:
        # 400 is how some answer for a model that is not ready, which passes; 409 says that this format is not there.
        if job.format == "onnx" or error.status != 409:
            raise
        return None
    if not stored.published:
        touch(shop.layout, stored.md5, job.format)
    return stored


def _transferred(shop: Workshop, job: Job, reporter: Reporter, progress: _Progress) -> Stored | Received[Part]:
    api = shop.client.models.api

    def part(declared: Declared) -> Part:
        progress.guest.admit(declared.size)
        made = Part(shop.layout.incoming, shop.modes, origin=_origin(job, declared))
        try:
            # Once more: of two processes that ask at the same time, the later one sees the other's part now.
            progress.guest.admit(declared.size)
        except MirrorError:
            made.discard()
            raise
        reporter.opened(job.key, made.path)
        return made

    return shop.client.storage.fetch(
        f"model {job.row.name!r}",
        address=lambda: api.download_url(job.row.id, job.format),
        sink=part,
        held=lambda declared: _held(shop, job, declared),
        progress=progress,
        begun=_begun(shop, job, reporter, progress),
    )


class _Progress:
    """Tells the reporter of each beginning, and the room and the reporter of what came."""

    def __init__(self, job: Job, reporter: Reporter, check: Callable[[], None], guest: Guest) -> None:
        self._job, self._reporter, self._check = job, reporter, check
        self.guest = guest
        self._done: int | None = None

    def __call__(self, done: int, total: int | None) -> None:
        self._check()
        if self._done is None or done < self._done:
            self._reporter.started(self._job.key, self._job.row.name, total)
        if done:
            self.guest.came(done)
            self._reporter.advanced(self._job.key, done)
        self._done = done


def _begun(shop: Workshop, job: Job, reporter: Reporter, progress: _Progress) -> Begun[Part] | None:
    """The beginning that an earlier run left, copied and hashed."""
    kept = adopt(shop.layout.incoming, shop.modes, job.key, progress)
    if kept is None:
        return None
    reporter.opened(job.key, kept.part.path)
    said = kept.origin
    try:
        progress.guest.admit(said.size, kept.hasher.size)
    except MirrorError:
        kept.part.keep()
        raise
    declared = of_part(said.size, said.md5, said.etag, said.last_modified, said.digests)
    return Begun(kept.part, kept.hasher, kept.head, declared)


def _origin(job: Job, declared: Declared) -> Origin | None:
    """The sidecar of a part; None where a later run could not rely on it."""
    if declared.size is None or not declared.lasting:
        return None
    # A date that cannot be a validator by itself still tells a changed object beside one.
    modified = declared.modified if declared.settled or declared.validator else None
    return Origin(job.key, declared.size, declared.md5, declared.validator, modified, digests=dict(declared.others))


def _publish(shop: Workshop, job: Job, received: Received[Part], guest: Guest) -> Stored:
    digest = received.digest
    try:
        if digest.size > guest.size:  # its length was not known, or not all of it was told
            guest.admit(digest.size, digest.size)
        _refuse_other_content(shop, digest)
    except MirrorError:
        received.sink.discard()
        raise
    published = publish(shop.layout, received.sink, digest, job.format)
    return Stored(
        digest.md5,
        digest.sha256,
        digest.size,
        declared_md5=received.declared_md5,
        published=published,
        kept=received.kept,
    )


def _refuse_other_content(shop: Workshop, digest: Digest) -> None:
    """Refuses bytes that have an MD5 on record and not its SHA-256, also where the old blob is no more."""
    recorded = shop.catalog.weights.sha256_of(digest.md5)
    if recorded and digest.sha256 not in recorded:
        raise IntegrityError(
            f"two different contents have the MD5 {digest.md5}: SHA-256 {min(recorded)} is on record, "
            f"{digest.sha256} is here now",
            hint="one of them was made to deceive, or the record is damaged: find out which before you use either",
        )


def _held(shop: Workshop, job: Job, declared: Declared) -> Stored | None:
    """The blob that the storage's headers speak of, when it is in the store; then the body need not come.

    Only a digest proves it. The same ETag and size do not: the model's row says that something has changed.
    """
    if declared.coding:  # the digests may be of the compressed bytes
        return None
    md5 = declared.md5 or declared.hint
    if md5 is not None:
        return _held_by_md5(shop, job.format, md5, declared)
    current = job.current
    if current is None or declared.others.get("sha-256") != current.sha256 or current.lost:
        return None
    if declared.size not in (None, current.size) or not _is_whole(shop, current.md5, job.format, current.size):
        return None
    return Stored(current.md5, current.sha256, current.size)


def _held_by_md5(shop: Workshop, weights_format: str, md5: str, declared: Declared) -> Stored | None:
    """A blob under this MD5. One that the catalog does not vouch for, or that changed, is hashed before it counts."""
    blob = shop.layout.blob(md5, weights_format)
    if not os.path.lexists(blob):
        return None
    vouched = shop.catalog.weights.with_md5(md5)
    if vouched is None or not _is_whole(shop, md5, weights_format, vouched[1]):
        digest = examine(shop.layout, md5, weights_format)
        if digest is None:
            return None
        _refuse_other_content(shop, digest)
        settle(blob)
        vouched = (digest.sha256, digest.size)
    sha256, size = vouched
    # An ETag is a hint: only together with the length is it believed. A binding MD5 may come without one.
    if declared.size != size and (declared.md5 is None or declared.size is not None):
        return None
    if declared.others.get("sha-256", sha256) != sha256:
        return None
    return Stored(md5, sha256, size, declared_md5=declared.md5 is not None)


def _is_whole(shop: Workshop, md5: str, weights_format: str, size: int) -> bool:
    with contextlib.suppress(OSError):
        return regular_status(shop.layout.blobs / blob_name(md5, weights_format)).st_size == size
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
        fetched_at=utc_now(),
    )


def still_there(shop: Workshop, found: Weights) -> bool:
    """Whether the blob of a row that is about to be written is in the store: a `gc` may have been faster."""
    return _is_whole(shop, found.md5, found.format, found.size)


def record(shop: Workshop, job: Job, stored: Stored) -> None:
    """Writes the row of one stored blob.

    Raises:
        StoreError: it is no longer there.
    """
    if shop.catalog.weights.record([weights_of(job, stored)], partial(still_there, shop)):
        raise StoreError(
            f"the weights of model {job.row.name!r} were removed from the store at the very moment of their use",
            hint="run it again: they are fetched anew",
        )


def job_for(row: Row, weights_format: str, known: Known | None) -> Job:
    """The job of one file."""
    return Job(row, weights_format, known.weights_of(weights_format) if known else None)
