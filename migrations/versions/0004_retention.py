"""What retention counts from: since when weights are superseded, models archived, and blobs without a name; pins."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns and tables. What was superseded or archived at an unknown time counts from now on."""
    op.add_column("weights", sa.Column("superseded_at", sa.String))
    op.add_column("models", sa.Column("archived_at", sa.String))
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    weights = sa.table("weights", sa.column("current"), sa.column("superseded_at"))
    op.execute(weights.update().where(weights.c.current == 0).values(superseded_at=now))
    models = sa.table("models", sa.column("status"), sa.column("archived_at"))
    op.execute(models.update().where(models.c.status == "archived").values(archived_at=now))
    op.create_table(
        "pins",
        sa.Column("model_id", sa.String, sa.ForeignKey("models.id"), primary_key=True),
        sa.Column("pinned_at", sa.String, nullable=False),
    )
    op.create_table(
        "evictions",
        sa.Column("model_id", sa.String, sa.ForeignKey("models.id"), primary_key=True),
        sa.Column("format", sa.String, primary_key=True),
        sa.Column("stamp", sa.String, nullable=False),
        sa.Column("md5", sa.String, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("evicted_at", sa.String, nullable=False),
    )
    op.create_table(
        "unnamed",
        sa.Column("blob", sa.String, primary_key=True),
        sa.Column("reason", sa.Text),
        sa.Column("since", sa.String),
    )
