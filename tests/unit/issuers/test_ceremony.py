"""The embedded CA's ceremony: two roots that do not sign each other's kind, dates, names, a key that can leave."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from issuers import ceremony
from issuers.ceremony import CaBundle, CaName, DeviceRoot, ServerRoot
from issuers.certificate import read_certificate
from issuers.errors import BadCertificate, Misconfigured
from issuers.extensions import authority_key_identifier
from issuers.path import find_path
from tests import pki

NOW = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
SECOND = NOW.replace(microsecond=0)


def hold(
    *,
    organization: str = "Firstlight",
    country: str = "FI",
    names: Sequence[str] = ("bootstrap.example.com",),
    addresses: Sequence[str] = ("192.0.2.1", "2001:db8::1"),
) -> CaBundle:
    return ceremony.hold_ceremony(
        organization=organization,
        country=country,
        names=names,
        addresses=[ip_address(each) for each in addresses],
        keys=ceremony.make_keys(),
        serials=ceremony.make_serials(),
        now=NOW,
    )


BUNDLE = hold()
ALL = {
    "device root": BUNDLE.device_root,
    "issuing": BUNDLE.issuing,
    "server root": BUNDLE.server_root,
    "server": BUNDLE.server,
}


def signed(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(issuer)
    except (ValueError, InvalidSignature):
        return False
    return True


def test_who_signed_whom() -> None:
    signers = {(name, signer) for name, child in ALL.items() for signer, issuer in ALL.items() if signed(child, issuer)}
    assert signers == {
        ("device root", "device root"),
        ("issuing", "device root"),
        ("server root", "server root"),
        ("server", "server root"),
    }


def test_four_keys_and_four_serial_numbers() -> None:
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert len({each.public_key().public_bytes(*spki) for each in ALL.values()}) == 4
    assert len({each.serial_number for each in ALL.values()}) == 4
    assert all(64 < each.serial_number.bit_length() <= 159 for each in ALL.values())
    assert all(isinstance(each.public_key(), ec.EllipticCurvePublicKey) for each in ALL.values())


def test_the_keys_are_the_ones_of_the_certificates() -> None:
    keys = BUNDLE.keys
    held = (keys.device_root, keys.issuing, keys.server_root, keys.server)
    for key, certificate in zip(held, ALL.values(), strict=True):
        assert key.public_key() == certificate.public_key()


def test_neither_root_leads_to_the_others_kind() -> None:
    """Each kind of certificate has a path to its own root and none to the other's."""
    issuing, server = read_certificate(BUNDLE.issuing), read_certificate(BUNDLE.server)
    roots = [read_certificate(BUNDLE.device_root), read_certificate(BUNDLE.server_root)]
    assert find_path(issuing, [], roots, NOW)[-1].parsed == BUNDLE.device_root
    assert find_path(server, [], roots, NOW)[-1].parsed == BUNDLE.server_root
    for certificate, wrong in ((issuing, roots[1]), (server, roots[0])):
        with pytest.raises(BadCertificate):
            find_path(certificate, [], [wrong], NOW)


def test_the_server_root_can_have_no_ca_below_it() -> None:
    """A CA signed with the server root's key, by whatever mistake, vouches for nobody: its path length is 0."""
    root = pki.Holder(BUNDLE.keys.server_root, BUNDLE.server_root)
    mistake = pki.make_factory_ca("Mistake", issuer=root)
    leaf = pki.make_device_certificate(mistake, "device")
    with pytest.raises(BadCertificate, match="allows 0 CAs below it"):
        find_path(
            read_certificate(leaf.certificate),
            [read_certificate(mistake.certificate)],
            [read_certificate(BUNDLE.server_root)],
            datetime.now(UTC),
        )


def test_the_types_of_the_two_roots_are_different() -> None:
    assert not issubclass(DeviceRoot, ServerRoot)
    assert not issubclass(ServerRoot, DeviceRoot)


def usage(certificate: x509.Certificate) -> x509.KeyUsage:
    extension = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert extension.critical
    return extension.value


def constraints(certificate: x509.Certificate) -> x509.BasicConstraints:
    extension = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert extension.critical
    return extension.value


