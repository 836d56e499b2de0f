"""Runs migrations on the connection that `registry_mirror.catalog.upgrade` hands over."""

from alembic import context

from registry_mirror.catalog.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite changes a column by building the table anew.
    render_as_batch=True,
)
context.run_migrations()
