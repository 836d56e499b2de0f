"""The remote registry: the public client, and the parts that a sync is made of."""

from .api import ModelsApi
from .client import Client, Models, model_of
from .declared import Declared, of_part
from .decode import BadRow, Page, Row, decode_row
from .load import Begun, Sink
from .paging import Reading, read_whole
from .retry import RetryPolicy, is_long_limit
from .transfer import Received, Storage

__all__ = [
    "BadRow",
    "Begun",
    "Client",
    "Declared",
    "Models",
    "ModelsApi",
    "Page",
    "Reading",
    "Received",
    "RetryPolicy",
    "Row",
    "Sink",
    "Storage",
    "decode_row",
    "is_long_limit",
    "model_of",
    "of_part",
    "read_whole",
]
