"""PostgreSQL keeps the contract of the store, and what only a server with many clients can do."""

from pathlib import Path

import pytest

from tenterhook.store.postgres import PostgresStore
from tenterhook.vault import Vault
from tests.contracts.everything import EveryContract

VAULT = Vault([b"0" * 32])


class TestPostgres(EveryContract):
    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        self.url = postgres_url

    async def make(self, path: Path) -> PostgresStore:
        return await PostgresStore.open(self.url, VAULT)
