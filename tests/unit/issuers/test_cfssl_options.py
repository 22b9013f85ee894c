"""What the options of CFSSL_AUTH take, and what of them is named at the door."""

from collections.abc import Mapping

import pytest
import respx
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from issuers import open_issuer
from issuers.errors import Misconfigured
from tests.pki import make_device_certificate, make_factory_ca
from tests.unit.issuers.cfssl import URL, opened, told

CLIENT = make_device_certificate(make_factory_ca(), "client")
PAIR = {"client_certificate": CLIENT.pem.decode(), "private_key": CLIENT.key_pem.decode()}
HTTPS = {"host_url": "https://ca.example"}


def misconfigured(
    attributes: Mapping[str, object] | None = None, credentials: Mapping[str, object] | None = None
) -> str:
    with pytest.raises(Misconfigured) as raised:
        opened(attributes, credentials)
    return raised.value.message


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"host_url": ""}, "'host_url' of issuer 'theirs' is empty; give the address of CFSSL"),
        ({"host_url": "ftp://ca.example"}, "give it as http://host:port or https://host:port"),
        ({"host_url": "http://user:pass@ca.example"}, "leave them out, every operator can read it"),
        ({"host_url": "http://ca.example/?x=1"}, "leave out what follows"),
        ({"host_url": "http://ca.example:99999"}, "ca.example:99999'; give it as http://host:port"),
        ({"host_url": "http://one:1,http://two:2"}, "names several servers; give one"),
        ({"host_url": 5}, "'host_url' of issuer 'theirs' is int; str is needed"),
        ({"cfssl_profil": "CA"}, "has no 'cfssl_profil'; did you mean 'cfssl_profile'?"),
        ({"bundle": "yes"}, "'bundle' of issuer 'theirs' is 'yes'; give 'true' or 'false'"),
        ({**HTTPS, "tls_roots": "nothing"}, "'tls_roots' of issuer 'theirs' holds no certificate"),
        (
            {"tls_roots": CLIENT.pem.decode()},
            "'tls_roots' of issuer 'theirs' is for TLS, and 'host_url' begins with http",
        ),
    ],
)
def test_an_attribute_that_cannot_be_is_named_at_the_door(attributes: dict[str, object], words: str) -> None:
    assert words in misconfigured(attributes)


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        ({"hmac_hex_key": "abc"}, "an even number of them; it has 3, an odd number"),
        ({"hmac_hex_key": "zz" * 16}, "must be 2 to 64 hexadecimal characters"),
        ({"hmac_hex_key": "ab" * 33}, "must be 2 to 64 hexadecimal characters"),
        ({"hmac_hex_key": ""}, "must be 2 to 64 hexadecimal characters"),
        ({"hmac_hexkey": "ab"}, "has no 'hmac_hexkey'; did you mean 'hmac_hex_key'?"),
        ({"client_certificate": PAIR["client_certificate"]}, "'private_key' of issuer 'theirs' is missing"),
        ({"private_key": PAIR["private_key"]}, "'client_certificate' of issuer 'theirs' is missing"),
        (PAIR, "'client_certificate' of issuer 'theirs' is for TLS, and 'host_url' begins with http://; use https://"),
    ],
)
def test_a_credential_that_cannot_be_is_named_and_never_repeated(credentials: dict[str, str], words: str) -> None:
    message = misconfigured({}, credentials)
    assert words in message
    assert not any(value in message for value in credentials.values() if value)


def test_a_key_of_another_certificate_is_misconfigured() -> None:
    other = make_device_certificate(make_factory_ca(), "other").key_pem.decode()
    assert "do not belong together" in misconfigured(HTTPS, {**PAIR, "private_key": other})


def test_an_encrypted_private_key_is_misconfigured() -> None:
    encrypted = CLIENT.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()
    assert "is encrypted" in misconfigured(HTTPS, {**PAIR, "private_key": encrypted})


def test_the_hmac_key_is_needed() -> None:
    with pytest.raises(Misconfigured, match="'hmac_hex_key' of issuer 'theirs' is missing"):
        open_issuer("CFSSL_AUTH", "theirs", {"host_url": URL}, {})


@pytest.mark.parametrize(
    ("host_url", "asked"),
    [
        ("192.0.2.7", "http://192.0.2.7:8888/api/v1/cfssl/info"),
        ("192.0.2.7:9999", "http://192.0.2.7:9999/api/v1/cfssl/info"),
        ("  http://192.0.2.7/ ", "http://192.0.2.7/api/v1/cfssl/info"),
        ("http://192.0.2.7/pki/", "http://192.0.2.7/pki/api/v1/cfssl/info"),
        ("http://192.0.2.7/pki/api/v1/cfssl/", "http://192.0.2.7/pki/api/v1/cfssl/info"),
        ("http://[2001:db8::7]:8888", "http://[2001:db8::7]:8888/api/v1/cfssl/info"),
    ],
)
async def test_a_host_url_is_read_in_every_form_operators_know(host_url: str, asked: str) -> None:
    ca = make_factory_ca("CFSSL Root")
    with respx.mock() as router:
        router.post(asked).mock(return_value=told(ca))
        assert await opened({"host_url": host_url}).ca_certificates() == (ca.certificate,)
