"""PEM as operators paste it."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from issuers.errors import Misconfigured
from issuers.pem import read_certificates, read_private_key
from tests.pki import make_factory_ca, make_key, pem_chain

WHAT = "'private_key' of issuer 'x'"
ONE, TWO = make_factory_ca("One"), make_factory_ca("Two")
RSA = rsa.generate_private_key(65537, 2048)
P256 = make_key()

# `openssl rsa -des3 -traditional`, passphrase "secret": the old form that cryptography reads and does not write.
OLD_FORM = PrivateFormat.TraditionalOpenSSL


def text_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, form: PrivateFormat, passphrase: bytes = b"") -> str:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, encryption).decode()


def flattened(text: str) -> str:
    """As a form with one line leaves it."""
    return text.replace("\n", " ")


def crushed(text: str) -> str:
    """Without any line break, as the example of the Izuma API has it."""
    return text.replace("\n", "")


@pytest.mark.parametrize(
    "damage",
    [str, flattened, crushed, lambda text: text.replace("\n", "\r\n"), lambda text: f"\n\n  {text}  \n", str.strip],
    ids=["as it is", "blanks for breaks", "no breaks", "CRLF", "padded", "stripped"],
)
def test_certificates_are_read_whatever_became_of_their_breaks(damage) -> None:  # type: ignore[no-untyped-def]
    text = damage(pem_chain(ONE, TWO).decode())
    assert read_certificates(text, "it") == (ONE.certificate, TWO.certificate)


def test_text_between_certificates_is_passed_over() -> None:
    assert read_certificates(f"subject: One\n{ONE.pem.decode()}", "it") == (ONE.certificate,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it holds no certificate; paste PEM text"),
        (text_of(P256, PrivateFormat.PKCS8), "it holds a PRIVATE KEY; only certificates belong there"),
        (ONE.pem.decode().replace("MII", "MI!", 1), "it is damaged"),
        (ONE.pem.decode().replace("MII", "MI\ufffd", 1), "it is damaged"),
        (ONE.pem.decode().replace("MII", "AII", 1), "certificate 1 of it cannot be read"),
    ],
)
def test_what_is_no_certificate_is_named(text: str, words: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        read_certificates(text, "it")
    assert words in raised.value.message


@pytest.mark.parametrize("damage", [str, flattened, crushed], ids=["as it is", "blanks for breaks", "no breaks"])
@pytest.mark.parametrize("passphrase", ["", "secret"], ids=["plain", "encrypted"])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, OLD_FORM], ids=["PKCS#8", "old form"])
@pytest.mark.parametrize("key", [RSA, P256], ids=["RSA", "P-256"])
def test_keys_are_read_in_either_form(key, form: PrivateFormat, passphrase: str, damage) -> None:  # type: ignore[no-untyped-def]
    text = damage(text_of(key, form, passphrase.encode()))
    assert read_private_key(text, passphrase, WHAT).private_numbers() == key.private_numbers()


def test_a_passphrase_for_a_plain_key_does_no_harm() -> None:
    assert read_private_key(text_of(P256, PrivateFormat.PKCS8), "not needed", WHAT).private_numbers()


@pytest.mark.parametrize(
    ("text", "passphrase", "words"),
    [
        ("", "", "holds no private keys; paste the PEM text of one key"),
        (text_of(P256, PrivateFormat.PKCS8) * 2, "", "holds 2 private keys"),
        (text_of(P256, PrivateFormat.PKCS8, b"secret"), "", "is encrypted and no passphrase is given"),
        (text_of(RSA, OLD_FORM, b"secret"), "", "is encrypted and no passphrase is given"),
        (text_of(P256, PrivateFormat.PKCS8, b"secret"), "wrong", "the passphrase is wrong, or the text is damaged"),
        (text_of(RSA, OLD_FORM, b"secret"), "wrong", "the passphrase is wrong, or the text is damaged"),
        (text_of(P256, PrivateFormat.PKCS8).replace("MIG", "AIG"), "", "cannot be read: the text is damaged"),
        (
            ed25519.Ed25519PrivateKey.generate()
            .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            .decode(),
            "",
            "neither an RSA nor an elliptic-curve key",
        ),
    ],
)
def test_what_is_no_key_is_named_and_nothing_of_it_is_repeated(text: str, passphrase: str, words: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        read_private_key(text, passphrase, WHAT)
    message = raised.value.message
    assert message.startswith(WHAT)
    assert words in message
    assert not any(line in message for line in text.splitlines() if line and "-----" not in line)
    assert raised.value.__cause__ is None
