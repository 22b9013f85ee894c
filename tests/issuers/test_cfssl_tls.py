"""CFSSL_AUTH over TLS: roots, client certificates, and what is wrong on either side."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from issuers.errors import Misconfigured, Unauthorized
from tests.issuers.cfssl import client_of, failure, opened, server_of, trusting
from tests.issuers.peers.cfssl import Tls, cfssl_serve
from tests.issuers.rigs import assert_says, make_request
from tests.pki import Holder, make_certificate, make_factory_ca, make_server_certificate


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


async def test_https_to_a_port_without_tls_says_http(ca: Holder) -> None:
    async with cfssl_serve(ca) as peer, opened(f"https://127.0.0.1:{peer.port}") as issuer:
        assert_says(await failure(issuer), Misconfigured, "does not speak TLS", "http://")
