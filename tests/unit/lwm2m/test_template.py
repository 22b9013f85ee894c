"""A template against its readable twin, the whole encoding."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwm2m.content_format import WRITE_FORMATS, ContentFormat, encode_instance
from lwm2m.errors import EncodeError
from lwm2m.objects import ObjectInstance
from lwm2m.plan import Credential, PskCredential, SecurityPlan
from lwm2m.template import Template
from lwm2m.writes import security_instance, security_payload
from tests.unit.lwm2m.instances import ids, texts

formats = st.sampled_from(list(WRITE_FORMATS.values()))
# Where the length of a value changes how it is written: 7, 23, 255 and 65535 bytes.
values = st.one_of(st.binary(max_size=300), st.sampled_from([7, 8, 23, 24, 255, 256, 65535, 65536]).map(bytes))
securities = st.builds(
    SecurityPlan,
    uri=texts,
    short_server_id=st.integers(1, 65534),
    mode=st.sampled_from(["server-key", "est", "est-then-server-key", "psk", "nosec"]),
    server_certificate=st.one_of(st.none(), st.binary(max_size=300)),
    certificate_usage=st.one_of(st.none(), st.integers(0, 3)),
    matching_type=st.one_of(st.none(), st.integers(0, 4)),
    sni=st.one_of(st.none(), texts),
    ciphersuites=st.lists(st.integers(0, 65535), max_size=3).map(tuple),
)
credentials = st.one_of(
    st.none(),
    st.builds(Credential, chain=st.lists(values, max_size=3).map(tuple), private_key_pkcs8=values),
    st.builds(PskCredential, identity=values, key=values),
)


def outcome(encode: Callable[[], bytes]) -> bytes | str:
    """What was encoded, or why nothing was."""
    try:
        return encode()
    except EncodeError as error:
        return str(error)


@given(securities, ids, credentials, formats, st.booleans(), st.booleans())
def test_a_security_instance_from_its_template_is_the_one_encoded_whole(
    security: SecurityPlan,
    id: int,
    credential: Credential | PskCredential | None,
    format: ContentFormat,
    est: bool,
    pem: bool,
) -> None:
    whole = outcome(lambda: encode_instance(security_instance(security, id, credential, est=est, pem=pem), format))
    for _ in range(2):
        filled = outcome(lambda: security_payload(security, id, credential, format, est=est, pem=pem))
        assert filled == whole


@pytest.mark.parametrize("format", WRITE_FORMATS.values())
def test_what_cannot_be_told_from_the_rest_makes_no_template(format: ContentFormat) -> None:
    with pytest.raises(EncodeError, match="other than once"):
        Template(ObjectInstance(999, 1, {0: "coaps://a", 3: "text"}), (3,), format)


@pytest.mark.parametrize("format", WRITE_FORMATS.values())
def test_a_gap_takes_bytes_alone(format: ContentFormat) -> None:
    template = Template(ObjectInstance(0, 1, {0: "coaps://a", 3: bytes(32)}), (3,), format)
    with pytest.raises(EncodeError, match="not opaque"):
        template.filled(("text",))  # type: ignore[arg-type]


def test_the_key_of_one_device_never_stays_in_the_template_of_the_next() -> None:
    security = SecurityPlan(uri="coaps://a", short_server_id=1, mode="psk")
    first, second = (PskCredential(identity=name, key=name * 8) for name in (b"first", b"second"))
    for credential, other in ((first, second), (second, first)):
        written = security_payload(security, 1, credential, ContentFormat.TLV, est=False, pem=False)
        assert credential.key in written
        assert other.key not in written
