"""The catalog: what the mirror knows. Writers only."""

from .catalog import Catalog
from .checks import Blob, Check, CheckRow, Holder, Verified
from .heir import Heirloom
from .memory import Held, Recorded
from .retention import Holding, Note, Pin
from .upgrade import migrate, needs_migration
from .values import CatalogModel, Known, KnownWeights, Weights

__all__ = [
    "Blob",
    "Catalog",
    "CatalogModel",
    "Check",
    "CheckRow",
    "Heirloom",
    "Held",
    "Holder",
    "Holding",
    "Known",
    "KnownWeights",
    "Note",
    "Pin",
    "Recorded",
    "Verified",
    "Weights",
    "migrate",
    "needs_migration",
]
