"""Alembic's environment and revisions; run by `service.ledger.migrate`, never by hand."""
