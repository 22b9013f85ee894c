"""pkilint (RFC 5280) over everything our own CAs make."""

from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from pkilint import loader, pkix, validation
from pkilint.bin import lint_pkix_signer_signee_cert_chain as chain_lint
from pkilint.pkix import certificate, crl, extension, name

from issuers.ceremony import CaBundle, ServerRoot, hold_ceremony, make_keys, make_serials, server_certificate
from issuers.embedded import EmbeddedIssuer, EmbeddedOptions, RevokedCertificate
from tests.issuers.rigs import NOW, make_bundle, make_request

Made = dict[str, x509.Certificate]

Severity = validation.ValidationFindingSeverity
WORTH_A_LOOK = {Severity.NOTICE, Severity.WARNING, Severity.ERROR, Severity.FATAL}

PLAIN = EmbeddedOptions()
STRICT = EmbeddedOptions(subject_key_identifier=True)

# The profile leaves the subject key identifier out of device certificates to save its bytes; RFC 5280
# 4.2.1.2 says SHOULD.
ACCEPTED = {("device", "pkix.certificate_skid_end_entity_missing")}


def issuer_of(bundle: CaBundle, options: EmbeddedOptions = PLAIN) -> EmbeddedIssuer:
    return EmbeddedIssuer(
        key=bundle.keys.issuing,
        chain=(bundle.issuing,),
        root=bundle.device_root,
        options=options,
        journal=lambda entry: None,
    )


@pytest.fixture(scope="module")
def bundle() -> CaBundle:
    return hold_ceremony(
        organization="Firstlight",
        country="FI",
        names=["bootstrap.example.com", "bootstrap.example.net"],
        addresses=[ip_address("127.0.0.1"), ip_address("2001:db8::1")],
        keys=make_keys(),
        serials=make_serials(),
        now=NOW,
    )


@pytest.fixture
async def made(bundle: CaBundle) -> Made:
    plain = await issuer_of(bundle).issue(make_request())
    strict = await issuer_of(bundle, STRICT).issue(make_request())
    whole = await issuer_of(bundle).issue(
        make_request(
            subject="CN={endpoint},serialNumber=4711,OU={account},O=Åbo\\, Ltd,L={device},ST=Uusimaa,C=FI,"
            "emailAddress=ops@example.com",
            validity=timedelta(days=9000),
        )
    )
    by_address = server_certificate(
        bundle.keys.server.public_key(),
        [],
        [ip_address("192.0.2.1")],
        ServerRoot(bundle.keys.server_root, bundle.server_root),
        x509.random_serial_number(),
        NOW,
    )
    return {
        "device root": bundle.device_root,
        "issuing": bundle.issuing,
        "server root": bundle.server_root,
        "server": bundle.server,
        "server by address": by_address,
        "device": plain.leaf,
        "device with key identifier": strict.leaf,
        "device with every attribute": whole.leaf,
    }


def findings(results: list[validation.ValidationResult], kind: str) -> list[str]:
    """Notices and worse, without what is accepted."""
    return [
        f"{kind}: {found.finding.severity.name} {found.finding.code} {found.message or ''}"
        for result in results
        for found in result.finding_descriptions
        if found.finding.severity in WORTH_A_LOOK and (kind.split(" with every")[0], found.finding.code) not in ACCEPTED
    ]


def lint(der: bytes) -> list[validation.ValidationResult]:
    validators = certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )
    document = loader.RFC5280CertificateDocumentLoader().load_der_document(der, "certificate")
    results: list[validation.ValidationResult] = validators.validate(document.root)
    return results


async def test_every_certificate_we_make_is_clean(made: Made) -> None:
    found = [line for kind, each in made.items() for line in findings(lint(each.public_bytes(Encoding.DER)), kind)]
    assert not found, "\n".join(found)


def test_the_linter_sees_a_fault_when_there_is_one(bundle: CaBundle) -> None:
    broken = bundle.device_root.public_bytes(Encoding.DER).replace(b"FI", b"\x01\x01", 1)
    assert findings(lint(broken), "device root")


PAIRS: list[tuple[str, str]] = [
    ("device root", "device root"),
    ("device root", "issuing"),
    ("issuing", "device"),
    ("issuing", "device with key identifier"),
    ("server root", "server root"),
    ("server root", "server"),
]


@pytest.mark.parametrize(("issuer", "subject"), PAIRS)
async def test_every_link_of_our_chains_is_clean(made: Made, issuer: str, subject: str) -> None:
    documents: dict[str, object] = {}
    load: Callable[..., object] = loader.RFC5280CertificateDocumentLoader().load_der_document
    documents["issuer"] = upper = load(made[issuer].public_bytes(Encoding.DER), "issuer", "issuer", documents)
    documents["subject"] = lower = load(made[subject].public_bytes(Encoding.DER), "subject", "subject", documents)
    decoders = chain_lint.create_decoder_validation_container()
    results = [
        *decoders.validate(upper.root),  # type: ignore[attr-defined]
        *decoders.validate(lower.root),  # type: ignore[attr-defined]
        *chain_lint.create_issuer_validation_container().validate(upper.root),  # type: ignore[attr-defined]
        *chain_lint.create_subject_validation_container().validate(lower.root),  # type: ignore[attr-defined]
    ]
    assert results
    assert not findings(results, subject)


@pytest.mark.parametrize("count", [0, 3])
def test_our_crls_are_clean(count: int) -> None:
    reasons = [x509.ReasonFlags.superseded, x509.ReasonFlags.unspecified, x509.ReasonFlags.key_compromise]
    der = issuer_of(make_bundle()).build_crl(
        [RevokedCertificate(x509.random_serial_number(), NOW, reason) for reason in reasons[:count]],
        number=7,
        now=NOW,
        next_update=NOW + timedelta(days=7),
    )
    validators = crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )
    document = loader.RFC5280CertificateListDocumentLoader().load_der_document(der, "crl")
    results = validators.validate(document.root)
    assert results
    assert not findings(results, "crl")


def test_the_profile_of_a_device_certificate(made: Made, bundle: CaBundle) -> None:
    """Two years that begin an hour ago, no subject key identifier, nothing but what is needed."""
    leaf = made["device"]
    assert leaf.not_valid_before_utc == NOW.replace(microsecond=0) - timedelta(hours=1)
    assert leaf.not_valid_after_utc == NOW.replace(microsecond=0) + timedelta(hours=17520)
    assert {each.oid for each in leaf.extensions} == {
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    }
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not usage.value.key_agreement
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    above = bundle.issuing.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == above
    assert leaf.signature_hash_algorithm is not None
    assert leaf.signature_hash_algorithm.name == "sha256"
