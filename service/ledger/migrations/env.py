"""Run revisions on the connection that `service.ledger.migrate.upgrade` holds open."""

from alembic import context

import service.ledger.service_schema  # noqa: F401 - its tables belong to the schema
from service.ledger.migrate import VERSION_TABLE
from service.ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite alters a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
