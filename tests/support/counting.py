"""An upstream that counts the bytes of weights that it sends, and that can be deaf to ranges."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .upstream import FaultyUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry_mirror.demo import Request, Response


class CountingUpstream(FaultyUpstream):
    """`sent` is the bytes of all bodies that its storage gave out. `deaf` makes it ignore `Range`."""

    def __init__(self, *args: Any, deaf: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sent = 0
        self._deaf = deaf

    def storage(self, request: Request) -> Response:
        """The storage's answer, counted while it is sent."""
        if self._deaf:
            request = replace(request, headers={k: v for k, v in request.headers.items() if k != "range"})
        response = super().storage(request)
        length = response.content_length
        return replace(response, body=self._counted(response.chunks()), offset=0, length=length)

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.sent += len(chunk)
            yield chunk

    def ranges(self) -> list[tuple[str | None, str | None]]:
        """`Range` and `If-Range` of each request to the storage."""
        requests = [entry for entry in self.requests.entries if entry.origin == "storage"]
        return [(entry.headers.get("range"), entry.headers.get("if-range")) for entry in requests]
