"""CFSSL_AUTH against the real CFSSL: what it gives, and every row of failure matrix A4 of `issuers.md` it can be made
to show. Rows no server of ours shows are in tests/unit/issuers/test_cfssl.py.
"""

from base64 import encodebytes
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from issuers import open_issuer
from issuers.base import Issuer, IssueRequest
from issuers.errors import (
    IssuerError,
    Misconfigured,
    OutcomeUnknown,
    Rejected,
    Unauthorized,
    Unavailable,
)
from issuers.returned import Expectation, check_returned
from tests.issuers.peers.cfssl import PAGE_KEY, Label, Peer, Tls, cfssl_serve, multirootca, page_config
from tests.issuers.peers.proxy import counting_proxy, mutual_tls
from tests.issuers.rigs import ACCOUNT, LOOPBACK, make_request
from tests.pki import (
    Holder,
    make_certificate,
    make_device_certificate,
    make_factory_ca,
    make_name,
    make_server_certificate,
)

OTHER_KEY = "ffffffffffffffffffffffffffffffff"
CA_OPTIONS = {"cfssl_profile": "CA"}
KEY = {"hmac_hex_key": PAGE_KEY}


@asynccontextmanager
async def opened(
    url: str, attributes: Mapping[str, object] = CA_OPTIONS, credentials: Mapping[str, object] = KEY
) -> AsyncIterator[Issuer]:
    issuer = open_issuer("CFSSL_AUTH", "theirs", {"host_url": url, **attributes}, credentials, LOOPBACK)
    try:
        yield issuer
    finally:
        await issuer.aclose()


async def failure(issuer: Issuer, request: IssueRequest | None = None) -> IssuerError:
    with pytest.raises(IssuerError) as raised:
        await issuer.issue(request or make_request())
    return raised.value


def assert_says(error: IssuerError, kind: type[IssuerError], *words: str) -> None:
    assert type(error) is kind, error.message
    for each in words:
        assert each in error.message


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
def ca() -> Holder:
    return make_factory_ca("CFSSL Root")


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


# -- TLS ------------------------------------------------------------------------


@pytest.fixture
def tls_ca() -> Holder:
    return make_factory_ca("TLS Root")


