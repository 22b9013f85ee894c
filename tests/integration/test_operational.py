"""Whose operational certificate is it: the record's word first, CN and OU where a CA of ours vouches for them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID, uuid4

import pytest

from server.errors import NotAuthenticated, NotAuthorized
from server.operational import device_of, is_claimed_by_another, is_operational
from server.store import certificates
from server.store.audit import Actor
from server.store.database import Database
from server.store.devices import device_id
from server.store.writer import RecordIssued, Writer
from server.transport.engine import PeerIdentity, PreSharedKey
from server.trust import Anchor, Service, Trusted
from tests import pki
from tests.integration import rows

CA = pki.make_factory_ca("Operational CA")
DEVICE = pki.make_device_certificate(CA, "device-1")
ACTOR = Actor(kind="cli", name="test", request_id="")


def peer(holder: pki.Holder = DEVICE, *, account: UUID = rows.ACCOUNT, service: Service = "lwm2m") -> PeerIdentity:
    anchor = Anchor(id=uuid4(), account_id=account, service=service, certificate=CA.der)
    return PeerIdentity(kind="x509", chain=(holder.der,), trusted=Trusted((holder.der, CA.der), (anchor,)))


def named(common_name: str, account: UUID) -> pki.Holder:
    name = pki.make_name(common_name, organizational_unit_name=account.hex)
    return pki.make_certificate(name, CA, extensions=[(pki.key_usage("digital_signature"), True)])


@pytest.fixture
async def writer(database: Database, database_url: str) -> AsyncIterator[Writer]:
    opened = Writer(database_url, database.queries)
    await opened.start()
    yield opened
    await opened.close()


async def recorded(
    writer: Writer, endpoint: str, *, service: str = "LWM2M", holder: pki.Holder = DEVICE
) -> RecordIssued:
    """The device's certificate on record, as one that our CA signed."""
    opened = rows.intent(endpoint, service=service)
    await writer.write(opened)
    made = replace(
        rows.issued(opened),
        chain=(holder.der, CA.der),
        serial=holder.certificate.serial_number,
        issuer_fingerprint=sha256(CA.der).digest(),
    )
    assert await writer.write(made)
    return made


@pytest.mark.parametrize("service", ["LWM2M", "meter"])
async def test_the_certificate_on_record_names_its_device(database: Database, writer: Writer, service: str) -> None:
    await recorded(writer, "endpoint of the record", service=service)
    found = await device_of(database, peer())
    assert (found.account_id, found.endpoint, found.service) == (rows.ACCOUNT, "endpoint of the record", service)
    assert found.device_id == device_id(rows.ACCOUNT, "endpoint of the record")


async def test_another_accounts_anchor_does_not_make_it_that_accounts_device(
    database: Database, writer: Writer
) -> None:
    await recorded(writer, "device-1")
    with pytest.raises(NotAuthorized, match="none of ours"):
        await device_of(database, peer(account=uuid4()))


async def test_a_revoked_certificate_is_nobodys(database: Database, writer: Writer) -> None:
    made = await recorded(writer, "device-1")
    await certificates.revoke(database, ACTOR, rows.ACCOUNT, made.id, "keyCompromise", datetime.now(UTC))
    with pytest.raises(NotAuthorized, match="revoked"):
        await device_of(database, peer())


async def test_a_certificate_of_the_same_number_that_is_not_the_recorded_one_is_none_of_ours(
    database: Database, writer: Writer
) -> None:
    await recorded(writer, "device-1")
    forged = pki.make_certificate("device-1", CA, serial=DEVICE.certificate.serial_number)
    with pytest.raises(NotAuthorized, match="none of ours"):
        await device_of(database, peer(forged))


async def test_cn_and_ou_name_a_device_that_was_here(database: Database, writer: Writer) -> None:
    holder = named("device-2", rows.ACCOUNT)
    with pytest.raises(NotAuthorized, match="CN and OU"):
        await device_of(database, peer(holder))
    await writer.write(rows.device(rows.intent("device-2")))
    assert (await device_of(database, peer(holder))).endpoint == "device-2"
    with pytest.raises(NotAuthorized, match="CN and OU"):
        await device_of(database, peer(named("device-2", uuid4())))
    # The common name alone, which any customer of a shared CA may choose, says nothing.
    with pytest.raises(NotAuthorized, match="CN and OU"):
        await device_of(database, peer(pki.make_device_certificate(CA, "device-2")))


async def test_names_of_another_accounts_device_do_not_pass_for_it_on_a_certificate_of_ones_own(
    database: Database, writer: Writer
) -> None:
    # Two customers of one CA: the first lets it write the second's account into a certificate and drops its anchor.
    victim = uuid4()
    async with database.transaction() as connection:
        await connection.execute("INSERT INTO account (id, name) VALUES ($1, 'victim')", victim)
    await writer.write(rows.device(rows.intent("device-3"), account_id=victim))
    holder = named("device-3", victim)
    assert (await device_of(database, peer(holder, account=victim))).account_id == victim
    await recorded(writer, "device-3", holder=holder)
    with pytest.raises(NotAuthorized, match="another account"):
        await device_of(database, peer(holder, account=victim))


async def test_who_trusts_a_ca_for_bootstraps_gets_no_hold_on_another_accounts_devices(
    database: Database, writer: Writer
) -> None:
    def under(*anchors: tuple[UUID, Service]) -> PeerIdentity:
        held = tuple(Anchor(id=uuid4(), account_id=of, service=service, certificate=CA.der) for of, service in anchors)
        return replace(peer(), trusted=Trusted((DEVICE.der, CA.der), held))

    both: tuple[tuple[UUID, Service], ...] = ((rows.ACCOUNT, "lwm2m"), (uuid4(), "bootstrap"))
    assert not await is_claimed_by_another(database, under(*both))
    await recorded(writer, "device-1")
    assert await is_claimed_by_another(database, under(*both))
    assert not await is_claimed_by_another(database, under(*both, (rows.ACCOUNT, "bootstrap")))
    assert not await is_claimed_by_another(database, under(both[1]))


async def test_a_bootstrap_anchor_or_a_key_is_no_operational_certificate(database: Database) -> None:
    assert is_operational(peer())
    assert not is_operational(peer(service="bootstrap"))
    with pytest.raises(NotAuthorized, match="service lwm2m"):
        await device_of(database, peer(service="bootstrap"))
    key = PreSharedKey(id=uuid4(), account_id=rows.ACCOUNT, identity=b"i", key=b"k", endpoint="device-1")
    with pytest.raises(NotAuthenticated):
        await device_of(database, PeerIdentity(kind="psk", psk_identity=b"i", psk=key))
