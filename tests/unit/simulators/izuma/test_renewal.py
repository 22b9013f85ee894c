"""The client's renewal: its TLV, its rules and each status it can answer."""

import asyncio

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from issuers.csr import check_csr
from simulators.izuma.chain import Named
from simulators.izuma.enrolment import LWM2M, Credential, EnrolmentFailed, first_request, renewal_request, subject
from simulators.izuma.renewal import BadInput, Renewals, Status, read_request
from tests.unit.transport.certificates import HOUR, NOW, make

ASKED = bytes.fromhex("000100064c574d324d00")
ROOT = make("Root", ca=True)


def issued(csr: bytes, *, device_id: str | None = None) -> x509.Certificate:
    """What a CA makes of a CSR; another L where one is given."""
    request = check_csr(csr)
    name = request.subject
    if device_id is not None:
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.LOCALITY_NAME, device_id),
                *(each for each in name if each.oid != NameOID.LOCALITY_NAME),
            ]
        )
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(ROOT.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - HOUR)
        .not_valid_after(NOW + HOUR)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ROOT.key.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    return builder.sign(ROOT.key, hashes.SHA256())


def credential() -> Credential:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = first_request(subject(device_id="d" * 32, account_id="a" * 32, endpoint="dev-1"), key)
    return Credential((issued(csr),), key)


async def good(_name: str, csr: bytes, key: ec.EllipticCurvePrivateKey) -> Named:
    return Named((issued(csr),), "dev-1", "d" * 32)


# -- the request --------------------------------------------------------------------------------------------


def test_the_name_is_read_with_its_nul() -> None:
    assert read_request(ASKED) == "LWM2M"


def test_an_unknown_optional_field_is_passed_over() -> None:
    assert read_request(bytes.fromhex("80070003aabbcc") + ASKED) == "LWM2M"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        ASKED[:-1],
        ASKED[:3],
        bytes.fromhex("000200014100") + ASKED,
        bytes.fromhex("000100054c574d324d"),
        bytes.fromhex("0001000100"),
        bytes.fromhex("00010003410042") + b"\0",
        bytes.fromhex("00010002ff00"),
    ],
)
async def test_a_request_that_is_not_understood_is_answered_so(payload: bytes) -> None:
    with pytest.raises(BadInput):
        read_request(payload)
    assert await Renewals({LWM2M: credential()}).renew(payload, good) is Status.BAD_INPUT


# -- the renewal --------------------------------------------------------------------------------------------


async def test_key_and_certificate_are_new_and_the_names_stay() -> None:
    before = credential()
    renewals = Renewals({LWM2M: before})
    assert await renewals.renew(ASKED, good) is Status.SUCCESS
    after = renewals.held[LWM2M]
    assert after.leaf.public_key() == after.key.public_key() != before.key.public_key()
    assert after.leaf.subject == before.leaf.subject


def test_the_request_copies_the_extensions_but_the_key_identifiers() -> None:
    present = credential()
    csr = check_csr(renewal_request(present.leaf, present.key))
    assert csr.subject == present.leaf.subject
    assert [type(each.value) for each in csr.extensions] == [x509.ExtendedKeyUsage]


def named(name: str) -> bytes:
    value = name.encode() + b"\0"
    return b"\0\1" + len(value).to_bytes(2, "big") + value


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("lwm2m", Status.ITEM_NOT_FOUND),
        ("DLMS", Status.ITEM_NOT_FOUND),
        ("mbed.BootstrapDeviceCert", Status.FORBIDDEN),
        ("mbed.BootstrapDevicePrivateKey", Status.FORBIDDEN),
    ],
)
async def test_what_cannot_be_renewed_has_its_status(name: str, status: Status) -> None:
    before = credential()
    renewals = Renewals({LWM2M: before})
    assert await renewals.renew(named(name), good) is status
    assert renewals.held == {LWM2M: before}


async def test_a_failed_enrolment_leaves_the_old_credential() -> None:
    async def bad(_name: str, _csr: bytes, _key: ec.EllipticCurvePrivateKey) -> Named:
        raise EnrolmentFailed("5.00")

    before = credential()
    renewals = Renewals({LWM2M: before})
    assert await renewals.renew(ASKED, bad) is Status.EST_ERROR
    assert renewals.held[LWM2M] is before


async def test_a_certificate_of_another_device_is_not_valid() -> None:
    async def other(_name: str, csr: bytes, _key: ec.EllipticCurvePrivateKey) -> Named:
        return Named((issued(csr, device_id="e" * 32),), "dev-1", "e" * 32)

    before = credential()
    renewals = Renewals({LWM2M: before})
    assert await renewals.renew(ASKED, other) is Status.NOT_VALID
    assert renewals.held[LWM2M] is before


async def test_one_renewal_at_a_time() -> None:
    go = asyncio.Event()

    async def slow(name: str, csr: bytes, key: ec.EllipticCurvePrivateKey) -> Named:
        await go.wait()
        return await good(name, csr, key)

    renewals = Renewals({LWM2M: credential()})
    first = asyncio.ensure_future(renewals.renew(ASKED, slow))
    await asyncio.sleep(0)
    assert await renewals.renew(ASKED, good) is Status.DEVICE_BUSY
    go.set()
    assert await first is Status.SUCCESS


@pytest.mark.parametrize("status", list(Status))
async def test_each_status_can_be_asked_of_it(status: Status) -> None:
    before = credential()
    renewals = Renewals({LWM2M: before}, answers=status)
    assert await renewals.renew(ASKED, good) is status
    assert renewals.held[LWM2M] is before
