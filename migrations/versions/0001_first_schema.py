"""The first schema: facts, models, weights, failures, runs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "facts",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("model_type", sa.String),
        sa.Column("architecture", sa.String),
        sa.Column("version", sa.String),
        sa.Column("created_at", sa.String),
        sa.Column("updated_at", sa.String),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("stamp", sa.String, nullable=False),
        sa.Column("first_seen", sa.String, nullable=False),
        sa.Column("gone_at", sa.String),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_models_revision", "models", ["revision"])
    op.create_table(
        "weights",
        sa.Column("model_id", sa.String, sa.ForeignKey("models.id"), primary_key=True),
        sa.Column("format", sa.String, primary_key=True),
        sa.Column("md5", sa.String, primary_key=True),
        sa.Column("version", sa.String),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("fetched_at", sa.String, nullable=False),
        sa.Column("stamp", sa.String, nullable=False),
        sa.Column("current", sa.Integer, nullable=False),
        sa.Column("declared_md5", sa.Integer, nullable=False),
    )
    op.create_index("ix_weights_md5", "weights", ["md5"])
    op.create_table(
        "failures",
        sa.Column("model_id", sa.String, sa.ForeignKey("models.id"), primary_key=True),
        sa.Column("format", sa.String, primary_key=True),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("first_failed_at", sa.String, nullable=False),
        sa.Column("last_failed_at", sa.String, nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("finished_at", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
