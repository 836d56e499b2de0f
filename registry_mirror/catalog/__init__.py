"""The catalog: what the mirror knows. Writers only."""

from .catalog import Catalog, CatalogModel, Known, KnownWeights, Weights
from .checks import Blob, Check, CheckRow, Holder, Verified
from .upgrade import migrate, needs_migration

__all__ = [
    "Blob",
    "Catalog",
    "CatalogModel",
    "Check",
    "CheckRow",
    "Holder",
    "Known",
    "KnownWeights",
    "Verified",
    "Weights",
    "migrate",
    "needs_migration",
]
