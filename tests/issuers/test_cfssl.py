"""CFSSL_AUTH against the real `cfssl serve`: what it gives, and its rows of `matrices.toml`.

TLS and multirootca have modules of their own; rows no server of ours shows are in tests/unit/issuers/test_cfssl.py.
"""

from base64 import encodebytes
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from issuers.base import IssueRequest
from issuers.errors import Misconfigured, OutcomeUnknown, Rejected, Unauthorized, Unavailable
from issuers.returned import Expectation, check_returned
from tests.issuers.cfssl import OTHER_KEY, failure, opened
from tests.issuers.peers.cfssl import PAGE_KEY, Peer, cfssl_serve, page_config
from tests.issuers.peers.proxy import counting_proxy
from tests.issuers.rigs import ACCOUNT, assert_says, make_request
from tests.pki import Holder, make_factory_ca, make_name


class BentCsr:
    """A CSR that is none: claims a P-256 key and sends what it is given."""

    def __init__(self, pem: bytes) -> None:
        self._pem = pem

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return ec.generate_private_key(ec.SECP256R1()).public_key()

    def public_bytes(self, encoding: Encoding) -> bytes:
        return self._pem


def bent(pem: bytes) -> IssueRequest:
    return replace(make_request(), csr=cast(x509.CertificateSigningRequest, BentCsr(pem)))


def csr(key: Any, digest: hashes.SHA256 | None, *extensions: x509.ExtensionType) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(make_name("urn:dev:os:0001"))
    for each in extensions:
        builder = builder.add_extension(each, critical=True)
    return builder.sign(key, digest)


def pem_block(label: str, der: bytes) -> bytes:
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label.encode(), encodebytes(der), label.encode())


@pytest.fixture
async def peer(ca: Holder) -> AsyncIterator[Peer]:
    """`cfssl serve` with the page's configuration."""
    async with cfssl_serve(ca) as running:
        yield running


# -- what it gives --------------------------------------------------------------


async def test_the_configuration_of_the_page_gives_a_certificate_that_passes_every_check(
    peer: Peer, ca: Holder
) -> None:
    async with opened(peer.url) as issuer:
        request = make_request()
        issued = await issuer.issue(request)
    assert issued.chain == (issued.leaf,)
    checked = check_returned(
        issued,
        Expectation(
            csr=request.csr,
            endpoint=request.endpoint,
            now=datetime.now(UTC),
            minimum_validity=timedelta(days=700),
            anchors=[ca.certificate],
            account_id=ACCOUNT,
        ),
    )
    assert "the certificate has no key usage" in checked.warnings


@pytest.mark.parametrize("suffix", ["", "/", "/api/v1/cfssl", "/api/v1/cfssl/"])
async def test_a_host_url_may_end_in_a_slash_or_in_cfssls_own_path(peer: Peer, suffix: str) -> None:
    async with opened(peer.url + suffix) as issuer:
        assert (await issuer.issue(make_request())).reference


async def test_an_address_without_a_scheme_is_read_as_cfssls_own_client_reads_it(peer: Peer) -> None:
    async with opened(f"127.0.0.1:{peer.port}") as issuer:
        assert (await issuer.issue(make_request())).reference


async def test_a_key_in_small_letters_is_the_same_key(peer: Peer) -> None:
    async with opened(peer.url, credentials={"hmac_hex_key": PAGE_KEY.lower()}) as issuer:
        assert (await issuer.issue(make_request())).reference


async def test_an_intermediate_ca_is_sent_with_the_leaf_and_shown_first() -> None:
    root = make_factory_ca("CFSSL Root")
    intermediate = make_factory_ca("CFSSL Issuing", issuer=root)
    async with cfssl_serve(intermediate) as peer, opened(peer.url) as issuer:
        issued = await issuer.issue(make_request())
        assert issued.chain == (issued.leaf, intermediate.certificate)
        assert await issuer.ca_certificates() == (intermediate.certificate,)


