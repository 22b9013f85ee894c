"""CFSSL_AUTH against multirootca: labels, and its rows of `matrices.toml`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from issuers.errors import Misconfigured, Rejected, Unauthorized, Unavailable
from tests.issuers.cfssl import KEY, OTHER_KEY, client_of, failure, opened, server_of, trusting
from tests.issuers.peers.cfssl import Label, Peer, multirootca, page_config
from tests.issuers.peers.proxy import mutual_tls
from tests.issuers.rigs import assert_says, make_request
from tests.pki import Holder, make_factory_ca


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
