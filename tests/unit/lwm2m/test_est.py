"""lwm2m/est.py against RFC 9148, and the Izuma client's chain format."""

from __future__ import annotations

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from lwm2m import est
from lwm2m.errors import DecodeError, EncodeError
from lwm2m.est import CsrAttribute, Function, MediaType, Resource
from lwm2m.link_format import parse, serialise
from lwm2m.multipart import decode_parts
from lwm2m.pkcs7 import decode_certificates
from tests.unit.lwm2m import vectors

APPENDIX_A = {vector["name"]: bytes.fromhex(vector["hex"]) for vector in vectors.load("rfc9148-appendix-a.json")}


@pytest.mark.parametrize("root", [(".well-known", "est"), ("est",)], ids=["default", "short"])
@pytest.mark.parametrize("function", Function, ids=lambda function: function.value)
def test_both_roots_have_every_function_with_and_without_a_label(root: tuple[str, ...], function: Function) -> None:
    short = len(root) == 1
    assert est.parse_path((*root, function.value)) == Resource(function, None, short)
    assert est.parse_path((*root, "DLMS", function.value)) == Resource(function, "DLMS", short)


def test_the_label_is_the_service() -> None:
    assert [Resource(Function.ENROLL, label).service for label in (None, "LWM2M", "lwm2m", "Wi-SUN")] == [
        "LWM2M",
        "LWM2M",
        "lwm2m",
        "Wi-SUN",
    ]


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("",),
        ("est",),
        (".well-known",),
        (".well-known", "est"),
        ("est", ""),
        ("est", "SEN"),
        ("est", "simpleenroll"),
        ("est", "", "sen"),
        ("est", "a b", "sen"),
        ("est", "ä", "sen"),
        ("est", "l" * 51, "sen"),
        ("est", "label", "label", "sen"),
        ("est", "sen", "label"),
        (".well-known", "sen"),
    ],
    ids="/".join,
)
def test_other_paths_are_no_resource(path: tuple[str, ...]) -> None:
    assert est.parse_path(path) is None


def test_a_function_may_also_be_a_label() -> None:
    assert est.parse_path(("est", "crts", "sen")) == Resource(Function.ENROLL, "crts", True)
    assert est.parse_path(("est", "l" * 50, "sen")) is not None


def test_certificates_come_as_pkcs7_unless_one_alone_is_asked_for() -> None:
    for function in (Function.CA_CERTIFICATES, Function.ENROLL, Function.REENROLL):
        answers = [est.answer_format(function, accept) for accept in (None, 281, 287, 286, 0)]
        assert answers == [MediaType.PKCS7, MediaType.PKCS7, MediaType.CERTIFICATE, None, None]
    assert est.answer_format(Function.CA_CERTIFICATES, 62) is MediaType.MULTIPART
    assert est.answer_format(Function.ENROLL, 62) is est.answer_format(Function.REENROLL, 62) is None
    for function in (Function.SERVER_KEY, Function.SERVER_KEY_CERTIFICATE):
        assert [est.answer_format(function, accept) for accept in (None, 62, 281)] == [62, 62, None]
    assert [est.answer_format(Function.CSR_ATTRIBUTES, accept) for accept in (None, 285, 60)] == [285, 285, None]


def test_a_csr_without_a_format_is_taken_and_as_text_below_the_short_root_only() -> None:
    standard, short = Resource(Function.ENROLL), Resource(Function.ENROLL, short=True)
    assert [est.takes_request_format(standard, number) for number in (None, 286, 0, 42)] == [True, True, False, False]
    assert [est.takes_request_format(short, number) for number in (None, 286, 0, 42)] == [True, True, True, False]


# -- RFC 9148 appendix A ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["A.1 cacerts", "A.2 enroll, response"])
def test_the_certificates_of_the_appendix_are_read_and_written(name: str) -> None:
    chain = decode_certificates(APPENDIX_A[name])
    assert [x509.load_der_x509_certificate(each).version for each in chain] == [x509.Version.v3]
    assert est.encode_chain(chain, MediaType.PKCS7, "leaf-first") == APPENDIX_A[name]
    assert est.encode_chain(chain, MediaType.PKCS7, "der") == APPENDIX_A[name]
    assert est.encode_chain(chain, MediaType.CERTIFICATE, "leaf-first") == chain[0]


@pytest.mark.parametrize("name", ["A.2 enroll, request", "A.3 serverkeygen, request"])
def test_the_requests_of_the_appendix_prove_possession(name: str) -> None:
    assert x509.load_der_x509_csr(APPENDIX_A[name]).is_signature_valid


def test_the_enrolled_certificate_of_the_appendix_is_for_the_key_of_its_request() -> None:
    csr = x509.load_der_x509_csr(APPENDIX_A["A.2 enroll, request"])
    (leaf,) = decode_certificates(APPENDIX_A["A.2 enroll, response"])
    assert x509.load_der_x509_certificate(leaf).public_key() == csr.public_key()


