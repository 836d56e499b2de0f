"""When each blob was last hashed, what its file was like then, and which blobs are lost."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the table `checks`, empty: no blob counts as checked before its first check."""
    op.create_table(
        "checks",
        sa.Column("md5", sa.String, primary_key=True),
        sa.Column("format", sa.String, primary_key=True),
        sa.Column("checked_at", sa.String),
        sa.Column("size", sa.BigInteger),
        sa.Column("mtime_ns", sa.BigInteger),
        sa.Column("lost_at", sa.String),
        sa.Column("reason", sa.Text),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_checks_revision", "checks", ["revision"])
