"""By what a model's row in the listing is recognised without being decoded."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column, and what belongs into it for every model that was recorded as it was listed."""
    op.add_column("models", sa.Column("text_digest", sa.LargeBinary))
    connection = op.get_bind()
    models = sa.table("models", sa.column("id"), sa.column("document"), sa.column("text_digest"))
    chosen = sa.select(models.c.id, models.c.document).order_by(models.c.id).limit(1000)
    fill = models.update().where(models.c.id == sa.bindparam("key")).values(text_digest=sa.bindparam("digest"))
    rows = connection.execute(chosen).all()
    while rows:
        digests = [{"key": key, "digest": hashlib.sha256(document.encode()).digest()} for key, document in rows]
        connection.execute(fill, digests)
        rows = connection.execute(chosen.where(models.c.id > rows[-1].id)).all()
