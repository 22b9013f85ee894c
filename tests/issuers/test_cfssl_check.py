"""What `verify` says of a real CFSSL, step by step."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from issuers.base import CheckReport, IssueRequest, StepOutcome
from tests.issuers.cfssl import OTHER_KEY, client_of, opened, server_of, trusting
from tests.issuers.peers.cfssl import PAGE_KEY, Label, Tls, cfssl_serve, multirootca, page_config
from tests.issuers.peers.proxy import counting_proxy
from tests.issuers.rigs import make_request
from tests.pki import Holder, make_device_certificate, make_factory_ca

OK, WARN, FAIL, SKIPPED = StepOutcome.OK, StepOutcome.WARN, StepOutcome.FAIL, StepOutcome.SKIPPED
EVERY = ("reach", "authenticate", "policy", "chain", "test certificate", "open endpoints", "clock")


async def verified(
    url: str,
    attributes: dict[str, object] | None = None,
    credentials: dict[str, object] | None = None,
    *,
    request: IssueRequest | None = None,
    now: datetime | None = None,
) -> CheckReport:
    async with opened(url, attributes or {"cfssl_profile": "CA"}, credentials or {"hmac_hex_key": PAGE_KEY}) as issuer:
        return await issuer.check(request, now or datetime.now(UTC))


def outcomes(report: CheckReport) -> list[StepOutcome]:
    assert tuple(step.name for step in report.steps) == EVERY
    return [step.outcome for step in report.steps]


def said(report: CheckReport, name: str) -> str:
    return next(step.message for step in report.steps if step.name == name)


async def test_the_pages_configuration_is_fit_and_its_open_door_is_named(ca: Holder) -> None:
    async with cfssl_serve(ca) as peer:
        report = await verified(peer.url, request=make_request("verify", purpose="verify"))
    assert outcomes(report) == [WARN, OK, OK, OK, OK, WARN, OK]
    assert "without TLS whoever is on the way can change what it answers" in said(report, "reach")
    assert said(report, "policy") == "usages client auth; expiry 17520h"
    assert "CN=CFSSL Root" in said(report, "chain")
    assert report.issued is not None
    door = said(report, "open endpoints")
    assert "from /api/v1/cfssl/newcert and /api/v1/cfssl/sign without any token" in door
    assert "use multirootca, or CFSSL 1.6.5 with -disable sign,newcert,init_ca" in door
    assert "or mutual TLS" in door
    assert report.successful
    assert report.message == ""


async def test_a_check_without_a_test_certificate_signs_nothing(ca: Holder) -> None:
    async with cfssl_serve(ca) as peer, counting_proxy(peer.port) as proxy:
        report = await verified(proxy.url)
        assert proxy.requests("/newcert") == proxy.requests("/sign") == 1
        assert "signed" not in peer.log
    assert outcomes(report) == [WARN, OK, OK, OK, SKIPPED, WARN, OK]
    assert said(report, "test certificate") == "not asked for"


async def test_the_test_certificate_is_what_the_ca_has_signed(ca: Holder) -> None:
    async with cfssl_serve(ca) as peer:
        await verified(peer.url, request=make_request("verify", purpose="verify"))
        assert "signed certificate with serial number" in peer.log


async def test_a_multirootca_over_tls_is_clean(ca: Holder, tls_ca: Holder) -> None:
    labels = {"one": Label(ca, page_config())}
    async with multirootca(labels, "one", tls=server_of(tls_ca)) as peer:
        report = await verified(peer.url, trusting(tls_ca), request=make_request())
    assert outcomes(report) == [OK] * 7
    assert said(report, "open endpoints") == "none of them is there"


async def test_mutual_tls_closes_the_open_door(ca: Holder, tls_ca: Holder) -> None:
    async with cfssl_serve(ca, tls=Tls(server_of(tls_ca), tls_ca)) as peer:
        report = await verified(peer.url, trusting(tls_ca), client_of(tls_ca))
    assert outcomes(report) == [OK, OK, OK, OK, SKIPPED, OK, OK]
    assert said(report, "open endpoints") == "the server lets nobody in without a client certificate"


async def test_a_client_certificate_that_nobody_asks_for_leaves_the_door_open(ca: Holder, tls_ca: Holder) -> None:
    async with cfssl_serve(ca, tls=Tls(server_of(tls_ca))) as peer:
        report = await verified(peer.url, trusting(tls_ca), client_of(tls_ca))
    assert outcomes(report) == [OK, OK, OK, OK, SKIPPED, WARN, OK]


async def test_a_client_certificate_that_ends_soon_is_named(ca: Holder, tls_ca: Holder) -> None:
    ending = datetime.now(UTC) + timedelta(days=30)
    async with cfssl_serve(ca, tls=Tls(server_of(tls_ca), tls_ca)) as peer:
        report = await verified(peer.url, trusting(tls_ca), client_of(tls_ca, not_after=ending))
    assert outcomes(report)[1] is WARN
    assert f"our client certificate ends at {ending:%Y-%m-%d}, renew it" in said(report, "authenticate")


async def test_a_server_that_refuses_our_client_certificate_fails_at_authenticate(ca: Holder, tls_ca: Holder) -> None:
    async with cfssl_serve(ca, tls=Tls(server_of(tls_ca), tls_ca)) as peer:
        report = await verified(peer.url, trusting(tls_ca))
    assert outcomes(report) == [OK, FAIL, SKIPPED, SKIPPED, SKIPPED, SKIPPED, SKIPPED]
    assert "refuses our TLS client certificate" in report.message


async def test_a_dead_server_fails_at_reach_and_the_rest_is_left_out() -> None:
    report = await verified("http://127.0.0.1:1", request=make_request())
    assert outcomes(report) == [FAIL, SKIPPED, SKIPPED, SKIPPED, SKIPPED, SKIPPED, SKIPPED]
    assert "takes no connections: Connection refused" in report.message
    assert said(report, "clock") == "an earlier step failed"


async def test_a_wrong_key_fails_at_authenticate_and_nothing_is_signed(ca: Holder) -> None:
    async with cfssl_serve(ca) as peer:
        report = await verified(peer.url, credentials={"hmac_hex_key": OTHER_KEY}, request=make_request())
        assert "signed certificate" not in peer.log
    assert outcomes(report) == [WARN, FAIL, SKIPPED, SKIPPED, SKIPPED, WARN, OK]
    assert "'hmac_hex_key' is not the auth_key of profile 'CA'" in report.message


async def test_a_profile_without_a_key_fails_at_policy(ca: Holder) -> None:
    async with cfssl_serve(ca) as peer:
        report = await verified(peer.url, {"cfssl_profile": "Ca"})
    assert outcomes(report) == [WARN, SKIPPED, FAIL, SKIPPED, SKIPPED, WARN, OK]
    assert "profile 'Ca' of the CA at" in report.message
    assert "is not an authenticated profile" in report.message


async def test_a_label_that_is_not_there_fails_at_policy(ca: Holder) -> None:
    async with multirootca({"one": Label(ca, page_config())}, "one") as peer:
        report = await verified(peer.url, {"cfssl_profile": "CA", "cfssl_label": "two"})
    assert outcomes(report)[:3] == [WARN, SKIPPED, FAIL]
    assert "has no label 'two'; correct 'cfssl_label'" in report.message


def keyed_default() -> dict[str, Any]:
    config = page_config()
    config["signing"]["default"]["auth_key"] = "ca_key"
    return config


async def test_a_mistyped_profile_that_falls_back_to_a_default_with_the_same_key_is_warned_of(ca: Holder) -> None:
    async with cfssl_serve(ca, keyed_default()) as peer:
        report = await verified(peer.url, {"cfssl_profile": "Ca"})
    assert outcomes(report)[1:3] == [OK, WARN]
    assert "'Ca' looks just like the default: check its spelling" in said(report, "policy")


async def test_a_profile_that_differs_from_such_a_default_is_not_doubted(ca: Holder) -> None:
    config = keyed_default()
    config["signing"]["profiles"]["CA"]["expiry"] = "8760h"
    async with cfssl_serve(ca, config) as peer:
        report = await verified(peer.url)
    assert outcomes(report)[1:3] == [OK, OK]
    assert said(report, "policy") == "usages client auth; expiry 8760h"


async def test_a_profile_for_servers_fails_at_policy(ca: Holder) -> None:
    async with cfssl_serve(ca, page_config(usages=["server auth"])) as peer:
        report = await verified(peer.url, request=make_request())
        assert "signed certificate" not in peer.log
    assert outcomes(report) == [WARN, OK, FAIL, SKIPPED, SKIPPED, WARN, OK]
    assert 'has no usage "client auth", which devices need (usages server auth; expiry 17520h)' in report.message


async def test_a_profile_that_outlives_the_ca_fails_at_chain() -> None:
    ending = datetime.now(UTC) + timedelta(days=365)
    async with cfssl_serve(make_factory_ca("CFSSL Root", not_after=ending)) as peer:
        report = await verified(peer.url, request=make_request())
    assert outcomes(report) == [WARN, OK, OK, FAIL, SKIPPED, WARN, OK]
    assert "before a certificate of the profile's expiry 17520h would" in report.message
    assert "shorten the profile's expiry" in report.message


async def test_a_ca_that_ends_soon_is_warned_of() -> None:
    ending = datetime.now(UTC) + timedelta(days=60)
    async with cfssl_serve(make_factory_ca("CFSSL Root", not_after=ending), page_config(expiry="24h")) as peer:
        report = await verified(peer.url)
    assert outcomes(report)[3] is WARN
    assert f"ends at {ending:%Y-%m-%d}, plan a new CA" in said(report, "chain")


async def test_a_ca_that_ended_fails_at_chain() -> None:
    then = datetime.now(UTC) - timedelta(days=1)
    ended = make_factory_ca("CFSSL Root", not_before=then - timedelta(days=9), not_after=then)
    async with cfssl_serve(ended) as peer:
        report = await verified(peer.url)
    assert outcomes(report)[3] is FAIL
    assert "renew the CA" in report.message


async def test_a_signing_certificate_that_is_no_cas_fails_at_chain(ca: Holder) -> None:
    async with cfssl_serve(make_device_certificate(ca, "no CA")) as peer:
        report = await verified(peer.url)
    assert outcomes(report)[3] is FAIL
    assert "CN=no CA, which the server signs with, is no CA certificate" in report.message


async def test_the_issuer_of_an_intermediate_ca_is_named() -> None:
    async with cfssl_serve(make_factory_ca("CFSSL Issuing", issuer=make_factory_ca("Far Root"))) as peer:
        report = await verified(peer.url)
    assert outcomes(report)[3] is OK
    assert "its issuer CN=Far Root,O=Factory must be known here or uploaded" in said(report, "chain")


async def test_a_refused_test_certificate_says_why(ca: Holder) -> None:
    async with cfssl_serve(ca, page_config(name_whitelist="^allowed$")) as peer:
        report = await verified(peer.url, request=make_request())
    assert outcomes(report) == [WARN, OK, OK, OK, FAIL, WARN, OK]
    assert report.issued is None
    assert "name_whitelist of profile 'CA'" in report.message


async def test_a_bundle_that_does_not_come_is_warned_of(ca: Holder) -> None:
    async with cfssl_serve(ca) as peer:
        report = await verified(peer.url, {"cfssl_profile": "CA", "bundle": "true"}, request=make_request())
    assert outcomes(report)[4] is WARN
    assert "'bundle' is on and no chain came" in said(report, "test certificate")
    assert report.issued is not None


async def test_an_address_without_a_scheme_is_warned_of(ca: Holder) -> None:
    async with cfssl_serve(ca) as peer:
        report = await verified(f"127.0.0.1:{peer.port}")
    assert "'host_url' has no scheme and is read as http" in said(report, "reach")


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (timedelta(minutes=-10), "ahead of ours: its certificates may begin in our future"),
        (timedelta(hours=1), "behind"),
    ],
)
async def test_clocks_that_differ_are_warned_of(ca: Holder, offset: timedelta, words: str) -> None:
    async with cfssl_serve(ca) as peer:
        report = await verified(peer.url, now=datetime.now(UTC) + offset)
    assert outcomes(report)[6] is WARN
    assert words in said(report, "clock")
    assert "set both clocks by NTP" in said(report, "clock")
