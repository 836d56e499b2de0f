"""The remote registry: the public client, and the parts that a sync is made of."""

from .api import ModelsApi
from .client import Client, Models, model_of
from .decode import BadRow, Page, Row
from .retry import RetryPolicy, is_long_limit
from .transfer import Declared, Received, Sink, Storage

__all__ = [
    "BadRow",
    "Client",
    "Declared",
    "Models",
    "ModelsApi",
    "Page",
    "Received",
    "RetryPolicy",
    "Row",
    "Sink",
    "Storage",
    "is_long_limit",
    "model_of",
]
