"""Certificates read from their bytes against the readable twin, the library's own parser: whatever the quick reader
takes, the library reads to the same, however the bytes were made; and what it leaves alone loses nothing by it.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from issuers.der import certificate_parts, names
from issuers.end_entity import LARGEST, EndEntity, end_entity
from issuers.name import plain_name
from tests import pki
from tests.unit.issuers.surgery import ECDSA_SHA256, element

CA = pki.make_factory_ca("Root")
KEY = pki.make_key()
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
P384 = ec.generate_private_key(ec.SECP384R1())
USUAL = (
    (pki.key_usage("digital_signature"), True),
    (x509.ExtendedKeyUsage(pki.CLIENT_AUTH), False),
    (x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()), False),
    (x509.AuthorityKeyIdentifier.from_issuer_public_key(CA.key.public_key()), False),
    (x509.BasicConstraints(ca=False, path_length=None), True),
    (x509.SubjectAlternativeName([x509.DNSName("a.example"), x509.UniformResourceIdentifier("urn:dev:1")]), False),
)


def read(der: bytes) -> EndEntity:
    found = end_entity(der)
    assert found is not None
    return found


def same_as_the_library(plain: EndEntity, der: bytes) -> None:
    """Every part, by a parser that shares nothing with ours."""
    library = x509.load_der_x509_certificate(der)
    said = {type(each.value): each for each in library.extensions}
    assert library.version is x509.Version.v3
    assert library.public_bytes(Encoding.DER) == der
    assert plain.serial == library.serial_number > 0
    assert (plain.issuer, plain.subject) == names(der)
    assert (plain.issuer, plain.subject) == (library.issuer.public_bytes(), library.subject.public_bytes())
    for attributes, name in ((plain.issuer_attributes, library.issuer), (plain.attributes, library.subject)):
        assert [(f"2.5.4.{kind}", value) for kind, value in attributes] == [
            (each.oid.dotted_string, each.value) for each in name
        ]
    assert (plain.not_before, plain.not_after) == (library.not_valid_before_utc, library.not_valid_after_utc)
    key = library.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert plain.spki == key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert plain.tbs == library.tbs_certificate_bytes
    assert plain.signature == library.signature
    assert isinstance(library.signature_algorithm_parameters, ec.ECDSA)
    assert library.signature_hash_algorithm is not None
    assert plain.digest.name == library.signature_hash_algorithm.name
    basic = said.pop(x509.BasicConstraints, None)
    assert basic is None or basic.value == x509.BasicConstraints(ca=False, path_length=None)
    usage = said.pop(x509.KeyUsage, None)
    assert plain.extensions.key_usage == (usage and usage.value)
    assert plain.extensions.key_usage_critical == bool(usage and usage.critical)
    purposes = said.pop(x509.ExtendedKeyUsage, None)
    assert plain.extensions.extended_key_usage == (purposes and purposes.value)
    own, above = said.pop(x509.SubjectKeyIdentifier, None), said.pop(x509.AuthorityKeyIdentifier, None)
    assert own is None or isinstance(own.value, x509.SubjectKeyIdentifier)
    assert above is None or isinstance(above.value, x509.AuthorityKeyIdentifier)
    assert plain.extensions.subject_key_id == (own and own.value.digest)
    assert plain.extensions.authority_key_id == (above and above.value.key_identifier)
    assert plain.extensions.has_san == (said.pop(x509.SubjectAlternativeName, None) is not None)
    assert not said


# -- certificates made of parts that come in all shapes ---------------------------------------------------


def assembled(
    *,
    version: bytes = bytes.fromhex("a003020102"),
    serial: bytes = element(0x02, b"\x7f"),
    algorithm: bytes = ECDSA_SHA256,
    outer: bytes | None = None,
    issuer: bytes = CA.certificate.subject.public_bytes(),
    times: bytes = element(0x30, element(0x17, b"260101000000Z"), element(0x17, b"360101000000Z")),
    subject: bytes = pki.make_name("device").public_bytes(),
    spki: bytes = SPKI,
    extensions: bytes = b"",
    signature: bytes = element(0x03, b"\0" + KEY.sign(b"", ec.ECDSA(hashes.SHA256()))),
) -> bytes:
    """A certificate in DER; neither parser looks at what its signature signs."""
    inner = element(0x30, version, serial, algorithm, issuer, times, subject, spki, extensions)
    return element(0x30, inner, algorithm if outer is None else outer, signature)


def extensions_of(*each: tuple[x509.ExtensionType, bool]) -> bytes:
    return certificate_parts(pki.make_certificate("device", CA, key=KEY, extensions=each).der).extensions


def extension(last: int, content: bytes, critical: bytes = b"") -> bytes:
    """One extension of id-ce."""
    return element(0x30, bytes((0x06, 0x03, 0x55, 0x1D, last)), critical, element(0x04, content))


USUAL_EXTENSIONS = extensions_of(*USUAL)


def test_what_nearly_every_certificate_has_is_read() -> None:
    der = assembled(extensions=USUAL_EXTENSIONS)
    plain = read(der)
    same_as_the_library(plain, der)
    assert plain.extensions.key_usage_critical
    assert plain.extensions.has_san


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), None])
@pytest.mark.parametrize("extensions", [(), USUAL[:1], USUAL[:2], USUAL[1:], USUAL])
def test_certificates_of_the_library_are_read(
    digest: hashes.SHA256 | hashes.SHA384 | None, extensions: tuple[tuple[x509.ExtensionType, bool], ...]
) -> None:
    subject = pki.make_name("urn:dev:1", organizational_unit_name="a" * 32, locality_name="b" * 64)
    now = datetime(2040, 2, 29, 23, 59, 59, tzinfo=UTC)
    holder = pki.make_certificate(
        subject, CA, not_before=now, not_after=now + timedelta(days=9999), digest=digest, extensions=extensions
    )
    same_as_the_library(read(holder.der), holder.der)


@pytest.mark.parametrize(
    "holder",
    [
        CA,
        pki.make_certificate("device", CA, key=P384),
        pki.make_certificate("device", CA, key=rsa.generate_private_key(65537, 2048)),
        pki.make_certificate("device", CA, digest=hashes.SHA224()),
        pki.make_certificate("device", pki.make_certificate("RSA", key=rsa.generate_private_key(65537, 2048))),
        pki.make_certificate("dévice", CA),
        pki.make_certificate("device", pki.make_certificate("Rööt")),
        pki.make_certificate("device", CA, extensions=[(x509.OCSPNoCheck(), False)]),
        pki.make_certificate(x509.Name([]), CA, extensions=[(x509.NameConstraints([x509.DNSName("a")], None), True)]),
    ],
    ids=lambda holder: holder.certificate.subject.rfc4514_string(),
)
def test_other_certificates_are_the_librarys(holder: pki.Holder) -> None:
    assert end_entity(holder.der) is None


def test_a_certificate_too_large_to_be_remembered_is_the_librarys() -> None:
    names = [x509.DNSName(f"{number}.example.com") for number in range(200)]
    holder = pki.make_certificate("device", CA, extensions=[(x509.SubjectAlternativeName(names), False)])
    assert len(holder.der) > LARGEST
    assert end_entity(holder.der) is None


digits = st.text("0123456789", min_size=10, max_size=16)
days = st.datetimes(datetime(1940, 1, 1), datetime(2100, 1, 1))
times = st.one_of(
    days.map(lambda at: element(0x17, f"{at:%y%m%d%H%M%S}Z".encode())),
    days.map(lambda at: element(0x18, f"{at:%Y%m%d%H%M%S}Z".encode())),
    st.tuples(st.sampled_from((0x17, 0x18)), digits, st.sampled_from(("Z", "", "+0100", "z"))).map(
        lambda parts: element(parts[0], (parts[1] + parts[2]).encode())
    ),
    st.sampled_from(
        [
            element(0x17, text.encode())
            for text in ("260229000000Z", "261301000000Z", "260101240000Z", "260101006000Z", "260101000060Z", "49Z")
        ]
        + [element(0x18, text.encode()) for text in ("99991231235959Z", "20600101000000.5Z", "20490101000000Z")]
    ),
)
attributes = st.tuples(
    st.sampled_from((3, 3, 5, 6, 7, 8, 10, 11, 12, 45)),
    st.sampled_from((0x0C, 0x0C, 0x13, 0x14, 0x16, 0x1E, 0x03)),
    st.one_of(
        st.text("abcdefghijklmnopqrstuvwxyzABC 0123:-=_*@", max_size=70).map(str.encode),
        st.text(max_size=10).map(lambda text: text.encode("utf-8", "replace")),
        st.binary(max_size=5),
    ),
).map(lambda parts: element(0x30, bytes((0x06, 0x03, 0x55, 0x04, parts[0])), element(parts[1], parts[2])))
encoded_names = st.lists(st.lists(attributes, min_size=1, max_size=2), max_size=4).map(
    lambda rdns: element(0x30, *(element(0x31, *rdn) for rdn in rdns))
)
plain_names = st.lists(
    st.tuples(st.sampled_from((3, 5, 7, 8, 10, 11)), st.text("abcXYZ 0123:-", min_size=1, max_size=64)), max_size=4
).map(
    lambda pairs: element(
        0x30,
        *(
            element(0x31, element(0x30, bytes((0x06, 0x03, 0x55, 0x04, kind)), element(0x0C, text.encode())))
            for kind, text in pairs
        ),
    )
)
serials = st.one_of(
    st.integers(1, 2**159 - 1).map(lambda number: number.to_bytes(number.bit_length() // 8 + 1, "big")),
    st.binary(max_size=24),
).map(lambda content: element(0x02, content))
contents: dict[int, st.SearchStrategy[bytes]] = {
    0x0F: st.one_of(
        st.tuples(st.integers(0, 8), st.binary(max_size=3)).map(lambda p: element(0x03, bytes((p[0],)), p[1])),
        st.sampled_from([bytes.fromhex(text) for text in ("03020780", "03020520", "03020186", "030207a0", "030100")]),
    ),
    0x25: st.lists(
        st.one_of(
            st.integers(0, 0x90).map(lambda last: bytes.fromhex("06082b060105050703") + bytes((last,))),
            st.sampled_from((bytes.fromhex("0604551d2500"), bytes.fromhex("06082b06010505070802"))),
        ),
        max_size=3,
    ).map(lambda oids: element(0x30, *oids)),
    0x0E: st.binary(max_size=70).map(lambda content: element(0x04, content)),
    0x23: st.tuples(st.sampled_from((0x80, 0x80, 0x82, 0x04)), st.binary(max_size=24), st.binary(max_size=4)).map(
        lambda p: element(0x30, element(p[0], p[1]), p[2])
    ),
    0x13: st.sampled_from(
        [
            bytes.fromhex(text)
            for text in ("3000", "3000", "3003010100", "30030101ff", "30060101ff020100", "3003020100", "300000")
        ]
    ),
    0x11: st.lists(
        st.tuples(
            st.sampled_from((0x81, 0x82, 0x82, 0x86, 0x87, 0x88, 0xA4)),
            st.one_of(st.text("abc.:@/ *", max_size=12).map(str.encode), st.binary(max_size=4)),
        ).map(lambda p: element(*p)),
        max_size=3,
    ).map(lambda parts: element(0x30, *parts)),
    0x1E: st.just(bytes.fromhex("3000")),
    0x36: st.just(bytes.fromhex("020100")),
}
critical = st.sampled_from((b"", b"", bytes.fromhex("0101ff"), bytes.fromhex("010100"), bytes.fromhex("010101")))


@st.composite
def extension_blocks(draw: st.DrawFn) -> bytes:
    kinds = draw(st.lists(st.sampled_from(sorted(contents)), max_size=4))
    each = [extension(kind, draw(contents[kind]), draw(critical)) for kind in kinds]
    return element(0xA3, element(0x30, *each)) if draw(st.booleans()) or each else b""


@st.composite
def certificates(draw: st.DrawFn) -> bytes:
    """Certificates that have up to three parts of any shape among usual ones."""
    parts: dict[str, st.SearchStrategy[bytes]] = {
        "version": st.sampled_from([bytes.fromhex(text) for text in ("", "a003020101", "a003020100", "a003020103")]),
        "serial": serials,
        "algorithm": st.sampled_from([ECDSA_SHA256[:-1] + bytes((last,)) for last in range(6)]),
        "outer": st.sampled_from([ECDSA_SHA256[:-1] + bytes((last,)) for last in range(6)]),
        "issuer": encoded_names | plain_names,
        "times": st.tuples(times, times).map(lambda pair: element(0x30, *pair)),
        "subject": encoded_names | plain_names,
        "spki": st.one_of(
            st.just(CA.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
            st.just(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
            st.just(P384.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
            st.tuples(st.integers(0, len(SPKI) - 1), st.integers(0, 255)).map(
                lambda p: SPKI[: p[0]] + bytes((p[1],)) + SPKI[p[0] + 1 :]
            ),
        ),
        "extensions": extension_blocks(),
        "signature": st.tuples(st.integers(0, 9), st.binary(max_size=80)).map(
            lambda p: element(0x03, bytes((p[0],)), p[1])
        ),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(parts)), max_size=3, unique=True))
    made = {"extensions": USUAL_EXTENSIONS, **{name: draw(parts[name]) for name in chosen}}
    return assembled(**made)


@settings(max_examples=300)
@given(certificates())
def test_whatever_is_read_the_library_reads_to_the_same(der: bytes) -> None:
    plain = end_entity(der)
    if plain is not None:
        same_as_the_library(plain, der)


WHOLE = assembled(extensions=USUAL_EXTENSIONS)
edits = st.lists(
    st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 2), st.binary(max_size=2)), min_size=1, max_size=3
)


@settings(max_examples=300)
@given(edits)
def test_no_damage_makes_it_read_what_the_library_does_not(edits: Iterable[tuple[int, int, bytes]]) -> None:
    der = WHOLE
    for at, removed, put in edits:
        der = der[:at] + put + der[at + removed :]
    plain = end_entity(der)
    if plain is not None:
        same_as_the_library(plain, der)


def test_no_octet_changed_by_any_bit_makes_it_read_what_the_library_does_not() -> None:
    for at in range(len(WHOLE)):
        for bit in range(8):
            der = WHOLE[:at] + bytes((WHOLE[at] ^ 1 << bit,)) + WHOLE[at + 1 :]
            plain = end_entity(der)
            if plain is not None:
                same_as_the_library(plain, der)


def test_no_part_of_it_is_read_as_the_whole() -> None:
    assert [size for size in range(len(WHOLE)) if end_entity(WHOLE[:size]) is not None] == []
    assert end_entity(WHOLE + b"\0") is None


@given(plain_names)
def test_plain_names_are_read(name: bytes) -> None:
    said = plain_name(name)
    assert said is not None
    assert [(f"2.5.4.{kind}", value) for kind, value in said] == [
        (each.oid.dotted_string, each.value) for each in x509.Name.from_bytes(name)
    ]


@pytest.mark.parametrize("outside", '*@_&!"#$%;<>[]^`{|}~')
def test_a_printable_string_that_is_none_is_the_librarys_to_refuse(outside: str) -> None:
    value = element(0x30, bytes.fromhex("0603550403"), element(0x13, outside.encode()))
    der = assembled(subject=element(0x30, element(0x31, value)))
    assert end_entity(der) is None
    with pytest.raises(ValueError, match="PrintableString"):
        x509.load_der_x509_certificate(der)


def test_a_point_beside_the_curve_is_the_librarys_to_refuse() -> None:
    beside = SPKI[:-1] + bytes((SPKI[-1] ^ 1,))
    der = assembled(spki=beside)
    assert end_entity(der) is None
    with pytest.raises(ValueError, match=r"(?i)point|key|curve"):
        x509.load_der_x509_certificate(der).public_key()


def test_every_purpose_of_the_usual_arc_is_read() -> None:
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.OCSP_SIGNING]
    der = assembled(extensions=extensions_of((x509.ExtendedKeyUsage(purposes), True)))
    same_as_the_library(read(der), der)
