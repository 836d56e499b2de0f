"""A storage that speaks TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from .counting import CountingUpstream

if TYPE_CHECKING:
    import ssl


class TlsStorage(CountingUpstream):
    """An upstream whose signed addresses are https; its API is plain."""

    def __init__(self, *args: Any, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(*args, **options)
        self._tls = tls

    @property
    def storage_url(self) -> str:
        """With the other scheme."""
        return super().storage_url.replace("http://", "https://")

    def start(self) -> Self:
        """Begins to serve."""
        super().start()
        assert self._servers is not None
        storage = self._servers[1]
        accept = storage.get_request

        def accept_tls() -> tuple[Any, Any]:
            raw, address = accept()
            wrapped = self._tls.wrap_socket(raw, server_side=True)
            storage._open.discard(raw)
            storage._open.add(wrapped)
            return wrapped, address

        storage.get_request = accept_tls  # type: ignore[method-assign]
        return self