def test_the_profile_of_each_certificate() -> None:
    assert constraints(BUNDLE.device_root).path_length is None
    assert constraints(BUNDLE.issuing).path_length == 0
    assert constraints(BUNDLE.server_root).path_length == 0
    for name in ("device root", "issuing", "server root"):
        assert constraints(ALL[name]).ca, name
        assert usage(ALL[name]).key_cert_sign, name
        assert usage(ALL[name]).crl_sign, name
        with pytest.raises(x509.ExtensionNotFound):
            ALL[name].extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert usage(BUNDLE.issuing).digital_signature
    assert usage(BUNDLE.server).digital_signature
    assert not usage(BUNDLE.server).key_cert_sign
    purposes = BUNDLE.server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    # RFC 7030 3.6.1: a device of EST may ask for the second, id-kp-cmcRA.
    assert [purpose.dotted_string for purpose in purposes] == ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.28"]
    with pytest.raises(x509.ExtensionNotFound):
        BUNDLE.server.extensions.get_extension_for_class(x509.BasicConstraints)


def test_key_identifiers_link_each_certificate_to_its_issuer() -> None:
    for child, issuer in (
        (BUNDLE.device_root, BUNDLE.device_root),
        (BUNDLE.issuing, BUNDLE.device_root),
        (BUNDLE.server_root, BUNDLE.server_root),
        (BUNDLE.server, BUNDLE.server_root),
    ):
        above = child.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        assert above == issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


@pytest.mark.parametrize(("name", "years"), [("device root", 30), ("issuing", 10), ("server root", 30), ("server", 20)])
def test_how_long_each_is_valid(name: str, years: int) -> None:
    """Root 20 years and more, issuing CA 10; design 8: the server's certificate 20."""
    certificate = ALL[name]
    # What a device without a clock holds for now is 1970 (UTC), and it is to take the server's.
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert certificate.not_valid_before_utc == (epoch if "server" in name else SECOND - timedelta(days=1))
    assert certificate.not_valid_after_utc == SECOND + timedelta(days=365.25 * years)


def test_nothing_outlives_its_root() -> None:
    name = CaName("Short Root", "Firstlight", "FI")
    key = pki.make_key()
    root = ceremony.device_root(key, name, 1 << 100, NOW, timedelta(days=400))
    issuing = ceremony.issuing_ca(pki.make_key().public_key(), name, root, 2 << 100, NOW)
    assert issuing.not_valid_after_utc == root.certificate.not_valid_after_utc
    above = ceremony.server_root(key, name, 3 << 100, NOW, timedelta(days=400))
    server = ceremony.server_certificate(pki.make_key().public_key(), ["a.example.com"], [], above, 4 << 100, NOW)
    assert server.not_valid_after_utc == above.certificate.not_valid_after_utc


def test_a_ca_says_who_it_is_and_which_ceremony_made_it() -> None:
    for name, what in (("device root", "Device Root"), ("issuing", "Issuing CA"), ("server root", "Server Root")):
        subject = ALL[name].subject
        assert [each.oid for each in subject] == [
            NameOID.COUNTRY_NAME,
            NameOID.ORGANIZATION_NAME,
            NameOID.COMMON_NAME,
        ]
        common_name = subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        assert common_name == f"Firstlight {what} {ALL[name].serial_number:040x}"[:-32]
    assert hold().device_root.subject != BUNDLE.device_root.subject


def test_a_long_organization_keeps_its_cas_apart() -> None:
    made = hold(organization="x" * 64)
    names = {each.subject.rfc4514_string() for each in (made.device_root, made.issuing, made.server_root)}
    assert len(names) == 3


