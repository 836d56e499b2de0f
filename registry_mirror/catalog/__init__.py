"""The catalog: what the mirror knows. Writers only."""

from .catalog import Catalog, CatalogModel, Known, KnownWeights, Weights
from .upgrade import migrate, needs_migration

__all__ = ["Catalog", "CatalogModel", "Known", "KnownWeights", "Weights", "migrate", "needs_migration"]
