"""On what terms a CA is asked: settings of the issuer itself, the server's where it has none."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from issuers.errors import Throttled
from server.admin import issuers as admin
from server.breaker import Breaker
from server.config import Config, IssuanceConfig, IssuersConfig, ServerConfig
from server.knowledge import ActiveIssuer, Knowledge
from server.pace import Pace
from server.store import accounts, issuers
from server.store.audit import Actor
from server.store.database import Database
from server.store.secrets import Sealer
from server.terms import concurrency_problem, on_unknown_problem, rate_problem

PERSON = Actor(kind="cli", name="test", request_id="")
SEALER = Sealer((bytes(32),))
NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOST = {"host_url": "http://127.0.0.1:9"}


async def active(database: Database, folder: Path, attributes: Mapping[str, Any], **settings: Any) -> ActiveIssuer:
    """The CA with these attributes as a worker has it."""
    account = await accounts.ensure_default(database)
    row = await admin.register(
        database,
        SEALER,
        PERSON,
        account.id,
        type="CFSSL_AUTH",
        name="plant",
        description="",
        attributes={**HOST, **attributes},
        credentials={"hmac_hex_key": "00"},
    )
    service = await issuers.service(database, account.id, "LWM2M")
    assert service is not None
    await issuers.set_configuration(database, PERSON, account.id, service.id, row.id)

    async def sleep(_: float) -> None:
        raise AssertionError("this test waits for nobody")

    knowledge = Knowledge(
        database=database,
        sealer=SEALER,
        config=Config(server=ServerConfig(data_dir=folder, http="127.0.0.1:1"), **settings),
        journal=lambda _line: None,
        now=lambda: NOW,
        breaker=Breaker(database=database, now=lambda: NOW, clock=NOW.timestamp, jitter=lambda: 0.5),
        pace=Pace(database=database, now=lambda: NOW, sleep=sleep),
    )
    await knowledge.load()
    try:
        # Asked for once: so much the pace of one in a hundred seconds allows.
        found = await knowledge.issuer_for(account.id, "LWM2M")
        if "rate" in attributes:
            with pytest.raises(Throttled):
                await knowledge.issuer_for(account.id, "LWM2M")
        else:
            assert await knowledge.issuer_for(account.id, "LWM2M") is found
        return found
    finally:
        await knowledge.aclose()


async def test_an_issuer_has_terms_of_its_own(database: Database, tmp_path: Path) -> None:
    terms = {"on_unknown": "hold", "rate": "0.01", "concurrency": "1"}
    assert (await active(database, tmp_path, terms)).on_unknown == "hold"


async def test_without_them_the_servers_settings_count(database: Database, tmp_path: Path) -> None:
    found = await active(database, tmp_path, {}, issuance=IssuanceConfig(on_unknown="hold"), issuers=IssuersConfig())
    assert found.on_unknown == "hold"


async def test_its_own_terms_win_over_the_servers(database: Database, tmp_path: Path) -> None:
    found = await active(database, tmp_path, {"on_unknown": "reissue"}, issuance=IssuanceConfig(on_unknown="hold"))
    assert found.on_unknown == "reissue"


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "10001", "x", "٣", "1" * 30, " 1"])
def test_what_is_no_number_of_requests_at_once(text: str) -> None:
    assert concurrency_problem(text)


@pytest.mark.parametrize("text", ["", "0", "0.001", "-1", "1e3", "nan", "inf", "10001", ".", "٣", "1" * 30, " 1"])
def test_what_is_no_rate(text: str) -> None:
    assert rate_problem(text)


def test_what_is_good() -> None:
    assert [concurrency_problem(text) for text in ("1", "32", "10000")] == ["", "", ""]
    assert [rate_problem(text) for text in ("0.01", "5", "0.5", "10000", "2.")] == [""] * 5
    assert [on_unknown_problem(text) for text in ("hold", "reissue")] == ["", ""]
    assert on_unknown_problem("Hold")
