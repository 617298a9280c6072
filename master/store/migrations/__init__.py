"""Alembic's migrations of the master's database, applied when it is opened."""
