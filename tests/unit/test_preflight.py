import ipaddress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lwm2m.plan import Credential, Learned, Plan, PskCredential, SecurityPlan
from server.preflight import Finding, check_plan
from tests import pki

NOW = datetime.now(UTC)
ROOT = pki.make_factory_ca("Root")
ISSUING = pki.make_factory_ca("Issuing", issuer=ROOT)
LEAF = pki.make_device_certificate(ISSUING, "device-1")
OWN = pki.make_server_certificate(
    ROOT,
    x509.DNSName("lwm2m.example.com"),
    x509.DNSName("*.wild.example.com"),
    x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
    x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
)
SECURITY = SecurityPlan(
    uri="coaps://lwm2m.example.com:5684",
    short_server_id=123,
    mode="server-key",
    server_certificate=ROOT.der,
    certificate_usage=2,
)
KNOWN = replace(SECURITY, server_certificate=OWN.der, certificate_usage=3)


def pkcs8(key: pki.PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def credential(*chain: pki.Holder, key: pki.PrivateKey | None = None) -> Credential:
    return Credential(chain=tuple(h.der for h in chain), private_key_pkcs8=pkcs8(key or chain[0].key))


SHORT = credential(pki.make_device_certificate(ROOT, "device-1"))


def check(
    security: SecurityPlan = SECURITY,
    given: Credential | PskCredential | None = SHORT,
    *,
    learned: Learned | None = None,
    now: datetime = NOW,
) -> tuple[Finding, ...]:
    credentials = {} if given is None else {0: given}
    return check_plan(Plan(securities=(security,)), credentials, learned or Learned(), now)


def severities(security: SecurityPlan) -> list[str]:
    return [finding.severity for finding in check(security)]


def only(findings: tuple[Finding, ...], severity: str, said: str) -> None:
    assert [finding.severity for finding in findings] == [severity]
    assert said in findings[0].sentence
    assert findings[0].sentence.startswith("[[security]] 1: ")


def test_a_sound_plan_has_no_findings() -> None:
    assert check() == ()
    assert check(KNOWN) == ()
    assert check(given=None) == ()


def test_nosec_and_psk_have_no_server_certificate_to_check() -> None:
    assert check(replace(SECURITY, mode="nosec", server_certificate=None), None) == ()
    psk = replace(SECURITY, mode="psk", server_certificate=None)
    assert check(psk, PskCredential(identity=b"i", key=b"k")) == ()


# -- URI against certificate name and SNI -----------------------------------------------------------------------


@pytest.mark.parametrize("host", ["LWM2M.example.com", "a.wild.example.com", "lwm2m.example.com."])
def test_a_host_that_the_servers_own_certificate_names_fits(host: str) -> None:
    assert check(replace(KNOWN, uri=f"coaps://{host}:5684")) == ()


@pytest.mark.parametrize("host", ["other.example.com", "wild.example.com", "a.b.wild.example.com", "wild"])
@pytest.mark.parametrize("usage", [None, 1, 3])
def test_a_host_that_the_servers_own_certificate_does_not_name_is_an_error(host: str, usage: int | None) -> None:
    found = check(replace(KNOWN, uri=f"coaps://{host}:5684", certificate_usage=usage))
    only(found, "error", f"the uri names {host}, but the server certificate is for lwm2m.example.com")


def test_the_sni_is_the_name_that_must_fit_when_there_is_one() -> None:
    assert check(replace(KNOWN, uri="coaps://192.0.2.7", sni="lwm2m.example.com")) == ()
    only(check(replace(KNOWN, sni="other.example.com")), "error", "the sni names other.example.com")


@pytest.mark.parametrize("host", ["192.0.2.1", "[2001:DB8::1]"])
def test_an_address_in_the_certificate_works_only_where_devices_match_addresses(host: str) -> None:
    only(check(replace(KNOWN, uri=f"coaps://{host}:5684")), "warning", "write sni")


@pytest.mark.parametrize("host", ["192.0.2.2", "[2001:db8::2]"])
def test_an_address_that_is_not_in_the_certificate_is_an_error(host: str) -> None:
    only(check(replace(KNOWN, uri=f"coaps://{host}:5684")), "error", "which is not in the server certificate")


def test_an_address_without_sni_under_a_trust_anchor_is_a_warning() -> None:
    only(check(replace(SECURITY, uri="coaps://192.0.2.2")), "warning", "write sni")
    assert check(replace(SECURITY, uri="coaps://192.0.2.2", sni="lwm2m.example.com")) == ()


def test_a_certificate_without_alternative_names_is_known_by_its_common_name() -> None:
    named = pki.make_certificate("lwm2m.example.com", ROOT)
    assert check(replace(KNOWN, server_certificate=named.der)) == ()
    nameless = pki.make_certificate(x509.Name([]), ROOT)
    only(check(replace(KNOWN, server_certificate=nameless.der)), "error", "for no name at all")


# -- usage, matching and time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("usage", [1, 3])
def test_the_certificate_of_a_ca_is_not_the_servers_own(usage: int) -> None:
    only(check(replace(SECURITY, certificate_usage=usage)), "error", "write certificate_usage = 2")


def test_the_certificate_of_a_ca_without_usage_is_taken_differently_by_devices() -> None:
    only(check(replace(SECURITY, certificate_usage=None)), "warning", "write certificate_usage = 2")
    # An Izuma client knows no usage.
    assert check(replace(SECURITY, certificate_usage=None, to_object=True)) == ()


@pytest.mark.parametrize("usage", [0, 2])
def test_the_servers_own_certificate_is_no_trust_anchor(usage: int) -> None:
    only(check(replace(KNOWN, certificate_usage=usage)), "error", "write certificate_usage = 3")
    own = pki.make_certificate("lwm2m.example.com")
    only(check(replace(KNOWN, server_certificate=own.der, certificate_usage=usage)), "warning", "= 3")


def test_hashes_that_some_devices_refuse_are_a_warning() -> None:
    assert [severities(replace(SECURITY, matching_type=matching)) for matching in range(4)] == [
        [],
        [],
        ["warning"],
        ["warning"],
    ]


def test_an_expired_or_future_server_certificate_is_an_error() -> None:
    ends, begins = ROOT.certificate.not_valid_after_utc, ROOT.certificate.not_valid_before_utc
    only(check(now=ends + timedelta(seconds=1)), "error", "expired on")
    only(check(now=begins - timedelta(seconds=1)), "error", "valid only from")
    assert check(now=ends) == ()


@pytest.mark.parametrize("der", [b"", b"nonsense", None])
def test_a_server_certificate_that_cannot_be_read_is_an_error(der: bytes | None) -> None:
    only(check(replace(SECURITY, server_certificate=der)), "error", "cannot be read")


# -- the device's own chain and key -----------------------------------------------------------------------------


def test_a_leaf_alone_under_an_intermediate_is_a_warning() -> None:
    chain = credential(LEAF, ISSUING)
    only(check(given=chain), "warning", "unless the device says LwM2M 1.2")
    only(check(replace(SECURITY, chain="leaf"), chain), "warning", "alone, under an intermediate: the LwM2M server")
    only(check(given=chain, learned=Learned(leaf_only=True)), "warning", "an intermediate: the LwM2M server")
    assert check(replace(SECURITY, chain="pem-chain"), chain) == ()


def test_a_chain_out_of_order_is_an_error() -> None:
    pem = replace(SECURITY, chain="pem-chain")
    stranger = pki.make_factory_ca("Stranger", issuer=ROOT)
    only(check(pem, credential(LEAF, stranger)), "error", "the chain is out of order: CN=device-1")
    found = check(pem, credential(ISSUING, LEAF))
    assert found[0].severity == "error"


def test_a_chain_with_its_root_is_a_warning() -> None:
    pem = replace(SECURITY, chain="pem-chain")
    only(check(pem, credential(LEAF, ISSUING, ROOT)), "warning", "ends with a root")


def test_a_key_of_another_certificate_is_an_error() -> None:
    only(check(given=credential(LEAF, key=ROOT.key)), "error", "private key does not belong")
    broken = Credential(chain=(LEAF.der,), private_key_pkcs8=b"nonsense")
    only(check(given=broken), "error", "private key does not belong")


def test_a_key_on_another_curve_is_compared_too() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    own = pki.make_certificate("device-1", ROOT, key=key)
    assert check(given=credential(own)) == ()
    only(check(given=credential(own, key=ec.generate_private_key(ec.SECP384R1()))), "error", "private key")


@pytest.mark.parametrize("chain", [(), (b"nonsense",)])
def test_a_chain_that_cannot_be_read_is_an_error(chain: tuple[bytes, ...]) -> None:
    found = check(given=Credential(chain=chain, private_key_pkcs8=pkcs8(LEAF.key)))
    only(found, "error", "not a certificate")


def test_sizes_beyond_what_known_devices_take_are_warnings() -> None:
    large = pki.make_certificate(
        "device-1",
        ROOT,
        extensions=[(x509.SubjectAlternativeName([x509.DNSName("a" * 60 + f"{n}") for n in range(20)]), False)],
    )
    only(check(given=credential(large)), "warning", "some devices take at most 1024")
    tower = [pki.make_factory_ca("0", issuer=ROOT)]
    for n in range(1, 5):
        tower.insert(0, pki.make_factory_ca(str(n), issuer=tower[0]))
    leaf = pki.make_device_certificate(tower[0], "device-1")
    only(check(replace(SECURITY, chain="pem-chain"), credential(leaf, *tower)), "warning", "has 6 certificates")


def test_pre_shared_keys_have_the_sizes_every_device_takes() -> None:
    psk = replace(SECURITY, mode="psk", server_certificate=None)
    assert check(psk, PskCredential(identity=b"i" * 128, key=b"k" * 64)) == ()
    only(check(psk, PskCredential(identity=b"i" * 129, key=b"k")), "warning", "129 bytes")
    only(check(psk, PskCredential(identity=b"i", key=b"k" * 65)), "warning", "65 bytes")
    only(check(psk, PskCredential(identity=b"", key=b"k")), "error", "empty")


def test_findings_name_their_entry_and_errors_come_first() -> None:
    plan = Plan(securities=(replace(SECURITY, certificate_usage=None), replace(SECURITY, certificate_usage=1)))
    found = check_plan(plan, {}, Learned(), NOW)
    assert [(f.severity, f.sentence[:14]) for f in found] == [
        ("error", "[[security]] 2"),
        ("warning", "[[security]] 1"),
    ]
