"""The embedded CA reads plain names from their bytes: what it signs is what the builder makes of the name itself."""

import json
import re
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type as Kind
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from issuers.csr import make_csr
from issuers.embedded import BACKDATE, EmbeddedIssuer, EmbeddedOptions, _subject
from issuers.errors import Rejected
from issuers.journal import JournalEntry, Signed
from tests.issuers.rigs import make_bundle, make_request
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
