"""A database's certificate is checked against the CA that its URL names; what is wrong there is said as what it is."""

from pathlib import Path

import pytest

from server.store.database import connect
from server.store.errors import StoreRefused

# Nobody listens there: no file is read later than before the first byte.
NOBODY = "postgresql://firstlight:secret@127.0.0.1:1/firstlight"


async def test_a_url_that_checks_and_names_no_ca_is_told_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    with pytest.raises(StoreRefused, match=r"URL cannot be used .*root\.crt.*sslrootcert=FILE") as refused:
        await connect(f"{NOBODY}?sslmode=verify-full")
    assert "refuses us" not in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["sslrootcert", "sslcert", "sslkey", "sslcrl"])
async def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    missing = tmp_path / "gone.pem"
    with pytest.raises(StoreRefused, match=rf"database\.url names {missing} as {name}"):
        await connect(f"{NOBODY}?sslmode=verify-full&{name}={missing}")
