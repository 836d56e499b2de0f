"""`Mirror`: the registry's reading verbs, answered from a root on disk. Standard library only.

It only reads the index and the blobs: it uses no network, takes no lock, migrates nothing and works on a read-only
mount. Only `download` writes, to the caller's own file.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from .errors import IntegrityError, MirrorError, ValidationError
from .explain import Wish, quoted
from .index.reader import IndexReader
from .index.values import ModelRow, Selection
from .lookup import Weights, check_file, choose, resolve
from .model import MirrorInfo, Model, utc_now
from .store.layout import Layout, blob_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .index.queries import Snapshot
    from .index.values import WeightsEntry
    from .status import MirrorStatus, Upkeep

    _Page = list[Model]  # inside `Models`, `list` is its method

DEFAULT_FORMAT = "onnx"
LARGEST_LIMIT = 500


class Mirror:
    """A root, read offline. Threads may share it. It sees each index that a sync publishes while it is open.

    Args:
        root: the folder; None means `MIRROR_ROOT`, or the user's data folder.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(os.path.abspath(_default_root() if root is None else Path(root).expanduser()))
        self._layout = Layout(self.root)
        self._reader = IndexReader(self._layout.index)
        self.models = MirrorModels(self._layout, self._reader)

    def status(self) -> MirrorStatus:
        """Returns counts, bytes, ages, open failures, the last run, and the state of the checks of stored bytes.

        Raises:
            NoIndexError: the root has no index, or none that this version can read.
        """
        from .status import MirrorStatus, read_last_run

        totals, failures, upkeep = self._reader.read(
            lambda snapshot: (snapshot.totals(), snapshot.open_failures(), self._upkeep(snapshot))
        )
        last_run = read_last_run(self._layout.run_record)
        return MirrorStatus(self.root, utc_now(), totals, tuple(failures), last_run, upkeep)

    def _upkeep(self, snapshot: Snapshot) -> Upkeep:
        from .status import Upkeep, folder_size, last_verify, look_at_files

        files = look_at_files(self._layout, snapshot.blobs())
        kept = folder_size(self._layout.quarantine)
        return Upkeep(snapshot.check_totals(), last_verify(snapshot.meta()), files, *kept)

    def close(self) -> None:
        """Closes the index."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Mirror({str(self.root)!r})"


class MirrorModels:
    """The models of a root. MODEL is an id or a name; `index/schema.py` says which model a name means."""

    def __init__(self, layout: Layout, reader: IndexReader) -> None:
        self._layout = layout
        self._reader = reader
        self._blobs = f"{layout.blobs}{os.sep}"

    def list(
        self,
        limit: int = 50,
        status: str | None = None,
        model_type: str | None = None,
        *,
        include_archived: bool = False,
        include_gone: bool = False,
    ) -> _Page:
        """Returns the newest models, newest first.

        Args:
            limit: the largest number of models, 1 to 500.
            status: only models of this status; "archived" shows archived ones.
            model_type: only models of this type.
            include_archived: whether to include archived models.
            include_gone: whether to include models that the upstream no longer has.

        Returns:
            The models. The attribute `mirror` of each holds what the mirror knows about it.

        Raises:
            ValidationError: `limit` is out of range.
            NoIndexError: the root has no index, or none that this version can read.
            MirrorError: the document of a model cannot be read.
        """
        _check_count("limit", limit)
        selection = Selection(status, model_type, include_archived, include_gone)
        rows = self._reader.read(lambda snapshot: [*snapshot.models(selection, DEFAULT_FORMAT, limit)])
        return [self._model(row) for row in rows]

    def iter(
        self,
        page_size: int = 50,
        status: str | None = None,
        model_type: str | None = None,
        *,
        include_archived: bool = False,
        include_gone: bool = False,
    ) -> Iterator[Model]:
        """Iterates over all models, newest first, from one snapshot of the index and in constant memory.

        Args:
            page_size: 1 to 500. It has no effect here, and is accepted for code that also runs against `Client`.
            status, model_type, include_archived, include_gone: as in `list`.

        Returns:
            An iterator over the models. It raises NoIndexError and MirrorError as `list` does.

        Raises:
            ValidationError: `page_size` is not 1 to 500.
        """
        _check_count("page_size", page_size)
        selection = Selection(status, model_type, include_archived, include_gone)
        return self._stream(selection)

    def get(self, model: str) -> Model:
        """Returns one model. Its attribute `mirror` holds what the mirror knows about it.

        Args:
            model: an id or a name. An id wins; a name means the newest live and ready model of that name, if any.

        Raises:
            NotFoundError: no model here has this id or name.
            NoIndexError: the root has no index, or none that this version can read.
            MirrorError: the document of the model cannot be read.
        """
        return self._model(self._reader.read(lambda snapshot: resolve(snapshot, model, DEFAULT_FORMAT)[0]))

    def path(
        self,
        model: str,
        *,
        format: str = DEFAULT_FORMAT,  # noqa: A002 - the platform's API uses this name
        version: str | None = None,
        md5: str | None = None,
        verify: bool = False,
    ) -> Path:
        """Returns the absolute path of a model's weights, without copying them.

        Args:
            model, format, version, md5, verify: as in `weights`.

        Returns:
            The path of the blob. The blob is read-only and must not be changed.

        Raises:
            NotFoundError, ConflictError, IntegrityError, NoIndexError: as `weights` does.
        """
        if version is None and md5 is None and not verify and (found := self._current(model, format)) is not None:
            return found
        return self.weights(model, format=format, version=version, md5=md5, verify=verify).path

    def weights(
        self,
        model: str,
        *,
        format: str = DEFAULT_FORMAT,  # noqa: A002
        version: str | None = None,
        md5: str | None = None,
        verify: bool = False,
    ) -> Weights:
        """Returns a model's cached weights, whatever the model's status is now.

        Args:
            model: an id or a name.
            format: `onnx`, `pytorch`, ...
            version, md5: select a file by either, also a superseded one; without them, the current file is meant.
            verify: whether to hash the file first. If not, only its size is checked.

        Returns:
            The file's path, its digests, its size in bytes and its model.

        Raises:
            NotFoundError: no model here has this id or name.
            ConflictError: the model has no such weights here.
            IntegrityError: the file is missing, or does not match its record.
            NoIndexError: the root has no index, or none that this version can read.
        """
        wish = Wish(format, version, None if md5 is None else md5.strip().lower())
        row, entry = self._reader.read(lambda snapshot: choose(snapshot, model, wish))
        found = Weights(self._model(row, entry), entry, self._blob(entry))
        check_file(found, verify=verify)
        return found

    def download(
        self,
        model: str,
        output_path: str | Path,
        *,
        format: str = DEFAULT_FORMAT,  # noqa: A002
        version: str | None = None,
        md5: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        link: Literal["hard", "symbolic"] | None = None,
        verify: bool = False,
    ) -> Path:
        """Copies a model's weights to a file of your own, or links it to the blob.

        Args:
            model, format, version, md5, verify: as in `weights`.
            output_path: the file to write. An existing file is replaced once the new one is whole.
            progress: called with the bytes done and the bytes in all.
            link: "hard" or "symbolic" for a link to the blob instead of a copy. The blob is read-only and must not be
                changed.

        Returns:
            `output_path`.

        Raises:
            ConfigurationError: `output_path` cannot be written.
            NoSpaceError: the disk is full.
            ValidationError: `link` is not one of the listed values.
            NotFoundError, ConflictError, IntegrityError, NoIndexError: as `weights` does.
        """
        from .store.deliver import deliver, output_file

        found = self.weights(model, format=format, version=version, md5=md5, verify=verify)
        output = output_file(output_path)
        deliver(found.path, output, link=link, progress=progress)
        return output

    def _current(self, model: str, weights_format: str) -> Path | None:
        """Returns the file of a model's current weights; None in any unusual case, which `weights` then explains.

        This takes a third of the time of `weights`: it makes one query and one stat, and reads no document.
        """
        found = self._reader.read(lambda snapshot: snapshot.current(model, weights_format))
        if found is None:
            return None
        md5, size = found
        try:
            file = self._blobs + blob_name(md5, weights_format)
            there = os.lstat(file)
            return Path(file) if stat.S_ISREG(there.st_mode) and there.st_size == size else None
        except (OSError, ValueError):
            return None

    def _stream(self, selection: Selection) -> Iterator[Model]:
        for row in self._reader.stream(selection, DEFAULT_FORMAT):
            yield self._model(row)

    def _model(self, row: ModelRow, weights: WeightsEntry | None = None) -> Model:
        shown = weights or row.weights
        info = MirrorInfo(
            cached=row.weights is not None,
            path=None if shown is None else self._blob(shown),
            md5=None if shown is None else shown.md5,
            sha256=None if shown is None else shown.sha256,
            size=None if shown is None else shown.size,
            first_seen=row.first_seen,
            fetched_at=None if shown is None else shown.fetched_at,
            gone_at=row.gone_at,
            shadows=row.shadows,
            pinned=row.pinned,
        )
        try:
            return Model.from_document(json.loads(row.document), info)
        except (ValueError, RecursionError, AttributeError) as error:
            raise MirrorError(f"the document of model {quoted(row.id)} cannot be read: {error}") from error

    def _blob(self, weights: WeightsEntry) -> Path:
        try:
            return self._layout.blob(weights.md5, weights.format)
        except ValueError as error:
            raise IntegrityError(f"the index names impossible weights: {error}") from error


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_LIMIT:
        raise ValidationError(f"{name} must be 1 to {LARGEST_LIMIT}, not {value!r}")


def _default_root() -> Path:
    from .config.root import resolve_root

    return Path(resolve_root(None, None, os.environ))
