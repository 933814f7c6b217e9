"""The ledger: SQL tables that record everything, and the only source of truth."""

from service.ledger.ledger import Ledger
from service.ledger.records import (
    EventRecord,
    RoundRecord,
    SearchRecord,
    SegmentRecord,
    SpanRecord,
    TrialProgress,
    TrialRecord,
)

__all__ = [
    "EventRecord",
    "Ledger",
    "RoundRecord",
    "SearchRecord",
    "SegmentRecord",
    "SpanRecord",
    "TrialProgress",
    "TrialRecord",
]
