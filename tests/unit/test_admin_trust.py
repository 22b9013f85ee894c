"""Trusted certificates as operators give them: a file of PEM or DER, one or several, in whatever order."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.admin.trust import lowest, parse
from server.errors import BadRequest
from tests import pki
from tests.unit.issuers import surgery

ROOT = pki.make_factory_ca("Root")
MIDDLE = pki.make_factory_ca("Middle", issuer=ROOT)
LOW = pki.make_factory_ca("Low", issuer=MIDDLE)
ELSEWHERE = pki.make_factory_ca("Elsewhere")


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
