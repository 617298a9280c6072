"""Run by Alembic, on the connection that `storage.sql.database` gives it."""

from alembic import context

from storage.sql.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
    version_table="iotcloud_version",
)
with context.begin_transaction():
    context.run_migrations()
