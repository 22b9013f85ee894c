import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwm2m.errors import EncodeError
from lwm2m.plan import Credential, Learned, PskCredential, SecurityPlan
from lwm2m.writes import pem_bundle, security_instance

SECURITY = SecurityPlan(uri="coaps://a", short_server_id=1, mode="server-key", server_certificate=b"certificate")
CREDENTIAL = Credential(chain=(b"leaf",), private_key_pkcs8=b"key")


def resources(security: SecurityPlan) -> dict[int, object]:
    return dict(security_instance(security, 0, CREDENTIAL, est=False, pem=False).resources)


def test_optional_resources_are_written_only_when_given() -> None:
    assert set(resources(SECURITY)) == {0, 1, 2, 3, 4, 5, 10}
    full = SecurityPlan(
        uri="coaps://a",
        short_server_id=1,
        mode="server-key",
        server_certificate=b"certificate",
        certificate_usage=3,
        matching_type=0,
        sni="a.example",
        ciphersuites=(0xC0AE, 0xC023),
    )
    written = resources(full)
    assert {id: written[id] for id in (13, 14, 15, 16)} == {13: 0, 14: "a.example", 15: 3, 16: {0: 0xC0AE, 1: 0xC023}}


@pytest.mark.parametrize(("matching", "hash"), [(1, hashlib.sha256), (2, hashlib.sha384), (3, hashlib.sha512)])
def test_a_matching_type_writes_the_hash_of_the_server_certificate(matching: int, hash: type) -> None:
    security = SecurityPlan(
        uri="coaps://a", short_server_id=1, mode="server-key", server_certificate=b"certificate", matching_type=matching
    )
    assert resources(security)[4] == hash(b"certificate").digest()


@pytest.mark.parametrize(
    ("security", "credential"),
    [
        (SECURITY, None),
        (SECURITY, PskCredential(identity=b"i", key=b"k")),
        (SECURITY, Credential(chain=(), private_key_pkcs8=b"key")),
        (SecurityPlan(uri="coaps://a", short_server_id=1, mode="psk"), CREDENTIAL),
        (SecurityPlan(uri="coaps://a", short_server_id=1, mode="server-key"), CREDENTIAL),
        (
            SecurityPlan(
                uri="coaps://a", short_server_id=1, mode="server-key", server_certificate=b"c", matching_type=4
            ),
            CREDENTIAL,
        ),
    ],
)
def test_what_does_not_make_an_instance_is_our_mistake(
    security: SecurityPlan, credential: Credential | PskCredential | None
) -> None:
    with pytest.raises(EncodeError):
        security_instance(security, 0, credential, est=False, pem=False)


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=4))
def test_a_pem_bundle_holds_the_chain_in_order_in_lines_of_64(chain: list[bytes]) -> None:
    text = pem_bundle(chain).decode("ascii")
    blocks = text.split("-----BEGIN CERTIFICATE-----\n")[1:]
    assert [base64.b64decode(block.split("-----END")[0], validate=False) for block in blocks] == chain
    assert max(map(len, text.splitlines())) <= 64
    assert text.endswith("-----END CERTIFICATE-----\n")


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", "1", '{"leaf_only": "yes", "format": 3, "newer": true}', "[" * 100_000]
)
def test_learned_facts_that_cannot_be_read_are_not_known(text: str) -> None:
    assert Learned.from_json(text) == Learned()


def test_learned_facts_survive_the_record() -> None:
    learned = Learned(discover_silent=True, leaf_only=True, est_refused=True, izuma=True, format="tlv")
    assert Learned.from_json(learned.as_json()) == learned
    assert Learned().as_json() == "{}"