def test_the_server_made_key_of_the_appendix_comes_with_its_certificate() -> None:
    parts = decode_parts(APPENDIX_A["A.3 serverkeygen, response"])
    assert [(format, len(content)) for format, content in parts] == [(MediaType.PKCS8, 138), (MediaType.PKCS7, 467)]
    (leaf,) = decode_certificates(parts[1][1])
    assert est.encode_chain((leaf,), MediaType.PKCS7, "leaf-first") == parts[1][1]


def test_the_csr_attributes_of_the_appendix_are_read_and_written() -> None:
    attributes = est.decode_csr_attributes(APPENDIX_A["A.4 csrattrs"])
    assert [attribute.values is None for attribute in attributes] == [True, False, True, False, True, True]
    assert est.encode_csr_attributes(attributes) == APPENDIX_A["A.4 csrattrs"]


def test_what_a_csr_must_be_made_with_is_a_p_256_key_and_ecdsa_with_sha_256() -> None:
    # RFC 5480 2.1.1, RFC 5758 3.2.
    expected = "3021 3015 06072a8648ce3d0201 310a 06082a8648ce3d030107 06082a8648ce3d040302"
    assert est.encode_csr_attributes(est.WANTED_CSR) == bytes.fromhex(expected)


# -- round trips ------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=5))
def test_an_izuma_chain_is_read_back(chain: list[bytes]) -> None:
    assert est.decode_izuma_chain(est.encode_izuma_chain(chain)) == tuple(chain)


def test_an_izuma_chain_has_its_version_its_count_and_two_byte_lengths() -> None:
    assert est.encode_izuma_chain((b"leaf", b"ca")).hex() == "0102" + "0004" + b"leaf".hex() + "0002" + b"ca".hex()


@pytest.mark.parametrize("chain", [(), (b"",), (b"x",) * 6, (b"x" * 65536,)], ids=["none", "empty", "six", "long"])
def test_an_izuma_chain_that_no_client_could_read_is_not_written(chain: tuple[bytes, ...]) -> None:
    with pytest.raises(EncodeError):
        est.encode_izuma_chain(chain)


@given(st.binary(max_size=64))
def test_reading_an_izuma_chain_fails_in_one_way_only(payload: bytes) -> None:
    try:
        chain = est.decode_izuma_chain(payload)
    except DecodeError:
        return
    assert est.encode_izuma_chain(chain) == payload


@given(
    st.lists(
        st.builds(
            CsrAttribute,
            st.binary(min_size=1, max_size=12),
            st.none() | st.lists(st.sampled_from([b"\x05\x00", b"\x0c\x01a"]), max_size=3).map(tuple),
        ),
        max_size=6,
    )
)
def test_csr_attributes_are_read_back(attributes: list[CsrAttribute]) -> None:
    assert est.decode_csr_attributes(est.encode_csr_attributes(attributes)) == tuple(attributes)


@given(st.binary(max_size=48))
def test_reading_csr_attributes_fails_in_one_way_only(payload: bytes) -> None:
    try:
        attributes = est.decode_csr_attributes(payload)
    except DecodeError:
        return
    assert est.encode_csr_attributes(attributes) == payload


# -- discovery --------------------------------------------------------------------------------------------------


def found(*query: str, labels: tuple[str, ...] = ()) -> list[str]:
    return [link.target for link in est.links(labels, query)]


def test_discovery_shows_every_function_with_its_formats() -> None:
    text = serialise(est.links((), ["rt=ace.est*"])).decode()
    assert '</est/sen>;rt="ace.est.sen";ct="281 287"' in text.split(",")
    assert '</.well-known/est/att>;rt="ace.est.att";ct=285' in text.split(",")
    assert '</est/skg>;rt="ace.est.skg";ct=62' in text.split(",")
    assert len(parse(text.encode())) == 2 * len(Function)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("rt=ace.est.sren", ["/.well-known/est/sren", "/est/sren"]),
        ("rt=ace.est.s", []),
        ("rt=ace.est.sr*", ["/.well-known/est/sren", "/est/sren"]),
        ("rt=core.rd", []),
        ("href=/est/crts", ["/est/crts"]),
        ("ct=285", ["/.well-known/est/att", "/est/att"]),
        ("if=x", []),
    ],
)
def test_discovery_filters_as_asked(query: str, expected: list[str]) -> None:
    assert found(query) == expected


def test_discovery_shows_the_labels_of_custom_services() -> None:
    assert found("rt=ace.est.sen", labels=("DLMS",)) == [
        "/.well-known/est/sen",
        "/est/sen",
        "/.well-known/est/DLMS/sen",
        "/est/DLMS/sen",
    ]
    assert found("rt=ace.est.sen", "href=/est/DLMS*", labels=("DLMS",)) == ["/est/DLMS/sen"]


@given(st.binary(max_size=40))
def test_what_a_csr_asks_for_is_read_or_refused_in_one_way_only(csr: bytes) -> None:
    for each in (csr, b"\x30\x00", b"\x30\x02\x30\x00"):
        try:
            assert not est.asks_for_protected_key(each)
        except DecodeError:
            pass
