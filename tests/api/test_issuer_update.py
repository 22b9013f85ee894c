"""`PUT` of a CA: what is not sent stays, one attribute and one credential at a time."""

from typing import Any
from uuid import UUID

import pytest

from server.admin import issuers as admin
from server.store import issuers
from tests.api.conftest import PERSON, Api
from tests.pki import make_device_certificate, make_factory_ca

ISSUERS = "/v3/certificate-issuers"
ROOT = make_factory_ca("Private Root")
CLIENT, OTHER = (make_device_certificate(make_factory_ca(), name) for name in ("client", "other"))
KEPT = {"base_url": "https://hvca.example.com:8443/v2", "tls_roots": ROOT.pem.decode(), "rate": "5"}
SECRETS = {
    "api_key": "0123",
    "api_secret": "s3cret",
    "client_certificate": CLIENT.pem.decode(),
    "private_key": CLIENT.key_pem.decode(),
}


async def registered(api: Api) -> dict[str, Any]:
    body = {"name": "gs", "issuer_type": "GLOBAL_SIGN", "issuer_attributes": KEPT, "issuer_credentials": SECRETS}
    return await api.ask("POST", ISSUERS, 201, body)


async def row_of(api: Api, issuer: dict[str, Any]) -> issuers.IssuerRow:
    return await admin.find(api.office.database, api.account_id, UUID(issuer["id"]))


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        ({}, KEPT),
        (None, KEPT),
        ({"rate": "7"}, {**KEPT, "rate": "7"}),
        ({"tls_roots": ""}, {name: KEPT[name] for name in ("base_url", "rate")}),
        ({"base_url": None, "rate": ""}, {"tls_roots": KEPT["tls_roots"]}),
    ],
)
async def test_an_attribute_that_is_not_sent_stays_and_an_empty_one_is_taken_away(
    api: Api, sent: dict[str, str | None] | None, left: dict[str, str]
) -> None:
    made = await registered(api)
    changed = await api.ask("PUT", f"{ISSUERS}/{made['id']}", 200, {"issuer_attributes": sent})
    assert changed["issuer_attributes"] == left


async def test_what_a_ca_must_have_cannot_be_taken_away(api: Api) -> None:
    cfssl = {
        "name": "plant",
        "issuer_type": "CFSSL_AUTH",
        "issuer_attributes": {"host_url": "https://ca", "cfssl_label": "meters"},
        "issuer_credentials": {"hmac_hex_key": "00ff"},
    }
    path = f"{ISSUERS}/{(await api.ask('POST', ISSUERS, 201, cfssl))['id']}"
    refused = await api.ask("PUT", path, 400, {"issuer_attributes": {"host_url": ""}})
    assert refused["fields"][0]["field"] == "issuer_attributes.host_url"
    refused = await api.ask("PUT", path, 400, {"issuer_credentials": {"hmac_hex_key": None}})
    assert refused["fields"][0]["field"] == "issuer_credentials.hmac_hex_key"
    changed = await api.ask("PUT", path, 200, {"issuer_attributes": {"cfssl_label": ""}})
    assert changed["issuer_attributes"] == {"host_url": "https://ca"}


async def test_a_credential_that_is_not_sent_stays_under_whichever_name_the_other_comes(api: Api) -> None:
    made = await registered(api)
    path = f"{ISSUERS}/{made['id']}"
    for sent in ({"access_key": "4567"}, {}, {"api_secret": "other"}):
        await api.ask("PUT", path, 200, {"issuer_credentials": sent})
    kept = (await row_of(api, made)).credentials(api.office.sealer)
    assert kept == {**SECRETS, "api_key": "4567", "api_secret": "other"}
    # Judged with what stays: the certificate is not of this key.
    refused = await api.ask("PUT", path, 400, {"issuer_credentials": {"private_key": OTHER.key_pem.decode()}})
    assert refused["fields"][0]["field"] == "issuer_credentials.private_key"


async def test_of_two_changes_at_once_neither_undoes_the_other(api: Api) -> None:
    made = await registered(api)
    # Both read the same row; the second is written to what the first has made of it.
    row = await row_of(api, made)
    for change in (
        {"credentials": {"api_secret": "new"}},
        {"credentials": {"api_key": "9"}},
        {"attributes": {"rate": "9"}},
    ):
        nothing: dict[str, Any] = {"name": None, "description": None, "attributes": None, "credentials": None}
        await admin.change(api.office.database, api.office.sealer, PERSON, row, **{**nothing, **change})
    after = await row_of(api, made)
    assert after.credentials(api.office.sealer) == {**SECRETS, "api_secret": "new", "api_key": "9"}
    assert after.attributes == {**KEPT, "rate": "9"}