def server_of(tls_ca: Holder) -> Holder:
    return make_server_certificate(tls_ca, x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost"))


def trusting(root: Holder) -> dict[str, object]:
    return {"cfssl_profile": "CA", "tls_roots": root.pem.decode()}


def client_of(tls_ca: Holder, name: str = "firstlight", **others: Any) -> dict[str, object]:
    client = make_device_certificate(tls_ca, name, **others)
    return {**KEY, "client_certificate": client.pem.decode(), "private_key": client.key_pem.decode()}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_tls_with_a_private_root(ca: Holder, tls_ca: Holder, host: str) -> None:
    async with (
        cfssl_serve(ca, tls=Tls(server_of(tls_ca))) as peer,
        opened(f"https://{host}:{peer.port}", trusting(tls_ca)) as issuer,
    ):
        assert (await issuer.issue(make_request())).reference


async def test_the_servers_own_certificate_may_stand_for_its_root(ca: Holder, tls_ca: Holder) -> None:
    server = server_of(tls_ca)
    async with cfssl_serve(ca, tls=Tls(server)) as peer, opened(peer.url, trusting(server)) as issuer:
        assert (await issuer.issue(make_request())).reference


async def each_label_signs_with_its_own_ca(
    cas: Mapping[str, Holder], url: str, attributes: Mapping[str, object], credentials: Mapping[str, object] = KEY
) -> None:
    for label, ca in [*cas.items(), ("", cas["two"])]:
        async with opened(url, {**attributes, "cfssl_profile": "CA", "cfssl_label": label}, credentials) as issuer:
            issued = await issuer.issue(make_request())
            issued.leaf.verify_directly_issued_by(ca.certificate)
            assert await issuer.ca_certificates() == (ca.certificate,)


@pytest.mark.parametrize("way", ["http", "TLS", "mutual TLS"])
async def test_each_of_three_labels_of_a_multirootca_signs_with_its_own_ca(tls_ca: Holder, way: str) -> None:
    """multirootca knows no client certificates itself: for mutual TLS a proxy stands before it, as operators do it."""
    cas = {name: make_factory_ca(f"CFSSL {name}") for name in ("one", "two", "three")}
    labels = {name: Label(ca, page_config()) for name, ca in cas.items()}
    match way:
        case "http":
            async with multirootca(labels, "two") as peer:
                await each_label_signs_with_its_own_ca(cas, peer.url, {})
        case "TLS":
            async with multirootca(labels, "two", tls=server_of(tls_ca)) as peer:
                await each_label_signs_with_its_own_ca(cas, peer.url, trusting(tls_ca))
        case _:
            async with multirootca(labels, "two") as peer, mutual_tls(peer.port, server_of(tls_ca), tls_ca) as port:
                url = f"https://127.0.0.1:{port}"
                await each_label_signs_with_its_own_ca(cas, url, trusting(tls_ca), client_of(tls_ca))
                async with opened(url, trusting(tls_ca)) as issuer:
                    error = await failure(issuer)
                    assert isinstance(error, Unauthorized | Unavailable), error.message


@pytest.mark.parametrize("key", [None, rsa.generate_private_key(65537, 2048)], ids=["P-256", "RSA"])
async def test_mutual_tls_with_a_name_that_fits(ca: Holder, tls_ca: Holder, key: rsa.RSAPrivateKey | None) -> None:
    tls = Tls(server_of(tls_ca), tls_ca, "^first.*")
    async with (
        cfssl_serve(ca, tls=tls) as peer,
        opened(peer.url, trusting(tls_ca), client_of(tls_ca, key=key)) as issuer,
    ):
        assert (await issuer.issue(make_request())).reference


async def test_without_a_client_certificate_a_mutual_tls_server_means_unauthorized(ca: Holder, tls_ca: Holder) -> None:
    async with (
        cfssl_serve(ca, tls=Tls(server_of(tls_ca), tls_ca)) as peer,
        opened(peer.url, trusting(tls_ca)) as issuer,
    ):
        assert_says(await failure(issuer), Unauthorized, "refuses our TLS client certificate", "'client_certificate'")


async def test_a_client_certificate_of_a_stranger_means_unauthorized(ca: Holder, tls_ca: Holder) -> None:
    async with (
        cfssl_serve(ca, tls=Tls(server_of(tls_ca), tls_ca)) as peer,
        opened(peer.url, trusting(tls_ca), client_of(make_factory_ca("Stranger"))) as issuer,
    ):
        assert_says(await failure(issuer), Unauthorized, "refuses our TLS client certificate", "'client_certificate'")


async def test_a_client_name_that_does_not_fit_means_unauthorized(ca: Holder, tls_ca: Holder) -> None:
    async with (
        cfssl_serve(ca, tls=Tls(server_of(tls_ca), tls_ca, "^somebody$")) as peer,
        opened(peer.url, trusting(tls_ca), client_of(tls_ca)) as issuer,
    ):
        assert_says(await failure(issuer), Unauthorized, "-mutual-tls-cn", "give a 'client_certificate' whose CN fits")


async def test_a_server_certificate_of_a_stranger_means_misconfigured(ca: Holder, tls_ca: Holder) -> None:
    async with (
        cfssl_serve(ca, tls=Tls(server_of(tls_ca))) as peer,
        opened(peer.url, trusting(make_factory_ca("Stranger"))) as issuer,
    ):
        assert_says(await failure(issuer), Misconfigured, "is not trusted", "as 'tls_roots'")


async def test_without_tls_roots_a_private_root_is_not_trusted(ca: Holder, tls_ca: Holder) -> None:
    async with cfssl_serve(ca, tls=Tls(server_of(tls_ca))) as peer, opened(peer.url) as issuer:
        assert_says(await failure(issuer), Misconfigured, "is not trusted", "as 'tls_roots'")


async def test_a_server_certificate_for_another_name_means_misconfigured(ca: Holder, tls_ca: Holder) -> None:
    server = make_server_certificate(tls_ca, x509.DNSName("ca.example.com"))
    async with cfssl_serve(ca, tls=Tls(server)) as peer, opened(peer.url, trusting(tls_ca)) as issuer:
        assert_says(await failure(issuer), Misconfigured, "is not trusted", "a name that is in its TLS certificate")


async def test_a_server_certificate_that_ended_means_misconfigured(ca: Holder, tls_ca: Holder) -> None:
    then = datetime.now(UTC) - timedelta(days=1)
    server = make_certificate(
        "server",
        tls_ca,
        not_before=then - timedelta(days=9),
        not_after=then,
        extensions=[(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)],
    )
    async with cfssl_serve(ca, tls=Tls(server)) as peer, opened(peer.url, trusting(tls_ca)) as issuer:
        assert_says(await failure(issuer), Misconfigured, "is not trusted: certificate has expired", "renew its TLS")


async def test_http_to_a_tls_port_says_https(ca: Holder, tls_ca: Holder) -> None:
    async with (
        cfssl_serve(ca, tls=Tls(server_of(tls_ca))) as peer,
        opened(f"http://127.0.0.1:{peer.port}") as issuer,
    ):
        assert_says(await failure(issuer), Misconfigured, "speaks TLS", "begin its address with https://")


async def test_https_to_a_port_without_tls_says_http(peer: Peer) -> None:
    async with opened(f"https://127.0.0.1:{peer.port}") as issuer:
        assert_says(await failure(issuer), Misconfigured, "does not speak TLS", "http://")


# -- failure matrix A4, cfssl serve -----------------------------------------------


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
    "Ed25519": (csr(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.PEM), "code 9300"),
}


