"""Trusted certificates as operators give them: a file of PEM or DER, one or several, in whatever order."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from server.admin.trust import check_useful, doubts, lowest, parse, why_alone
from server.errors import BadRequest
from tests import pki
from tests.unit.issuers import surgery

ROOT = pki.make_factory_ca("Root")
MIDDLE = pki.make_factory_ca("Middle", issuer=ROOT)
LOW = pki.make_factory_ca("Low", issuer=MIDDLE)
ELSEWHERE = pki.make_factory_ca("Elsewhere")
NOW = datetime.now(UTC)


def wrong(data: bytes) -> str:
    with pytest.raises(BadRequest) as raised:
        parse(data)
    return raised.value.message


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (ROOT.pem, [ROOT]),
        (ROOT.der, [ROOT]),
        (pki.pem_chain(LOW, MIDDLE, ROOT), [LOW, MIDDLE, ROOT]),
        (b"subject=CN=Root\n\n" + ROOT.pem + b"\r\nother words\r\n" + MIDDLE.pem, [ROOT, MIDDLE]),
        (ROOT.pem.replace(b"\n", b"\r\n"), [ROOT]),
    ],
)
def test_pem_der_and_several_are_read(data: bytes, found: list[pki.Holder]) -> None:
    assert parse(data) == [each.certificate for each in found]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ROOT.pem[:-40],
        ROOT.der[:-1],
        ROOT.der + b"\0",
        surgery.of_unknown_version(ROOT.certificate),
    ],
    ids=["empty", "nonsense", "empty pem", "cut pem", "cut der", "bytes behind", "version 6"],
)
def test_what_is_no_certificate_is_said(data: bytes) -> None:
    assert "the file holds no certificate in PEM or DER" in wrong(data)


def test_a_private_key_beside_the_certificate_is_refused_and_not_quoted() -> None:
    message = wrong(ROOT.pem + ROOT.key_pem)
    assert "holds a private key; give the certificates alone" in message
    assert ROOT.key_pem.splitlines()[1].decode() not in message


@pytest.mark.filterwarnings("ignore")
@given(st.integers(0, 8 * len(ROOT.der) - 1))
def test_no_flipped_bit_raises_anything_else(position: int) -> None:
    data = bytearray(ROOT.der)
    data[position // 8] ^= 1 << position % 8
    try:
        parse(bytes(data))
    except BadRequest as error:
        assert error.message  # noqa: PT017


@pytest.mark.parametrize("order", list(permutations((LOW, MIDDLE, ROOT))))
def test_the_lowest_of_a_chain_is_found_in_any_order(order: tuple[pki.Holder, ...]) -> None:
    assert lowest(pki.pem_chain(*order)) == LOW.certificate


def test_one_certificate_is_its_own_chain() -> None:
    assert lowest(ROOT.pem) == ROOT.certificate
    assert lowest(ROOT.pem * 2) == ROOT.certificate


@pytest.mark.parametrize("chain", [(ROOT, ELSEWHERE), (LOW, ROOT), (LOW, MIDDLE, ROOT, ELSEWHERE)])
def test_certificates_that_are_no_one_chain_are_refused(chain: tuple[pki.Holder, ...]) -> None:
    with pytest.raises(BadRequest, match="no one chain") as raised:
        lowest(pki.pem_chain(*chain))
    assert raised.value.field == "certificate"


ITSELF = pki.make_certificate("meter-1", extensions=[(x509.BasicConstraints(ca=False, path_length=None), True)])
RSA_KEY = rsa.generate_private_key(65537, 2048)
RSA_DEVICE = pki.make_device_certificate(ROOT, "meter-2", key=RSA_KEY)
NOT_SIGNING = pki.make_certificate(
    "Half a CA", extensions=[(x509.BasicConstraints(True, None), True), (pki.key_usage("crl_sign"), True)]
)


@pytest.mark.parametrize(
    ("holder", "alone"),
    [
        (ROOT, False),
        (LOW, False),
        (pki.make_factory_ca("RSA", key=RSA_KEY), False),
        (ITSELF, True),
        (pki.make_device_certificate(ROOT, "meter-3"), True),
    ],
    ids=["root", "intermediate", "rsa root", "self-signed device", "device"],
)
def test_a_ca_vouches_for_devices_and_a_device_for_itself_alone(holder: pki.Holder, alone: bool) -> None:
    check_useful(holder.certificate, "bootstrap", NOW)
    assert bool(why_alone(holder.der)) == alone
    if alone:
        with pytest.raises(BadRequest, match="no CA's certificate"):
            check_useful(holder.certificate, "lwm2m", NOW)
    else:
        check_useful(holder.certificate, "lwm2m", NOW)


@pytest.mark.parametrize(
    ("holder", "words"),
    [(RSA_DEVICE, "RSA key cannot prove itself"), (NOT_SIGNING, "lacks keyCertSign")],
    ids=["rsa device", "keyUsage"],
)
def test_a_certificate_that_could_let_nobody_in_is_not_trusted(holder: pki.Holder, words: str) -> None:
    for service in ("bootstrap", "lwm2m"):
        with pytest.raises(BadRequest) as raised:
            check_useful(holder.certificate, service, NOW)  # type: ignore[arg-type]
        assert raised.value.field == "certificate"
        if service == "bootstrap":
            assert words in raised.value.message


PAST, FUTURE = NOW - timedelta(days=900), NOW + timedelta(days=2)
ENDED_ROOT = pki.make_factory_ca("Ended", not_before=PAST, not_after=PAST + timedelta(days=1))
ENDED_DEVICE = pki.make_device_certificate(ROOT, "meter-4", not_before=PAST, not_after=PAST + timedelta(days=1))
EARLY_ROOT = pki.make_factory_ca("Early", not_before=FUTURE)


def kinds(holder: pki.Holder, service: str) -> list[str]:
    return [doubt.kind for doubt in doubts(holder.der, service, NOW)]  # type: ignore[arg-type]


def test_what_is_trusted_and_may_not_be_meant_is_said() -> None:
    """A factory's devices come in although its CA has ended; whoever gave that one may have meant another."""
    check_useful(ENDED_ROOT.certificate, "bootstrap", NOW)
    assert kinds(ENDED_ROOT, "bootstrap") == ["expired"]
    for service in ("bootstrap", "lwm2m"):
        check_useful(EARLY_ROOT.certificate, service, NOW)  # type: ignore[arg-type]
        assert kinds(EARLY_ROOT, service) == ["not_yet_valid"]
        assert kinds(ROOT, service) == []
    [doubt] = doubts(EARLY_ROOT.der, "lwm2m", NOW)
    assert "until then no certificate that leads to it is delivered" in doubt.what
    assert kinds(ITSELF, "bootstrap") == ["one_device"]


