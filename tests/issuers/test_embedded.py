"""The embedded CA reads plain names from their bytes: what it signs is what the builder makes of the name itself."""

import json
import re
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type as Kind
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from issuers.csr import make_csr
from issuers.embedded import BACKDATE, EmbeddedIssuer, EmbeddedOptions, _subject
from issuers.errors import Misconfigured, Rejected
from issuers.journal import JournalEntry, Signed
from tests.issuers.rigs import NOW, make_bundle, make_request
from tests.pki import make_key

ENDPOINT = "urn:dev:os:0001"
BUNDLE = make_bundle()
KEY = make_key()

kinds = st.sampled_from((Kind.UTF8String, Kind.PrintableString))
common_names = st.builds(
    x509.NameAttribute, st.just(NameOID.COMMON_NAME), st.sampled_from((ENDPOINT, ENDPOINT, ENDPOINT, "other")), kinds
)
others = st.builds(
    lambda oid, text: x509.NameAttribute(oid, text, Kind.UTF8String, _validate=False),
    st.sampled_from((NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.LOCALITY_NAME, NameOID.EMAIL_ADDRESS)),
    st.sampled_from(("x", "", "a b", "Ελληνικά", "dev@example.com", "y" * 64)),
)
# With an address or without, empty attributes, no common name or two of them.
names = st.builds(
    lambda first, more: x509.Name([*first, *more]),
    st.lists(common_names, min_size=1, max_size=2) | st.just([]),
    st.lists(others, max_size=3),
)


def opened(options: EmbeddedOptions, journal: list[JournalEntry]) -> EmbeddedIssuer:
    return EmbeddedIssuer(
        key=BUNDLE.keys.issuing,
        chain=(BUNDLE.issuing,),
        root=BUNDLE.device_root,
        options=options,
        journal=journal.append,
    )


