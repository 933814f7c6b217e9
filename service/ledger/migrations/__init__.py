"""Alembic's environment and revisions; run by `service.ledger.migrate` when a ledger is opened.

A change of `service.ledger.schema` comes with a new module in `versions` (written by hand: next
number, `down_revision` the one before) and a new `HEAD` in `service.ledger.migrate`.
"""