@pytest.mark.parametrize(
    ("organization", "country", "said"),
    [
        ("x", "Finland", "give a country of two letters"),
        ("x", "", "give a country of two letters"),
        ("x", "F1", "give a country of two letters"),
        ("", "FI", "give an organization of 1 to 64 printable characters"),
        ("x" * 65, "FI", "give an organization of 1 to 64"),
        ("a\nb", "FI", "printable characters"),
        ("å" * 40, "FI", "cannot be a CA's name"),
    ],
)
def test_what_cannot_be_a_cas_name_is_refused(organization: str, country: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        hold(organization=organization, country=country)


# -- the server's names -----------------------------------------------------------------------------------


def san(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def common_name(certificate: x509.Certificate) -> str:
    [name] = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


def test_the_server_has_every_name_and_address_once() -> None:
    server = hold(names=["a.example.com", "b.example.com.", "a.example.com"], addresses=["::1", "127.0.0.1", "::1"])
    assert san(server.server).get_values_for_type(x509.DNSName) == ["a.example.com", "b.example.com"]
    assert san(server.server).get_values_for_type(x509.IPAddress) == [ip_address("::1"), ip_address("127.0.0.1")]
    assert common_name(server.server) == "a.example.com"


def test_an_address_alone_is_enough() -> None:
    assert common_name(hold(names=[], addresses=["192.0.2.1"]).server) == "192.0.2.1"


def test_a_name_too_long_for_a_common_name_still_stands_in_the_alternatives() -> None:
    long = f"{'x' * 60}.{'y' * 60}.example.com"
    server = hold(names=[long], addresses=[]).server
    assert common_name(server) == "bootstrap server"
    assert san(server).get_values_for_type(x509.DNSName) == [long]
    assert common_name(hold(names=[long, "short.example.com"]).server) == "short.example.com"


@pytest.mark.parametrize(
    "name",
    ["", ".", "a..b", "-a.example.com", "a-.example.com", "a_b", "a b", "192.0.2.1", "ä.example.com", "x" * 64, "*.a"],
)
def test_what_is_no_host_name_is_refused_by_name(name: str) -> None:
    with pytest.raises(Misconfigured, match="is no host name") as raised:
        hold(names=[name])
    assert repr(name) in raised.value.message


def test_a_name_of_254_characters_is_refused() -> None:
    labels = ".".join(["x" * 63] * 4)
    assert len(labels) == 255
    with pytest.raises(Misconfigured, match="is no host name"):
        hold(names=[labels])


def test_a_server_without_a_name_is_refused() -> None:
    with pytest.raises(Misconfigured, match="at least one name or address"):
        hold(names=[], addresses=[])


# -- the root key leaves ----------------------------------------------------------------------------------


def brought_back(pem: bytes, passphrase: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, passphrase)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def test_a_key_leaves_encrypted_and_comes_back_by_its_passphrase() -> None:
    key = BUNDLE.keys.device_root
    pem = ceremony.export_key(key, b"correct horse")
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert f"{key.private_numbers().private_value:x}".encode() not in pem
    assert brought_back(pem, b"correct horse").private_numbers() == key.private_numbers()
    # One wrong passphrase in 256 gives a padding that looks right, and OpenSSL other words for it: any error will do.
    with pytest.raises(ValueError):
        load_pem_private_key(pem, b"wrong")
    with pytest.raises(TypeError):
        load_pem_private_key(pem, None)


def test_a_key_does_not_leave_without_a_passphrase() -> None:
    with pytest.raises(Misconfigured, match="under a passphrase only"):
        ceremony.export_key(BUNDLE.keys.device_root, b"")


def test_a_root_that_was_taken_away_can_sign_the_next_issuing_ca() -> None:
    """Roll-over with the exported key: the new issuing CA hangs under the root that devices' servers trust."""
    key = brought_back(ceremony.export_key(BUNDLE.keys.device_root, b"x"), b"x")
    root = DeviceRoot(key, BUNDLE.device_root)
    name = CaName("Firstlight Issuing CA 2", "Firstlight", "FI")
    later = NOW + timedelta(days=3000)
    second = ceremony.issuing_ca(pki.make_key().public_key(), name, root, 5 << 100, later)
    leaf = read_certificate(second)
    assert find_path(leaf, [], [read_certificate(BUNDLE.device_root)], later)[-1].parsed == BUNDLE.device_root
    assert second.not_valid_after_utc <= BUNDLE.device_root.not_valid_after_utc


def test_keys_do_not_show() -> None:
    shown = repr(BUNDLE) + repr(DeviceRoot(BUNDLE.keys.device_root, BUNDLE.device_root)) + repr(BUNDLE.keys)
    assert "PrivateKey" not in shown


# -- extensions -------------------------------------------------------------------------------------------


def test_the_authority_key_identifier_is_the_issuers_own_word() -> None:
    """A CA may have computed its subject key identifier in a way of its own (RFC 5280 4.2.1.2)."""
    key = pki.make_key()
    odd = pki.make_certificate("Odd", key=key, extensions=[(x509.SubjectKeyIdentifier(b"12345678"), False)]).certificate
    assert authority_key_identifier(odd).key_identifier == b"12345678"


def test_without_one_it_follows_from_the_key() -> None:
    plain = pki.make_certificate("Plain")
    expected = x509.SubjectKeyIdentifier.from_public_key(plain.key.public_key()).digest
    assert authority_key_identifier(plain.certificate).key_identifier == expected


def test_an_issuer_with_another_kind_of_key_is_refused() -> None:
    other = pki.make_certificate("RSA", key=rsa.generate_private_key(65537, 2048))
    with pytest.raises(ValueError, match="no EC key"):
        authority_key_identifier(other.certificate)
