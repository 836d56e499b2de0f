"""What spares requests: storage's ETag of weights, and the formats that a model was never exported in."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds `weights.validator`, empty for what is there, and the table `absences`."""
    op.add_column("weights", sa.Column("validator", sa.String))
    op.create_table(
        "absences",
        sa.Column("model_id", sa.String, sa.ForeignKey("models.id"), primary_key=True),
        sa.Column("format", sa.String, primary_key=True),
        sa.Column("stamp", sa.String, nullable=False),
    )
