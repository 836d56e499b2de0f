"""A local mirror of a remote registry of trained models.

    from registry_mirror import Client, Mirror

    client = Client()               # online: the remote models API
    mirror = Mirror("/srv/models")  # offline: the same verbs, from the cache

`Mirror` needs the standard library only; `Client` is imported on first use, because it brings httpx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from .upstream import Client

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


def __getattr__(name: str) -> Any:
    if name == "Client":
        from .upstream import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
