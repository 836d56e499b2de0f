"""The catalog's tables. `migrations/` creates the same; a test checks that the two are equal.

Times are integers, microseconds since 1970 in UTC, as in the index, whose rows SQLite copies from these tables.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s"})

facts = Table(
    "facts",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
    comment="catalog_id, revision, base_url, organization_id",
)

models = Table(
    "models",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("status", String, nullable=False),
    Column("model_type", String),
    Column("architecture", String),
    Column("created_at", BigInteger),
    Column("updated_at", BigInteger),
    Column("document", Text, nullable=False),
    Column("fingerprint", String, nullable=False, comment="of the row in the listing"),
    Column("stamp", String, nullable=False, comment="changes when the weights may have changed"),
    Column("first_seen", BigInteger, nullable=False),
    Column("gone_at", BigInteger),
    Column("revision", BigInteger, nullable=False, comment="of the catalog, when this model last changed"),
    Column("archived_at", BigInteger, comment="when it was first seen archived; NULL: it is not"),
    Column("text_digest", LargeBinary, comment="SHA-256 of the JSON text of the row in the listing"),
    Index(None, "revision"),
)

weights = Table(
    "weights",
    metadata,
    Column("model_id", String, ForeignKey("models.id"), primary_key=True),
    Column("format", String, primary_key=True),
    Column("md5", String, primary_key=True),
    Column("version", String),
    Column("sha256", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("fetched_at", BigInteger, nullable=False),
    Column("stamp", String, nullable=False, comment="of the model, when these weights were last seen to be its own"),
    Column("current", Integer, nullable=False),
    Column("declared_md5", Integer, nullable=False, comment="1: storage's word; 0: ours alone"),
    Column("superseded_at", BigInteger, comment="when others took their place; NULL for current ones"),
    Index(None, "md5"),
)

absences = Table(
    "absences",
    metadata,
    Column("model_id", String, ForeignKey("models.id"), primary_key=True),
    Column("format", String, primary_key=True),
    Column("stamp", String, nullable=False, comment="of the model, when the upstream had no weights in this format"),
)

failures = Table(
    "failures",
    metadata,
    Column("model_id", String, ForeignKey("models.id"), primary_key=True),
    Column("format", String, primary_key=True),
    Column("error", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("first_failed_at", BigInteger, nullable=False),
    Column("last_failed_at", BigInteger, nullable=False),
)

pins = Table(
    "pins",
    metadata,
    Column("model_id", String, ForeignKey("models.id"), primary_key=True),
    Column("pinned_at", BigInteger, nullable=False),
    comment="models whose weights neither retention nor the quota takes",
)

evictions = Table(
    "evictions",
    metadata,
    Column("model_id", String, ForeignKey("models.id"), primary_key=True),
    Column("format", String, primary_key=True),
    Column("stamp", String, nullable=False, comment="of the model; while it is the same, a sync does not fetch again"),
    Column("md5", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("evicted_at", BigInteger, nullable=False),
)

unnamed = Table(
    "unnamed",
    metadata,
    Column("blob", String, primary_key=True, comment="ab/abcdef….onnx"),
    Column("reason", Text, comment="why it was let go; NULL: no row is known to have named it"),
    Column("since", BigInteger, comment="when the published index was first seen without it; NULL: not yet"),
    comment="blobs that no row wants; the grace period counts from `since`",
)

checks = Table(
    "checks",
    metadata,
    Column("md5", String, primary_key=True),
    Column("format", String, primary_key=True),
    Column("checked_at", BigInteger, comment="when its bytes were last hashed and right; NULL: check it first"),
    Column("size", BigInteger, comment="of the file then"),
    Column("mtime_ns", BigInteger, comment="of the file then"),
    Column("lost_at", BigInteger, comment="when it was found damaged or missing; NULL: it is well, as far as is known"),
    Column("reason", Text, comment="what was wrong with it"),
    Column("revision", BigInteger, nullable=False, comment="of the catalog, when this row last changed"),
    Index(None, "revision"),
    comment="one row a blob, not one a model",
)

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("finished_at", BigInteger, nullable=False),
    Column("outcome", String, nullable=False),
    Column("record", Text, nullable=False),
)
