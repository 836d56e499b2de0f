"""`Client`: lists, iterates, gets, downloads and deletes models of the remote registry."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ...errors import ConfigurationError, ConflictError, ValidationError
from ...files import create_exclusive, fsync_directory, no_space_named, sibling, unnamed, write_all
from ...model import Model, ModelStatus
from ...secret import Secret
from ...transfer.download import Storage
from ...transfer.http import Connections
from ...transfer.retry import RetryPolicy
from ..source import ListedModel
from .decode import load_object
from .models_api import ModelsApi
from .session import ApiSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

DEFAULT_BASE_URL = "https://api.pictograph.io"
LARGEST_LIMIT = 500
PAGE_SIZE = 100


class Client:
    """The remote registry of one organisation.

    Args:
        api_key: by default the environment's `PICTOGRAPH_API_KEY`.
        base_url: by default the environment's `PICTOGRAPH_BASE_URL`, else the platform's own address. It must be https,
            unless the host is loopback or `allow_http` is set.
        timeout: seconds to wait for a connection and for the next bytes.
        allow_http: whether the API key may be sent over plain http.
        proxy, ca_file: by default the usual environment variables (`HTTPS_PROXY`, `SSL_CERT_FILE`).
        retry: how often a failed call is tried; by default four times within about 20 seconds.
        workers: simultaneous downloads, for a program that uses threads.
        max_rate: bytes a second for all downloads together; None for no limit.
        connections: connections to storage at once. A large download uses those that are free, if they make it faster.

    Raises:
        ConfigurationError: there is no API key, or the base URL is not safe to send one to.
    """

    def __init__(
        self,
        api_key: str | Secret | None = None,
        base_url: str | None = None,
        *,
        timeout: float = 30.0,
        allow_http: bool = False,
        proxy: str | None = None,
        ca_file: str | Path | None = None,
        retry: RetryPolicy | None = None,
        workers: int = 4,
        max_rate: int | None = None,
        connections: int = 8,
    ) -> None:
        key = _key(api_key)
        retry = retry or RetryPolicy()
        reach = Connections(
            proxy=proxy,
            ca_file=None if ca_file is None else Path(ca_file),
            timeout=timeout,
            workers=workers + connections,
        )
        url = base_url or os.environ.get("PICTOGRAPH_BASE_URL") or DEFAULT_BASE_URL
        self.session = ApiSession(url, key, reach, retry=retry, allow_http=allow_http)
        self.storage = Storage(reach, self.session.base_url, retry=retry, max_rate=max_rate, lines=connections)
        self.models = ClientModels(ModelsApi(self.session), self.storage)

    def __repr__(self) -> str:
        return f"Client({self.session.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes every connection."""
        self.session.close()
        self.storage.close()


def _key(given: str | Secret | None) -> Secret:
    if isinstance(given, Secret):
        return given
    text = given if given is not None else os.environ.get("PICTOGRAPH_API_KEY", "")
    if not text.strip():
        raise ConfigurationError(
            "there is no API key", hint="set PICTOGRAPH_API_KEY to the key of your organisation, or pass api_key="
        )
    return Secret(text)