@given(names, st.booleans())
@settings(deadline=None)
async def test_it_signs_what_the_builder_makes_of_the_same_name(name: x509.Name, key_identifier: bool) -> None:
    issuer = opened(EmbeddedOptions(subject_key_identifier=key_identifier), [])
    request = replace(make_request(ENDPOINT), csr=make_csr(KEY, name))
    begin = request.not_before.replace(microsecond=0)
    try:
        subject = _subject(name, ENDPOINT)
        emails = subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
        end = begin + EmbeddedOptions().validity
        built = issuer._built(subject, KEY.public_key(), request.serial, begin - BACKDATE, end, emails)
    except Rejected as refusal:
        reason = re.escape(refusal.message)
        with pytest.raises(Rejected, match=reason):
            await issuer.issue(request)
        return
    issued = await issuer.issue(request)
    assert issued.der == built.public_bytes(Encoding.DER)
    assert issued.leaf == built


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["other"], "CN is 'other'"),
        ([], "CN is missing"),
        ([ENDPOINT, ENDPOINT], f"CN is '{ENDPOINT}', '{ENDPOINT}'"),
        ([ENDPOINT, "other"], f"CN is '{ENDPOINT}', 'other'"),
    ],
)
async def test_it_signs_no_name_but_the_one_that_was_authenticated(said: list[str], words: str) -> None:
    """Whoever called it has checked the CSR; a CA answers for what it signs itself."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, each, _validate=False) for each in said]
    name = x509.Name([*attributes, x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "x")])
    journal: list[JournalEntry] = []
    with pytest.raises(Rejected, match=re.escape(words)):
        await opened(EmbeddedOptions(), journal).issue(replace(make_request(ENDPOINT), csr=make_csr(KEY, name)))
    assert journal == []


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1()], ids=lambda curve: curve.name)
async def test_it_signs_keys_on_p256_alone(curve: ec.EllipticCurve) -> None:
    journal: list[JournalEntry] = []
    with pytest.raises(Rejected, match="P-256 keys only"):
        await opened(EmbeddedOptions(), journal).issue(make_request(key=ec.generate_private_key(curve)))
    assert journal == []


async def test_no_certificate_ends_after_its_issuing_ca_and_none_is_made_when_that_has_ended() -> None:
    end = BUNDLE.issuing.not_valid_after_utc
    issuer, journal = opened(EmbeddedOptions(), []), list[JournalEntry]()
    whole = (await issuer.issue(make_request(not_before=NOW))).leaf
    assert whole.not_valid_after_utc == NOW + EmbeddedOptions().validity
    last = (await issuer.issue(make_request(not_before=end - timedelta(days=1)))).leaf
    assert last.not_valid_after_utc == end
    longer = (await issuer.issue(make_request(validity=timedelta(days=36525)))).leaf
    assert longer.not_valid_after_utc == end
    for late in (end, end + timedelta(days=1)):
        with pytest.raises(Misconfigured, match="compare this machine's clock"):
            await opened(EmbeddedOptions(), journal).issue(make_request(not_before=late))
    assert journal == []


@pytest.mark.parametrize(
    "kind", [Kind.T61String, Kind.BMPString, Kind.UniversalString, Kind.IA5String, Kind.VisibleString, Kind.OctetString]
)
@pytest.mark.parametrize("alone", [True, False])
async def test_a_name_in_another_kind_of_string_is_written_as_utf8(kind: Kind, alone: bool) -> None:
    """RFC 5280 4.1.2.4: a CA writes PrintableString or UTF8String; others are misread."""
    attributes = [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "FI"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "ACME", Kind.PrintableString),
        x509.NameAttribute(NameOID.COMMON_NAME, ENDPOINT, kind),
    ]
    groups = [[each] for each in attributes] if alone else [attributes]
    name = x509.Name(map(x509.RelativeDistinguishedName, groups))
    leaf = (await opened(EmbeddedOptions(), []).issue(replace(make_request(ENDPOINT), csr=make_csr(KEY, name)))).leaf
    assert leaf.subject == name
    kinds = {attribute.oid: attribute._type for attribute in leaf.subject}
    assert kinds == {
        NameOID.COUNTRY_NAME: Kind.PrintableString,
        NameOID.ORGANIZATION_NAME: Kind.UTF8String,
        NameOID.COMMON_NAME: Kind.UTF8String,
    }


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (x509.NameAttribute(NameOID.SERIAL_NUMBER, "a@example.com", Kind.IA5String), "characters it cannot have"),
        (x509.NameAttribute(NameOID.EMAIL_ADDRESS, "ä@example.com", Kind.UTF8String), "characters it cannot have"),
        (x509.NameAttribute(NameOID.COUNTRY_NAME, "F*", Kind.UTF8String), "characters it cannot have"),
    ],
    ids=["serialNumber", "emailAddress", "country"],
)
async def test_a_value_that_the_string_of_its_type_does_not_hold_is_refused(
    odd: x509.NameAttribute[str], why: str
) -> None:
    """RFC 5280 A.1: serialNumber and country are PrintableStrings, an address is an IA5String."""
    name = x509.Name([odd, x509.NameAttribute(NameOID.COMMON_NAME, ENDPOINT, Kind.T61String)])
    request = replace(make_request(ENDPOINT), csr=make_csr(KEY, name))
    with pytest.raises(Rejected, match=f"cannot stand in a certificate: .*{why}"):
        await opened(EmbeddedOptions(), []).issue(request)


async def test_an_attribute_without_a_value_is_left_out_of_the_certificate() -> None:
    """X.520 knows none, and readers choke on it; some devices send an empty L and OU."""
    empty = [
        x509.NameAttribute(oid, "", _validate=False)
        for oid in (NameOID.LOCALITY_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)
    ]
    named = x509.NameAttribute(NameOID.COMMON_NAME, ENDPOINT)
    request = replace(make_request(ENDPOINT), csr=make_csr(KEY, x509.Name([*empty, named])))
    assert (await opened(EmbeddedOptions(), []).issue(request)).leaf.subject == x509.Name([named])


@given(endpoint=st.text(max_size=20), recovered=st.booleans())
def test_a_line_of_the_journal_is_the_json_of_its_fields(endpoint: str, recovered: bool) -> None:
    request = make_request()
    entry = Signed(
        serial=request.serial,
        endpoint=endpoint,
        csr_sha256=bytes(32),
        spki_sha256=b"\x01" * 32,
        certificate_sha256=b"\xff" * 32,
        issuance_id=request.issuance_id,
        requested_at=request.not_before,
        purpose='device "of ours"',
        recovered=recovered,
    )
    assert entry.as_json() == json.dumps(
        {
            "event": "signed",
            "serial": f"{entry.serial:x}",
            "endpoint": endpoint,
            "csr_sha256": "00" * 32,
            "spki_sha256": "01" * 32,
            "certificate_sha256": "ff" * 32,
            "issuance_id": request.issuance_id.hex,
            "requested_at": request.not_before.isoformat(),
            "purpose": 'device "of ours"',
            "recovered": recovered,
        }
    )
