"""One model's weights from the source into the store. Writes no row: the caller does, after the blob."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..catalog import WeightsRecord
from ..errors import ConflictError, IntegrityError, MirrorError, StoreError
from ..model import utc_now
from ..store.sidecar import Origin
from ..transfer.declared import of_part
from ..transfer.partial_body import Beginning

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..catalog import Catalog, Known, KnownWeights
    from ..digests import Digest
    from ..sources.source import ListedModel, Source
    from ..store.blobs import Blobs, IncomingBlob
    from ..store.parts import Part
    from ..transfer.declared import Declared
    from ..transfer.download import Received
    from .reporter import Reporter


@dataclass(frozen=True, slots=True)
class Job:
    """One file to fetch: a model as it was listed, a format, and the weights that are its own so far."""

    row: ListedModel
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


class Fetcher:
    """Fetches weights from one source into one store.

    Args:
        catalog: knows which digests belong together; no row of it is written.
    """

    def __init__(self, source: Source, catalog: Catalog, blobs: Blobs, reporter: Reporter) -> None:
        self._source, self._catalog, self._blobs, self._reporter = source, catalog, blobs, reporter

    def fetch(self, job: Job, check: Callable[[], None]) -> Stored | None:
        """Fetches the weights, or recognises that they are here.

        Args:
            check: raises when the work is to end; called for every chunk.

        Returns:
            None when the model was never exported in this format (onnx excepted: every ready model has it).

        Raises:
            MirrorError: what went wrong with this model.
        """
        try:
            with self._blobs.incoming() as incoming:
                stored = self._fetched(job, incoming, check)
        except ConflictError as error:
            # Some answer 400 for a model that is not ready, which passes; 409 says that this format is not there.
            if job.format == "onnx" or error.status != 409:
                raise
            return None
        if not stored.published:
            self._blobs.touch(stored.md5, job.format)
        return stored

    def _fetched(self, job: Job, incoming: IncomingBlob, check: Callable[[], None]) -> Stored:
        progress = _Progress(job, incoming, self._reporter, check)

        def begin(declared: Declared) -> Part:
            part = incoming.begin(declared.size, _origin(job, declared))
            self._reporter.opened(job.key, part.path)
            return part

        begun = self._begun(job, incoming, progress)
        found = self._source.fetch(
            job.row, job.format, begin, lambda declared: self._held(job, declared), progress, begun
        )
        return found if isinstance(found, Stored) else self._put(job, incoming, found)

    def _begun(self, job: Job, incoming: IncomingBlob, progress: _Progress) -> Beginning[Part] | None:
        """The beginning that an earlier run left."""
        left = incoming.resume(job.key, progress)
        if left is None:
            return None
        self._reporter.opened(job.key, left.part.path)
        said = left.origin
        declared = of_part(said.size, said.md5, said.etag, said.last_modified, said.digests)
        return Beginning(left.part, left.hasher, left.head, declared)

    def _put(self, job: Job, incoming: IncomingBlob, received: Received[Part]) -> Stored:
        digest = received.digest
        try:
            self._refuse_other_content(digest)
        except MirrorError:
            received.sink.discard()
            raise
        return Stored(
            digest.md5,
            digest.sha256,
            digest.size,
            declared_md5=received.declared_md5,
            published=incoming.put(received.sink, digest, job.format),
            kept=received.kept,
        )

    def _refuse_other_content(self, digest: Digest) -> None:
        """Refuses bytes that have an MD5 on record and not its SHA-256, also where the old blob is no more."""
        recorded = self._catalog.weights.sha256_of(digest.md5)
        if recorded and digest.sha256 not in recorded:
            raise IntegrityError(
                f"two different contents have the MD5 {digest.md5}: SHA-256 {min(recorded)} is on record, "
                f"{digest.sha256} is here now",
                hint="one of them was made to deceive, or the record is damaged: find out which before you use either",
            )

    def _held(self, job: Job, declared: Declared) -> Stored | None:
        """The blob that is declared, when it is in the store; then the bytes need not come.

        Only a digest proves it. The same ETag and size do not: the model's row says that something has changed.
        """
        if declared.coding:  # the digests may be of the compressed bytes
            return None
        md5 = declared.md5 or declared.hint
        if md5 is not None:
            return self._held_by_md5(job.format, md5, declared)
        current = job.current
        if current is None or declared.others.get("sha-256") != current.sha256 or current.lost:
            return None
        if declared.size not in (None, current.size) or not self._blobs.holds(current.md5, job.format, current.size):
            return None
        return Stored(current.md5, current.sha256, current.size)

    def _held_by_md5(self, weights_format: str, md5: str, declared: Declared) -> Stored | None:
        """A blob under this MD5. It is hashed first when it has changed or the catalog does not vouch for it."""
        if not self._blobs.has_name(md5, weights_format):
            return None
        vouched = self._catalog.weights.with_md5(md5)
        if vouched is None or not self._blobs.holds(md5, weights_format, vouched[1]):
            digest = self._blobs.examine(md5, weights_format)
            if digest is None:
                return None
            self._refuse_other_content(digest)
            vouched = (digest.sha256, digest.size)
        sha256, size = vouched
        # An ETag is a hint: only together with the length is it believed. A binding MD5 may come without one.
        if declared.size != size and (declared.md5 is None or declared.size is not None):
            return None
        if declared.others.get("sha-256", sha256) != sha256:
            return None
        return Stored(md5, sha256, size, declared_md5=declared.md5 is not None)


class _Progress:
    """Tells the reporter of each beginning, and the reservation and the reporter of what came."""

    def __init__(self, job: Job, incoming: IncomingBlob, reporter: Reporter, check: Callable[[], None]) -> None:
        self._job, self._incoming, self._reporter, self._check = job, incoming, reporter, check
        self._done: int | None = None

    def __call__(self, done: int, total: int | None) -> None:
        self._check()
        if self._done is None or done < self._done:
            self._reporter.started(self._job.key, self._job.row.name, total)
        if done:
            self._incoming.came(done)
            self._reporter.advanced(self._job.key, done)
        self._done = done


def _origin(job: Job, declared: Declared) -> Origin | None:
    """The sidecar of a part; None where a later run could not rely on it."""
    if declared.size is None or not declared.lasting:
        return None
    # A date that cannot be a validator by itself still tells a changed object beside one.
    modified = declared.modified if declared.settled or declared.validator else None
    return Origin(job.key, declared.size, declared.md5, declared.validator, modified, digests=dict(declared.others))


def weights_of(job: Job, stored: Stored) -> WeightsRecord:
    """The row to record for a stored blob."""
    return WeightsRecord(
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


def is_stored(blobs: Blobs, found: WeightsRecord) -> bool:
    """Whether the blob of a row that is about to be written is in the store: a `gc` may have been faster."""
    return blobs.holds(found.md5, found.format, found.size)


def record(catalog: Catalog, blobs: Blobs, job: Job, stored: Stored) -> None:
    """Writes the row of one stored blob.

    Raises:
        StoreError: it is no longer there.
    """
    if catalog.weights.record([weights_of(job, stored)], lambda found: is_stored(blobs, found)):
        raise StoreError(
            f"the weights of model {job.row.name!r} were removed from the store at the very moment of their use",
            hint="run it again: they are fetched anew",
        )


def job_for(row: ListedModel, weights_format: str, known: Known | None) -> Job:
    """The job of one file."""
    return Job(row, weights_format, known.weights_of(weights_format) if known else None)