async def test_info_is_asked_once_for_many_certificates(peer: Peer) -> None:
    async with counting_proxy(peer.port) as proxy, opened(proxy.url) as issuer:
        for _ in range(3):
            await issuer.issue(make_request())
        assert proxy.requests("/info") == 1
        assert proxy.requests("/authsign") == 3
        assert proxy.connections == 1


async def test_a_ca_with_a_new_key_is_found_by_asking_once_more() -> None:
    old, new = make_factory_ca("CFSSL Root"), make_factory_ca("CFSSL Root")
    async with cfssl_serve(old) as peer, counting_proxy(peer.port) as proxy, opened(proxy.url) as issuer:
        assert await issuer.ca_certificates() == (old.certificate,)
        await peer.kill()
        async with cfssl_serve(new, port=peer.port):
            issued = await issuer.issue(make_request())
            issued.leaf.verify_directly_issued_by(new.certificate)
            assert proxy.requests("/info") == 2
            assert await issuer.ca_certificates() == (new.certificate,)


async def test_the_same_wish_twice_gives_two_certificates_for_cfssl_is_not_idempotent(peer: Peer) -> None:
    request = make_request()
    async with opened(peer.url) as issuer:
        first, second = await issuer.issue(request), await issuer.issue(request)
    assert first.leaf.serial_number != second.leaf.serial_number


# -- what it may answer -------------------------------------------------


async def test_a_wrong_key_means_unauthorized(peer: Peer) -> None:
    async with opened(peer.url, credentials={"hmac_hex_key": OTHER_KEY}) as issuer:
        error = await failure(issuer)
    assert_says(error, Unauthorized, "'hmac_hex_key' is not the auth_key of profile 'CA'", "give that profile's key")
    assert OTHER_KEY not in error.message


@pytest.mark.parametrize("profile", ["", "default", "no such profile"])
async def test_a_profile_without_a_key_means_misconfigured(peer: Peer, profile: str) -> None:
    async with opened(peer.url, {"cfssl_profile": profile}) as issuer:
        assert_says(await failure(issuer), Misconfigured, "is not an authenticated profile", "correct 'cfssl_profile'")


async def test_a_server_without_authsign_means_misconfigured(ca: Holder) -> None:
    config = {"signing": {"default": {"usages": ["client auth"], "expiry": "17520h"}}}
    async with cfssl_serve(ca, config) as peer, opened(peer.url) as issuer:
        assert_says(await failure(issuer), Misconfigured, "offers no authsign", "give the profile an auth_key")


async def test_another_path_means_misconfigured(peer: Peer) -> None:
    async with opened(f"{peer.url}/elsewhere") as issuer:
        assert_says(await failure(issuer), Misconfigured, "has no /api/v1/cfssl/info", "correct 'host_url'")


