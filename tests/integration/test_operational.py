"""Whose operational certificate is it: the record's word first, CN and OU where a CA of ours vouches for them."""

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from server.errors import ClaimedElsewhere, NotAuthenticated, NotAuthorized
from server.operational import device_of, is_operational, require_bootstraps, require_own, shown_at_bootstrap
from server.policy import account_of_peer
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


async def recorded(
    writer: Writer, endpoint: str, *, service: str = "LWM2M", holder: pki.Holder = DEVICE
) -> RecordIssued:
    """The device's certificate on record, as one that our CA signed."""
    spki = holder.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    opened = replace(rows.intent(endpoint, service=service), spki_sha256=sha256(spki).digest())
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
    number = DEVICE.certificate.serial_number
    # Another CA that the account trusts may have certified the device's own key under the same number.
    for forged in (
        pki.make_certificate("device-1", CA, serial=number),
        pki.make_certificate("device-1", CA, serial=number, key=DEVICE.key),
    ):
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


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
async def test_a_factory_certificate_with_a_negative_serial_number_is_on_no_record(database: Database) -> None:
    der = bytearray(DEVICE.der)
    serial = DEVICE.certificate.serial_number
    der[der.index(serial.to_bytes(serial.bit_length() // 8 + 1, "big"))] = 0x80
    factory = Anchor(id=uuid4(), account_id=rows.ACCOUNT, service="bootstrap", certificate=CA.der)
    shown = PeerIdentity(kind="x509", chain=(bytes(der),), trusted=Trusted((bytes(der), CA.der), (factory,)))
    # The account has services of its own, so that the record is asked.
    assert await shown_at_bootstrap(database, shown, {rows.ACCOUNT}) is None


@pytest.mark.filterwarnings("ignore:Attribute's length")
@pytest.mark.parametrize("common_name", ["device\0", "d" * 4000])
async def test_a_common_name_that_no_device_can_have_is_none_of_ours(database: Database, common_name: str) -> None:
    names = ((NameOID.COMMON_NAME, common_name), (NameOID.ORGANIZATIONAL_UNIT_NAME, rows.ACCOUNT.hex))
    subject = x509.Name([x509.NameAttribute(kind, value, _validate=False) for kind, value in names])
    holder = pki.make_certificate(subject, CA, extensions=[(pki.key_usage("digital_signature"), True)])
    with pytest.raises(NotAuthorized, match="CN and OU"):
        await device_of(database, peer(holder))


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


def under(*anchors: tuple[UUID, Service], holder: pki.Holder = DEVICE) -> PeerIdentity:
    """A peer whose certificate leads to these anchors."""
    held = tuple(Anchor(id=uuid4(), account_id=of, service=service, certificate=CA.der) for of, service in anchors)
    return replace(peer(holder), trusted=Trusted((holder.der, CA.der), held))


async def test_who_trusts_a_ca_for_bootstraps_gets_no_hold_on_another_accounts_devices(
    database: Database, writer: Writer
) -> None:
    both: tuple[tuple[UUID, Service], ...] = ((rows.ACCOUNT, "lwm2m"), (uuid4(), "bootstrap"))
    assert await shown_at_bootstrap(database, under(*both)) is None
    await recorded(writer, "device-1")
    # However the path of the other account ends: at a certificate of its own making, or at the device's own.
    crafted = replace(under(*both), trusted=Trusted((DEVICE.der, DEVICE.der), under(*both).trusted.anchors))  # type: ignore[union-attr]
    alone = replace(under(*both), trusted=Trusted((DEVICE.der,), under(*both).trusted.anchors))  # type: ignore[union-attr]
    for shows in (under(*both), crafted, alone):
        shown = await shown_at_bootstrap(database, shows)
        assert shown is not None
        with pytest.raises(ClaimedElsewhere):
            require_own(shows, shown)
    own = under(*both, (rows.ACCOUNT, "bootstrap"))
    shown = await shown_at_bootstrap(database, own)
    assert shown is not None
    require_own(own, shown)
    # A factory whose CA signs nothing operational is not looked up.
    assert await shown_at_bootstrap(database, under(both[1])) is None


async def test_where_no_ca_of_it_is_trusted_for_bootstraps_whose_it_is_is_not_asked(
    database: Database, writer: Writer
) -> None:
    # policy.account_of_peer refuses it and says that; "of another account" was untrue of a server with one.
    await recorded(writer, "device-1")
    for account in (rows.ACCOUNT, uuid4()):
        shows = under((account, "lwm2m"))
        assert await shown_at_bootstrap(database, shows) is None
        with pytest.raises(NotAuthorized, match="leads to no trusted certificate of service bootstrap"):
            account_of_peer(shows, None)


async def test_the_certificate_of_a_custom_service_is_known_for_one_whatever_its_ca_is_trusted_for(
    database: Database, writer: Writer
) -> None:
    await recorded(writer, "device-1", service="meter")
    for anchors in ([(rows.ACCOUNT, "bootstrap")], [(rows.ACCOUNT, "bootstrap"), (rows.ACCOUNT, "lwm2m")]):
        shown = await shown_at_bootstrap(database, under(*anchors), {rows.ACCOUNT})  # type: ignore[arg-type]
        assert shown is not None
        with pytest.raises(NotAuthorized, match="for the service meter alone"):
            require_bootstraps(shown)


async def test_what_was_revoked_is_no_bootstrap_credential_either(database: Database, writer: Writer) -> None:
    made = await recorded(writer, "device-1")
    await certificates.revoke(database, ACTOR, rows.ACCOUNT, made.id, "keyCompromise", datetime.now(UTC))
    shows = under((rows.ACCOUNT, "lwm2m"), (rows.ACCOUNT, "bootstrap"))
    shown = await shown_at_bootstrap(database, shows)
    assert shown is not None
    with pytest.raises(NotAuthorized, match="revoked"):
        require_own(shows, shown)


async def test_a_revoked_certificate_with_its_signature_in_the_other_form_is_the_revoked_one(
    database: Database, writer: Writer
) -> None:
    holder = named("device-1", rows.ACCOUNT)
    made = await recorded(writer, "device-1", holder=holder)
    await writer.write(rows.device(rows.intent("device-1")))
    await certificates.revoke(database, ACTOR, rows.ACCOUNT, made.id, "keyCompromise", datetime.now(UTC))
    other = in_the_other_form(holder)
    other.certificate.verify_directly_issued_by(CA.certificate)
    assert other.der != holder.der
    with pytest.raises(NotAuthorized, match="revoked"):
        await device_of(database, peer(other))


def in_the_other_form(holder: pki.Holder) -> pki.Holder:
    """The same certificate with -s for s in its ECDSA signature, which needs no key (SEC 1 4.1.4)."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    r, s = decode_dss_signature(holder.certificate.signature)
    signature = encode_dss_signature(r, order - s)
    tbs = holder.certificate.tbs_certificate_bytes
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    bits = b"\x03" + bytes([len(signature) + 1]) + b"\x00" + signature
    body = tbs + algorithm + bits
    der = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    return holder._replace(certificate=x509.load_der_x509_certificate(der))


async def test_a_bootstrap_anchor_or_a_key_is_no_operational_certificate(database: Database) -> None:
    assert is_operational(peer())
    assert not is_operational(peer(service="bootstrap"))
    with pytest.raises(NotAuthorized, match="service lwm2m"):
        await device_of(database, peer(service="bootstrap"))
    key = PreSharedKey(id=uuid4(), account_id=rows.ACCOUNT, identity=b"i", key=b"k", endpoint="device-1")
    with pytest.raises(NotAuthenticated):
        await device_of(database, PeerIdentity(kind="psk", psk_identity=b"i", psk=key))
