"""The catalog: all that the mirror knows, history included. Only writers open it; readers use the index."""

from .catalog import Catalog
from .checks import Holder, Verified
from .migration import migrate, needs_migration
from .models import Known, KnownWeights, Recorded
from .retention import Holding, Note, Pin
from .weights import Held, WeightsRecord

__all__ = [
    "Catalog",
    "Held",
    "Holder",
    "Holding",
    "Known",
    "KnownWeights",
    "Note",
    "Pin",
    "Recorded",
    "Verified",
    "WeightsRecord",
    "migrate",
    "needs_migration",
]