K1 = csr(ec.generate_private_key(ec.SECP256K1()), hashes.SHA256())
P256 = csr(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
BROKEN = bytearray(P256.public_bytes(Encoding.DER))
BROKEN[BROKEN.index(b"urn:dev:os:0001")] ^= 1
BENT = {
    "no PEM": (b"this is no CSR", "code 9002"),
    "PEM of another type": (make_factory_ca().pem, "code 9300"),
    "truncated": (pem_block("CERTIFICATE REQUEST", P256.public_bytes(Encoding.DER)[:-9]), "code 9003"),
    "secp256k1": (K1.public_bytes(Encoding.PEM), "code 9003"),
    "broken signature": (pem_block("CERTIFICATE REQUEST", bytes(BROKEN)), "code 9300"),
}


@pytest.mark.parametrize("kind", BENT)
async def test_a_csr_the_server_cannot_take_means_rejected(peer: Peer, kind: str) -> None:
    pem, code = BENT[kind]
    async with opened(peer.url) as issuer:
        assert_says(await failure(issuer, bent(pem)), Rejected, "refuses the CSR", code, "will not be taken")


async def test_a_csr_of_ed25519_means_rejected_or_a_certificate_for_its_key(peer: Peer) -> None:
    """CFSSL 1.2 cannot read one, 1.6 signs it."""
    asked = csr(ed25519.Ed25519PrivateKey.generate(), None)
    async with opened(peer.url) as issuer:
        try:
            issued = await issuer.issue(bent(asked.public_bytes(Encoding.PEM)))
        except Rejected as error:
            assert_says(error, Rejected, "refuses the CSR", "code 9300", "will not be taken")
        else:
            assert issued.leaf.public_key() == asked.public_key()


async def test_a_csr_that_asks_to_be_a_ca_means_rejected(peer: Peer) -> None:
    asking = csr(
        ec.generate_private_key(ec.SECP256R1()), hashes.SHA256(), x509.BasicConstraints(ca=True, path_length=None)
    )
    async with opened(peer.url) as issuer:
        error = await failure(issuer, replace(make_request(), csr=asking))
    assert_says(error, Rejected, "asks for what profile 'CA' does not allow", "code 5300")


async def test_a_name_outside_the_whitelist_means_rejected(ca: Holder) -> None:
    async with cfssl_serve(ca, page_config(name_whitelist="^allowed$")) as peer, opened(peer.url) as issuer:
        error = await failure(issuer)
        assert (await issuer.issue(make_request("allowed"))).reference
    assert_says(error, Rejected, "name_whitelist of profile 'CA'", "code 5500", "widen the list")


async def test_an_empty_csr_cannot_be_mistaken_for_a_wish(peer: Peer) -> None:
    async with opened(peer.url) as issuer:
        assert_says(await failure(issuer, bent(b"")), Misconfigured, "did not understand our request", "report this")


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP224R1()], ids=lambda curve: curve.name)
async def test_a_key_that_cfssl_would_sign_and_no_device_has_never_leaves(peer: Peer, curve: ec.EllipticCurve) -> None:
    async with counting_proxy(peer.port) as proxy, opened(proxy.url) as issuer:
        foreign = csr(ec.generate_private_key(curve), hashes.SHA256())
        error = await failure(issuer, replace(make_request(), csr=foreign))
        assert proxy.connections == 0
    assert_says(error, Rejected, "not on P-256")


async def test_a_dead_server_means_unavailable_and_a_new_one_serves_again(ca: Holder) -> None:
    async with cfssl_serve(ca) as peer, opened(peer.url) as issuer:
        await issuer.issue(make_request())
        await peer.kill()
        error = await failure(issuer)
        assert_says(error, Unavailable, "takes no connections: Connection refused", "start the CA")
        async with cfssl_serve(ca, port=peer.port):
            assert (await issuer.issue(make_request())).reference


async def test_a_name_the_dns_does_not_know_means_unavailable() -> None:
    async with opened("http://no-such-ca.invalid:8888") as issuer:
        assert_says(await failure(issuer), Unavailable, "cannot be resolved", "check the address")


async def test_an_answer_lost_on_the_way_means_outcome_unknown(peer: Peer) -> None:
    async with counting_proxy(peer.port) as proxy, opened(proxy.url) as issuer:
        await issuer.ca_certificates()
        proxy.lose_answers_to = "/authsign"
        assert_says(await failure(issuer), OutcomeUnknown, "it may have issued a certificate")
        assert proxy.lost == 1
        proxy.lose_answers_to = ""
        assert (await issuer.issue(make_request())).reference
        assert proxy.requests("/authsign") == 2


async def test_a_chain_that_cannot_be_learnt_stops_before_anything_is_signed(peer: Peer) -> None:
    async with counting_proxy(peer.port) as proxy, opened(proxy.url) as issuer:
        proxy.lose_answers_to = "/info"
        assert_says(await failure(issuer), Unavailable, "the connection broke")
        assert proxy.requests("/authsign") == 0