class ClientModels:
    """The `models` resource. Methods that take a model take its id or its name."""

    def __init__(self, api: ModelsApi, storage: Storage) -> None:
        self.api = api
        self._storage = storage

    def list(self, limit: int = 50, status: str | None = None, model_type: str | None = None) -> list[Model]:
        """Returns the first models in the upstream's order, from as many pages as that takes.

        Args:
            limit: the most models to return, 1 to 500.
            status: only models of this status; archived models are hidden unless it is "archived".
            model_type: only models of this type.

        Returns:
            The models. Rows that are not valid models are left out.

        Raises:
            ValidationError: `limit` is outside 1 to 500 (no request is sent), or the upstream refuses the filter.
            AuthError: the upstream refuses the API key.
            RateLimitError, ServerError: the upstream refused the call or failed, and so did the retries.
            NetworkError: the upstream cannot be reached, or does not answer in time.
            ProtocolError: the upstream's answer is not what the API promises.
        """
        _check_between("limit", limit)
        found: list[Model] = []
        for model in self._walk(min(limit, PAGE_SIZE), status, model_type):
            found.append(model)
            if len(found) == limit:
                break
        return found

    def iter(self, page_size: int = 50, status: str | None = None, model_type: str | None = None) -> Iterator[Model]:
        """Iterates over every model, and reads the pages as the iteration goes on.

        Args:
            page_size: models per request, 1 to 500.
            status, model_type: as for `list`.

        Returns:
            An iterator over the models. Its steps raise the errors of `list`, and ListingError if the listing never
            ends.

        Raises:
            ValidationError: `page_size` is outside 1 to 500; no request is sent.
        """
        _check_between("page_size", page_size)
        return self._walk(page_size, status, model_type)

    def _walk(self, page_size: int, status: str | None, model_type: str | None) -> Iterator[Model]:
        seen: set[str] = set()
        for page in self.api.pages(page_size, status=_value(status), model_type=_value(model_type)):
            for row in page.rows:
                if isinstance(row, ListedModel) and row.id not in seen and _wanted(row, status, model_type):
                    seen.add(row.id)
                    yield model_of(row)

    def get(self, model: str) -> Model:
        """Returns one model with its metrics and class mapping.

        Args:
            model: an id or a name.

        Raises:
            NotFoundError: there is no such model, or it belongs to another organisation.
            AuthError: the upstream refuses the API key.
            RateLimitError, ServerError: the upstream refused the call or failed, and so did the retries.
            NetworkError: the upstream cannot be reached, or does not answer in time.
            ProtocolError: the upstream's answer is not what the API promises.
        """
        return model_of(self.api.find(model, PAGE_SIZE))

    def download(
        self,
        model: str,
        output_path: str | Path,
        progress: Callable[[int, int | None], None] | None = None,
        *,
        format: str = "onnx",  # noqa: A002 - the API's own name
    ) -> Path:
        """Downloads a model's weights to a file, which appears under its name only when it is complete and checked.

        Args:
            model: an id or a name.
            output_path: the file; an existing file is replaced when the new one is complete.
            progress: called with bytes done and bytes in all (None when storage does not say).
            format: `onnx`, `pytorch`, ...

        Returns:
            The file's path.

        Raises:
            ConfigurationError: the folder does not exist, or `output_path` is a folder; no request is sent.
            NotFoundError: there is no such model.
            ConflictError: the model is not ready, or was never exported in this format.
            IntegrityError: the bytes do not match what storage declares; an existing file is left unchanged.
            TransferError: storage does not give the bytes.
            NoSpaceError: the disk is full.
            AuthError: the upstream refuses the API key.
            RateLimitError, ServerError: the upstream refused the call or failed, and so did the retries.
            NetworkError: the upstream or its storage cannot be reached, or does not answer in time.
            ProtocolError: the upstream's answer is not what the API promises.
        """
        output = _output(output_path)
        row = self.api.find(model, PAGE_SIZE)
        if row.status != ModelStatus.READY:
            raise ConflictError(
                f"model {row.name!r} has no weights to give: its status is {row.status!r}",
                hint="only ready models can be downloaded",
                status=409,
            )
        received = self._storage.fetch(
            f"model {row.name!r}",
            lambda: self.api.download_url(row.id, format),
            lambda _declared: _FileSink(output),
            progress=progress or (lambda _done, _total: None),
        )
        if received is None:  # pragma: no cover - no `held` is passed, so a body is always returned
            raise AssertionError
        received.sink.publish()
        return output

    def delete(self, model: str) -> None:
        """Soft-deletes a model: its status becomes `archived`, and its weights are kept.

        Args:
            model: an id or a name.

        Raises:
            NotFoundError: there is no such model.
            ForbiddenError: the API key may not delete models.
            AuthError: the upstream refuses the API key.
            RateLimitError, ServerError: the upstream refused the call or failed, and so did the retries.
            NetworkError: the upstream cannot be reached, or does not answer in time.
            ProtocolError: the upstream's answer is not what the API promises.
        """
        self.api.delete(self.api.find(model, PAGE_SIZE).id)


class _FileSink:
    """A temporary file beside `output`; `publish` renames it to `output`."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._temporary = sibling(output)
        self._stream: BinaryIO | None = create_exclusive(self._temporary, 0o644)

    def write(self, data: bytes | memoryview) -> None:
        assert self._stream is not None  # noqa: S101 - nothing writes after discard
        with no_space_named(str(self._output)):
            write_all(self._stream, data)

    def beside(self) -> BinaryIO:
        with no_space_named(str(self._output)):
            return unnamed(self._output.parent)

    def discard(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            with contextlib.suppress(FileNotFoundError):
                self._temporary.unlink()

    def publish(self) -> None:
        assert self._stream is not None  # noqa: S101
        try:
            with no_space_named(str(self._output)):
                os.fsync(self._stream.fileno())
                self._stream.close()
                os.replace(self._temporary, self._output)
        except BaseException:
            self.discard()
            raise
        fsync_directory(self._output.parent)


def model_of(row: ListedModel) -> Model:
    """Makes the public `Model` from a row."""
    return Model.from_document(load_object(f"model {row.id!r}", row.document.encode()))


def _output(path: str | Path) -> Path:
    output = Path(path)
    if output.is_dir():
        raise ConfigurationError(f"{output} is a folder", hint="name the file that the weights go to")
    if not output.parent.is_dir():
        raise ConfigurationError(f"there is no folder {output.parent}", hint="create it first")
    return output


def _check_between(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_LIMIT:
        raise ValidationError(f"{name} must be from 1 to {LARGEST_LIMIT}, not {value!r}")


def _value(choice: str | None) -> str | None:
    return None if choice is None else str(choice)


def _wanted(row: ListedModel, status: str | None, model_type: str | None) -> bool:
    """Applies the filters again, because an upstream may ignore a parameter."""
    if model_type is not None and row.model_type != model_type:
        return False
    return row.status == status if status is not None else row.status != ModelStatus.ARCHIVED
