"""A local mirror of a remote registry of trained models.


    client = Client()               # online: the remote models API
    mirror = Mirror("/srv/models")  # offline: the same verbs, from the cache

`Mirror` needs the standard library only. Every name is imported on first use, because `Client` imports httpx, and
because the command must be able to catch an interruption before its other modules are imported.
"""

from __future__ import annotations

# Not imported from typing: that import takes ten milliseconds, during which nothing would catch Ctrl-C.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from .errors import (
        ApiError,
        AuthError,
        CatalogError,
        ConfigurationError,
        ConflictError,
        ForbiddenError,
        IntegrityError,
        ListingError,
        LockedError,
        MirrorError,
        NetworkError,
        NoIndexError,
        NoSpaceError,
        NotFoundError,
        PaymentRequiredError,
        ProtocolError,
        RateLimitError,
        RequestTimeoutError,
        ServerError,
        ShrinkError,
        StaleError,
        TransferError,
        ValidationError,
    )
    from .mirror import Mirror
    from .model import MirrorInfo, Model, ModelStatus, ModelType
    from .sources.api.client import Client

__version__ = "0.1.0"

__all__ = [
    "ApiError",
    "AuthError",
    "CatalogError",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "ForbiddenError",
    "IntegrityError",
    "ListingError",
    "LockedError",
    "Mirror",
    "MirrorError",
    "MirrorInfo",
    "Model",
    "ModelStatus",
    "ModelType",
    "NetworkError",
    "NoIndexError",
    "NoSpaceError",
    "NotFoundError",
    "PaymentRequiredError",
    "ProtocolError",
    "RateLimitError",
    "RequestTimeoutError",
    "ServerError",
    "ShrinkError",
    "StaleError",
    "TransferError",
    "ValidationError",
    "__version__",
]


_HOMES = {
    "Client": "sources.api.client",
    "Mirror": "mirror",
    "MirrorInfo": "model",
    "Model": "model",
    "ModelStatus": "model",
    "ModelType": "model",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        value = getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
    except ModuleNotFoundError as error:
        from .errors import missing_library

        words = missing_library(error)
        if words is None:
            raise
        raise ImportError(f"{name} {words}", name=error.name) from error
    globals()[name] = value  # later uses do not call __getattr__ again
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
