"""Trusted certificates on record: files of one or several, all or none, and who may share a factory CA (design 7)."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from server.admin import trust as admin
from server.errors import BadRequest, Conflict, LimitReached, NotFound
from server.store import accounts, audit, trust
from server.store.audit import Actor
from server.store.database import Database, connect
from server.store.trust import Service, TrustedCertificate
from server.trust import Refused, Trusted, TrustIndex
from tests import pki
from tests.unit.issuers import surgery

ACTOR = Actor(kind="cli", name="somebody", request_id="r")
ROOT = pki.make_factory_ca("Root")
MIDDLE = pki.make_factory_ca("Middle", issuer=ROOT)
LOW = pki.make_factory_ca("Low", issuer=MIDDLE)
NOW = datetime.now(UTC)


@pytest.fixture
async def account(database: Database) -> UUID:
    return (await accounts.ensure_default(database)).id


async def add(
    database: Database, account: UUID, data: bytes, *, service: Service = "bootstrap", **others: object
) -> list[TrustedCertificate]:
    return await admin.add_pem(database, ACTOR, account, data, service=service, now=NOW, **others)  # type: ignore[arg-type]


async def names(database: Database, account: UUID) -> list[str]:
    return [row.name for row in await trust.listed(database, account)]


async def test_a_chain_becomes_an_anchor_of_each_certificate(database: Database, account: UUID) -> None:
    added = await add(database, account, pki.pem_chain(LOW, MIDDLE, ROOT))
    assert [row.certificate for row in added] == [LOW.der, MIDDLE.der, ROOT.der]
    assert {row.subject for row in added} == {"CN=Low,O=Factory", "CN=Middle,O=Factory", "CN=Root,O=Factory"}
    assert await names(database, account) == ["CN=Low,O=Factory", "CN=Middle,O=Factory", "CN=Root,O=Factory"]


async def test_der_is_taken_as_pem_is(database: Database, account: UUID) -> None:
    [by_der] = await add(database, account, ROOT.der)
    assert by_der.certificate == ROOT.der
    assert by_der.not_after == ROOT.certificate.not_valid_after_utc
    with pytest.raises(Conflict):
        await add(database, account, ROOT.pem)


async def test_a_name_is_given_to_one_and_numbered_over_several(database: Database, account: UUID) -> None:
    [one] = await add(database, account, ROOT.pem, name="Line 1")
    assert one.name == "Line 1"
    several = await add(database, account, pki.pem_chain(LOW, MIDDLE), name="Line 2")
    assert [row.name for row in several] == ["Line 2 1", "Line 2 2"]


async def test_a_certificate_that_is_there_already_is_a_conflict(database: Database, account: UUID) -> None:
    await add(database, account, ROOT.pem)
    with pytest.raises(Conflict, match="CN=Root,O=Factory is already there for the service bootstrap"):
        await add(database, account, ROOT.pem)
    assert len(await names(database, account)) == 1


async def test_the_same_certificate_may_serve_the_other_service(database: Database, account: UUID) -> None:
    await add(database, account, ROOT.pem)
    await add(database, account, ROOT.pem, service="lwm2m")
    assert len(await names(database, account)) == 2


@pytest.mark.parametrize("data", [pki.pem_chain(LOW, MIDDLE, ROOT), pki.pem_chain(LOW, LOW)])
async def test_of_a_file_with_one_conflict_none_is_added(database: Database, account: UUID, data: bytes) -> None:
    await add(database, account, ROOT.pem)
    with pytest.raises(Conflict):
        await add(database, account, data)
    assert await names(database, account) == ["CN=Root,O=Factory"]
    actions = [entry.action for entry in await audit.entries(database, account)]
    assert actions.count("trusted_certificate.added") == 1


async def test_a_name_is_taken_once_through_every_door(database: Database, account: UUID) -> None:
    """As the API of the original has it; a certificate that nobody named makes way."""
    await add(database, account, ROOT.pem, name="Line 1")
    with pytest.raises(Conflict, match="already a trusted certificate Line 1; give this one another name"):
        await add(database, account, LOW.pem, name="Line 1")
    with pytest.raises(Conflict):
        await add(database, account, LOW.pem, service="lwm2m", name="Line 1")
    await add(database, account, LOW.pem)
    [again] = await add(database, account, LOW.pem, service="lwm2m")
    assert again.name == "CN=Low,O=Factory 2"
    with pytest.raises(Conflict, match="give this one another name"):
        await trust.update(database, ACTOR, account, again.id, name="Line 1")
    assert await names(database, account) == ["CN=Low,O=Factory", "CN=Low,O=Factory 2", "Line 1"]


async def test_one_of_two_that_a_former_version_let_have_one_name_can_be_denied(
    database: Database, database_url: str, account: UUID
) -> None:
    [one] = await add(database, account, ROOT.pem, name="Line 1")
    await add(database, account, LOW.pem, name="Line 2")
    connection = await connect(database_url)
    try:
        await connection.execute("UPDATE trusted_certificate SET name = 'Line 1'")
    finally:
        await connection.close()
    assert not (await trust.update(database, ACTOR, account, one.id, active=False)).active
    assert not (await trust.update(database, ACTOR, account, one.id, name="Line 1")).active


async def test_an_account_has_fifty_through_every_door_and_of_a_chain_that_goes_beyond_none_is_added(
    database: Database, account: UUID
) -> None:
    there = len(await names(database, account))
    authorities = [pki.make_factory_ca(f"CA {number}") for number in range(trust.MOST_CERTIFICATES - there - 1)]
    await add(database, account, pki.pem_chain(*authorities))
    with pytest.raises(LimitReached, match="at most 50 trusted certificates; remove one first"):
        await add(database, account, pki.pem_chain(MIDDLE, ROOT))
    assert len(await names(database, account)) == 49
    await add(database, account, ROOT.pem)
    with pytest.raises(LimitReached):
        await add(database, account, MIDDLE.pem, service="lwm2m")
    # What is there already is said to be so: removing another one would not help.
    with pytest.raises(Conflict, match="already there"):
        await add(database, account, ROOT.pem)


async def test_what_nobody_can_read_is_a_bad_request(database: Database, account: UUID) -> None:
    for certificate in (b"", b"nonsense", ROOT.der[:-1], surgery.of_unknown_version(ROOT.certificate)):
        with pytest.raises(BadRequest, match=r"no X\.509 certificate"):
            await trust.add(database, ACTOR, account, service="bootstrap", certificate=certificate)
    assert await names(database, account) == []


async def test_a_factory_ca_belongs_to_one_account_alone(database: Database, account: UUID) -> None:
    other = (await accounts.add(database, ACTOR, "other")).id
    await add(database, account, ROOT.pem)
    with pytest.raises(Conflict, match="active in another account"):
        await add(database, other, ROOT.pem)
    await add(database, other, ROOT.pem, service="lwm2m")


async def test_accounts_with_enrolment_lists_share_one(database: Database, account: UUID) -> None:
    other = (await accounts.add(database, ACTOR, "other")).id
    await add(database, account, ROOT.pem, enrollment_mode=True)
    with pytest.raises(Conflict):
        await add(database, other, ROOT.pem)
    await add(database, other, ROOT.pem, enrollment_mode=True)


async def test_a_denied_factory_can_be_taken_by_another_account_and_not_back(database: Database, account: UUID) -> None:
    other = (await accounts.add(database, ACTOR, "other")).id
    [row] = await add(database, account, ROOT.pem)
    assert not (await trust.set_active(database, ACTOR, account, row.id, False)).active
    await add(database, other, ROOT.pem)
    with pytest.raises(Conflict):
        await trust.set_active(database, ACTOR, account, row.id, True)


async def test_two_accounts_that_take_the_same_factory_at_once_do_not_both_get_it(
    database: Database, account: UUID
) -> None:
    other = (await accounts.add(database, ACTOR, "other")).id
    for _ in range(10):
        ca = pki.make_factory_ca(f"CA {uuid4()}")
        results = await asyncio.gather(
            add(database, account, ca.pem), add(database, other, ca.pem), return_exceptions=True
        )
        assert sorted(type(each).__name__ for each in results) == ["Conflict", "list"]


async def test_a_certificate_is_found_by_the_beginning_of_its_id_or_fingerprint_or_by_name(
    database: Database, account: UUID
) -> None:
    [row] = await add(database, account, ROOT.pem, name="Line 1")
    await add(database, account, MIDDLE.pem, name="Line 2")
    for word in (row.id.hex, row.id.hex[:12], row.fingerprint.hex()[:12], "Line 1"):
        assert (await admin.find(database, account, word)).id == row.id
    for word, said in (
        ("Line", "no trusted certificates named"),
        ("", "no trusted certificates named"),
        ("zz", "no trusted certificates named"),
    ):
        with pytest.raises(BadRequest, match=said):
            await admin.find(database, account, word)


async def test_what_is_on_record_is_what_judges_devices(database: Database, account: UUID) -> None:
    leaf = pki.make_device_certificate(LOW, "dev")

    async def judged() -> Trusted | Refused:
        index = TrustIndex(await trust.anchors(database))
        return index.judge((leaf.der, LOW.der, MIDDLE.der), leaf.certificate.not_valid_before_utc)

    assert isinstance(await judged(), Refused)
    [row] = await add(database, account, ROOT.pem)
    assert isinstance(await judged(), Trusted)
    await trust.set_active(database, ACTOR, account, row.id, False)
    assert isinstance(await judged(), Refused)
    await trust.remove(database, ACTOR, account, row.id)
    assert isinstance(await judged(), Refused)
    with pytest.raises(NotFound):
        await trust.remove(database, ACTOR, account, row.id)


async def test_every_change_is_in_the_audit(database: Database, account: UUID) -> None:
    [row] = await add(database, account, ROOT.pem)
    await trust.set_active(database, ACTOR, account, row.id, False)
    await trust.set_active(database, ACTOR, account, row.id, True)
    await trust.remove(database, ACTOR, account, row.id)
    entries = await audit.entries(database, account)
    assert [(each.action, each.actor.name) for each in reversed(entries)] == [
        ("trusted_certificate.added", "somebody"),
        ("trusted_certificate.denied", "somebody"),
        ("trusted_certificate.activated", "somebody"),
        ("trusted_certificate.removed", "somebody"),
    ]