@pytest.mark.parametrize("kind", BENT)
async def test_a_csr_the_server_cannot_take_means_rejected(peer: Peer, kind: str) -> None:
    pem, code = BENT[kind]
    async with opened(peer.url) as issuer:
        assert_says(await failure(issuer, bent(pem)), Rejected, "refuses the CSR", code, "will not be taken")


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


# -- failure matrix A4, multirootca --------------------------------------------------


@asynccontextmanager
async def one_label(ca: Holder, nets: str | None = None, **profile: Any) -> AsyncIterator[Peer]:
    async with multirootca({"one": Label(ca, page_config(**profile), nets)}, "one") as peer:
        yield peer


async def test_a_label_multirootca_does_not_have_means_misconfigured(ca: Holder) -> None:
    async with one_label(ca) as peer, opened(peer.url, {"cfssl_profile": "CA", "cfssl_label": "two"}) as issuer:
        assert_says(await failure(issuer), Misconfigured, "has no label 'two'", "correct 'cfssl_label'")


async def test_a_label_that_went_away_is_told_from_a_csr_that_is_refused(ca: Holder) -> None:
    two = {"one": Label(ca, page_config()), "two": Label(ca, page_config())}
    options = {"cfssl_profile": "CA", "cfssl_label": "two"}
    async with multirootca(two, "one") as peer, opened(peer.url, options) as issuer:
        await issuer.issue(make_request())
        await peer.kill()
        async with multirootca({"one": Label(ca, page_config())}, "one", port=peer.port):
            assert_says(await failure(issuer), Misconfigured, "has no label 'two'")


async def test_a_profile_multirootca_does_not_have_means_misconfigured(ca: Holder) -> None:
    async with one_label(ca) as peer, opened(peer.url, {"cfssl_profile": "no such"}) as issuer:
        assert_says(await failure(issuer), Misconfigured, "'no such'", "correct 'cfssl_profile'")


async def test_a_profile_of_multirootca_without_a_key_means_misconfigured(ca: Holder) -> None:
    async with one_label(ca) as peer, opened(peer.url, {}) as issuer:
        assert_says(await failure(issuer), Misconfigured, "is not an authenticated profile", "correct 'cfssl_profile'")


async def test_an_address_outside_the_nets_means_unauthorized(ca: Holder) -> None:
    async with one_label(ca, "192.0.2.0/24") as peer, opened(peer.url) as issuer:
        assert_says(await failure(issuer), Unauthorized, "takes nothing from our address", "add our address", "nets")


async def test_a_wrong_key_at_multirootca_means_unauthorized(ca: Holder) -> None:
    async with one_label(ca) as peer, opened(peer.url, credentials={"hmac_hex_key": OTHER_KEY}) as issuer:
        assert_says(await failure(issuer), Unauthorized, "'hmac_hex_key' is not the auth_key of profile 'CA'")


async def test_a_csr_multirootca_refuses_means_rejected_with_where_to_look(ca: Holder) -> None:
    async with one_label(ca, name_whitelist="^allowed$") as peer, opened(peer.url) as issuer:
        assert_says(await failure(issuer), Rejected, "without a reason", "multirootca writes it into its log")