@pytest.mark.parametrize(
    ("holder", "service", "words"),
    [
        (ENDED_ROOT, "lwm2m", "nothing that is issued may lead to it; give the present one"),
        (ENDED_DEVICE, "bootstrap", "the one device that it could let in"),
    ],
)
def test_one_that_has_ended_is_refused_where_it_lets_nobody_in(holder: pki.Holder, service: str, words: str) -> None:
    with pytest.raises(BadRequest) as raised:
        check_useful(holder.certificate, service, NOW)  # type: ignore[arg-type]
    assert words in raised.value.message
    assert f"ended on {holder.certificate.not_valid_after_utc:%Y-%m-%d}" in raised.value.message


def test_a_file_of_something_else_is_called_what_it_says_it_is() -> None:
    request = b"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"
    assert "no certificate in PEM or DER, but CERTIFICATE REQUEST;" in wrong(request)
    assert "in PEM or DER: it is empty;" in wrong(b"\n")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\n", ": it is empty; give"),
        (b"-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n", "`openssl pkcs7 -in FILE -print_certs`"),
        (
            b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "but CERTIFICATE REQUEST; give",
        ),
        (ROOT.pem[:-40], "cut off or damaged"),
        (b"nonsense", "`openssl x509 -in FILE -noout -subject`"),
    ],
    ids=["empty", "PKCS#7", "a CSR", "cut", "nonsense"],
)
def test_what_lies_there_instead_of_a_certificate_is_told_with_what_to_do(data: bytes, words: str) -> None:
    assert words in wrong(data)
