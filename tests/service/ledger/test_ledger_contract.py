import pytest

from service.ledger.testing import LedgerContract


class TestSqliteLedger(LedgerContract):
    @pytest.fixture
    def ledger_url(self, sqlite_url: str) -> str:
        return sqlite_url


class TestPostgresLedger(LedgerContract):
    @pytest.fixture
    def ledger_url(self, postgres_url: str) -> str:
        return postgres_url
