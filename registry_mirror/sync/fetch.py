"""Fetches one model's weights from the source into the store. The caller writes the row after the blob is stored."""

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
    """One file to fetch: a model as listed, a format, and the weights that the catalog has for them so far."""

    row: ListedModel
    format: str
    current: KnownWeights | None

    @property
    def key(self) -> str:
        return f"{self.row.id}/{self.format}"


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob that is in the store.

    `published` says whether this fetch stored the blob; otherwise the store held it already. `kept` is the number of
    its bytes that an earlier, unfinished run had fetched.
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
        catalog: is only read, to tell which digests belong together.
    """

    def __init__(self, source: Source, catalog: Catalog, blobs: Blobs, reporter: Reporter) -> None:
        self._source, self._catalog, self._blobs, self._reporter = source, catalog, blobs, reporter

    def fetch(self, job: Job, check: Callable[[], None]) -> Stored | None:
        """Fetches the weights, or recognises that the store holds them already.

        Args:
            check: is called for every chunk and raises when the fetch must end.

        Returns:
            None when the model was never exported in this format. This never happens for onnx, which every ready
            model has.

        Raises:
            MirrorError: the model's weights could not be fetched.
        """
        try:
            with self._blobs.incoming() as incoming:
                stored = self._fetched(job, incoming, check)
        except ConflictError as error:
            # A 400 says that the model is not ready, which is temporary. A 409 says that the format does not exist.
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
        """Opens the part file that an earlier run left for this job. Returns None when there is none."""
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
        """Refuses bytes whose MD5 is recorded with another SHA-256, even when the old blob is gone.

        Raises IntegrityError when the two differ.
        """
        recorded = self._catalog.weights.sha256_of(digest.md5)
        if recorded and digest.sha256 not in recorded:
            raise IntegrityError(
                f"two different contents have the MD5 {digest.md5}: SHA-256 {min(recorded)} is on record, "
                f"{digest.sha256} is here now",
                hint="one of them was made to deceive, or the record is damaged: find out which before you use either",
            )

    def _held(self, job: Job, declared: Declared) -> Stored | None:
        """Returns the declared blob when the store holds it, so that its bytes need not be fetched; None otherwise.

        Only a digest proves that the blob is the same. An equal ETag and size do not, because the model's row changed.
        """
        if declared.coding:  # the digests may describe the compressed bytes
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
        """Returns the stored blob with this MD5 when it matches what is declared; None otherwise.

        Hashes the blob first when its file has changed or when the catalog has no record of it.
        """
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
        # An MD5 from an ETag is only a hint, so the length must match too. A declared MD5 suffices without a length.
        if declared.size != size and (declared.md5 is None or declared.size is not None):
            return None
        if declared.others.get("sha-256", sha256) != sha256:
            return None
        return Stored(md5, sha256, size, declared_md5=declared.md5 is not None)


class _Progress:
    """Passes the progress of a transfer to the reporter and to the reservation.

    When the number of bytes done falls, the transfer has begun anew, and the reporter is told of a new start.
    """

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
    """Returns the sidecar of a part file, or None when a later run could not rely on the part file."""
    if declared.size is None or not declared.lasting:
        return None
    # A date that is too weak to be a validator by itself still reveals a changed object when a validator stands by it.
    modified = declared.modified if declared.settled or declared.validator else None
    return Origin(job.key, declared.size, declared.md5, declared.validator, modified, digests=dict(declared.others))


def weights_of(job: Job, stored: Stored) -> WeightsRecord:
    """Returns the row to record for a stored blob."""
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
    """Returns whether the store still holds the blob of a row to be written. A `gc` may have removed it meanwhile."""
    return blobs.holds(found.md5, found.format, found.size)


def record(catalog: Catalog, blobs: Blobs, job: Job, stored: Stored) -> None:
    """Writes the row of one stored blob.

    Raises:
        StoreError: the blob is no longer in the store.
    """
    if catalog.weights.record([weights_of(job, stored)], lambda found: is_stored(blobs, found)):
        raise StoreError(
            f"the weights of model {job.row.name!r} were removed from the store at the very moment of their use",
            hint="run it again: they are fetched anew",
        )


def job_for(row: ListedModel, weights_format: str, known: Known | None) -> Job:
    """Returns the job that fetches one file."""
    return Job(row, weights_format, known.weights_of(weights_format) if known else None)
