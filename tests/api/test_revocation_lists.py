"""`GET /v1/crl/…`, to which anybody comes: one list is made for all, a new one as soon as there is something to say."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509

from issuers.embedded import EmbeddedIssuer, RevokedCertificate
from server.admin.revocation_lists import FRESH
from tests.api.conftest import Api

REVOKE = """
INSERT INTO certificate (issuance_id, account_id, not_before, not_after, revoked_at, endpoint, service,
                         revocation_reason, serial, issuer_fingerprint, spki_sha256, chain_sha256, certificate)
SELECT gen_random_uuid(), e.account_id, $2, $3, $2, 'urn:dev:1', 'LWM2M', 'cessationOfOperation',
       decode(lpad(to_hex(n), 8, '0'), 'hex'), sha256(e.issuing_certificate), sha256('k'), sha256('c'),
       sha256(n::text::bytea)
FROM embedded_ca e, generate_series($4::integer, $5::integer) AS n WHERE e.account_id = $1
"""


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many entries each list had that was made."""
    made: list[int] = []
    build = EmbeddedIssuer.build_crl

    def counted(self: EmbeddedIssuer, revoked: Iterable[RevokedCertificate], **words: Any) -> bytes:
        entries = list(revoked)
        made.append(len(entries))
        return build(self, entries, **words)

    monkeypatch.setattr(EmbeddedIssuer, "build_crl", counted)
    return made


async def revoke(api: Api, first: int, last: int) -> None:
    now = datetime.now(UTC)
    async with api.office.database.acquire() as connection:
        await connection.execute(REVOKE, api.account_id, now, now + timedelta(days=1), first, last)


async def fetched(api: Api) -> x509.CertificateRevocationList:
    answer = await api.client.get(f"/v1/crl/{api.account_id.hex}.crl", headers={"Authorization": ""})
    return x509.load_der_x509_crl(answer.content)


async def test_a_crowd_of_strangers_has_one_list_made(api: Api, built: list[int]) -> None:
    await revoke(api, 1, 3)
    lists = await asyncio.gather(*(fetched(api) for _ in range(20)))
    assert built == [3]
    assert {each.signature for each in lists} == {lists[0].signature}
    assert sorted(entry.serial_number for entry in lists[0]) == [1, 2, 3]


async def test_what_is_revoked_is_on_the_list_at_once(api: Api, built: list[int]) -> None:
    assert len(await fetched(api)) == 0
    await revoke(api, 7, 7)
    assert (await fetched(api)).get_revoked_certificate_by_serial_number(7) is not None
    assert built == [0, 1]


async def test_certificates_that_are_good_make_no_new_list(api: Api, built: list[int]) -> None:
    """Else a fleet that comes in would have one made for each stranger who asks."""
    await fetched(api)
    await revoke(api, 1, 3)
    async with api.office.database.acquire() as connection:
        await connection.execute("UPDATE certificate SET revoked_at = NULL, revocation_reason = NULL")
    await fetched(api)
    assert built == [0]


async def test_of_two_lists_of_one_second_the_newer_has_the_larger_number(api: Api) -> None:
    """RFC 5280 5.2.3."""
    at = datetime.now(UTC).replace(microsecond=250_000)
    numbers = []
    for count in range(1, 4):
        await revoke(api, count, count)
        asked = at + timedelta(milliseconds=count)
        api.app.state.office = replace(api.office, now=lambda asked=asked: asked)  # type: ignore[misc]
        numbers.append((await fetched(api)).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    assert numbers == sorted(set(numbers))


async def test_a_list_is_made_anew_before_its_next_update_is_near(api: Api, built: list[int]) -> None:
    first = await fetched(api)
    later = datetime.now(UTC) + FRESH
    api.app.state.office = replace(api.office, now=lambda: later)
    assert (await fetched(api)).last_update_utc > first.last_update_utc
    assert built == [0, 0]


async def test_a_list_of_a_clock_that_was_set_back_is_made_anew(api: Api, built: list[int]) -> None:
    """Whoever reads it takes none whose time is still to come."""
    right = datetime.now(UTC)
    for now in (right + timedelta(days=900), right):
        api.app.state.office = replace(api.office, now=lambda now=now: now)  # type: ignore[misc]
        assert (await fetched(api)).last_update_utc == now.replace(microsecond=0)
    assert built == [0, 0]


async def test_accounts_that_are_made_up_leave_nothing(api: Api, built: list[int]) -> None:
    for _ in range(10):
        await api.ask("GET", f"/v1/crl/{uuid4().hex}.crl", 404)
    assert (built, len(api.app.state.revocation_lists)) == ([], 0)
