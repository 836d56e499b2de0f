"""Times as numbers, as the index has them, so that SQLite makes the index without Python. Unused columns go."""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TIMES = {
    "models": ("created_at", "updated_at", "first_seen", "gone_at", "archived_at"),
    "weights": ("fetched_at", "superseded_at"),
    "failures": ("first_failed_at", "last_failed_at"),
    "pins": ("pinned_at",),
    "evictions": ("evicted_at",),
    "unnamed": ("since",),
    "checks": ("checked_at", "lost_at"),
    "runs": ("finished_at",),
}
_REQUIRED = {"first_seen", "fetched_at", "first_failed_at", "last_failed_at", "pinned_at", "evicted_at", "finished_at"}
_UNUSED = {"models": ("version",), "weights": ("validator",)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def upgrade() -> None:
    """Turns every time into microseconds since 1970 in UTC.

    A text that is no time becomes NULL, and the present where a time is required.
    """
    driver: Any = op.get_bind().connection.driver_connection
    driver.create_function("micros", 1, _micros, deterministic=True)
    now = _micros(datetime.now(UTC).isoformat())
    for table, columns in _TIMES.items():
        values = ", ".join(
            f"{each} = coalesce(micros({each}), {now})" if each in _REQUIRED else f"{each} = micros({each})"
            for each in columns
        )
        op.execute(f"UPDATE {table} SET {values}")  # noqa: S608
        with op.batch_alter_table(table, recreate="always") as batch:
            for column in columns:
                batch.alter_column(column, type_=sa.BigInteger, existing_type=sa.String)
            for column in _UNUSED.get(table, ()):
                batch.drop_column(column)


def _micros(text: str | None) -> int | None:
    try:
        moment = datetime.fromisoformat(text or "")
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1)
