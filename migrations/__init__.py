"""Alembic's environment. Installed as `registry_mirror.migrations`."""
