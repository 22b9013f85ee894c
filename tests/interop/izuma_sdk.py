"""What an operator's script does with the vendor's Python SDK against a server; run as a program of its own.

Its arguments: the URL of the API, a file with an API key, the URL of a CFSSL, its HMAC key, and the PEM of its CA.
Prints one line for each step that did what it should, and ends with 0 only if all did.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from mbed_cloud import SDK, ApiFilter
from mbed_cloud.sdk.exceptions import ApiErrorResponse


def refused(code: int, call: Callable[[], object]) -> None:
    """The call must end in the SDK's error with this status."""
    status = 0
    try:
        call()
    except ApiErrorResponse as error:
        status = int(error.status_code)
    assert status == code, f"{status or 'done'} instead of {code}"


def done(step: str) -> None:
    """One step did what it should."""
    print(step, flush=True)


def main(url: str, key_file: str, ca_url: str, hmac_key: str, ca_file: str) -> None:
    """The operator's script."""
    entities = SDK(api_key=Path(key_file).read_text().strip(), host=url).foundation
    attributes = {"host_url": ca_url, "cfssl_profile": "CA", "cfssl_label": ""}

    trusted = entities.trusted_certificate(
        name="SDK CA", service="lwm2m", certificate=Path(ca_file).read_text(), status="ACTIVE"
    )
    trusted.create()
    assert trusted.id
    done("trust")

    issuer = entities.certificate_issuer(
        name="SDK CFSSL", issuer_type="CFSSL_AUTH", description="by the SDK", issuer_attributes=attributes
    )
    issuer.create({"hmac_hex_key": hmac_key})
    assert issuer.id
    assert issuer.created_at is not None
    done("create")
    assert issuer.id in [row.id for row in entities.certificate_issuer().list()]
    done("list")
    read = entities.certificate_issuer(id=issuer.id).read()
    assert (read.name, read.issuer_type) == ("SDK CFSSL", "CFSSL_AUTH")
    assert read.issuer_attributes["host_url"] == ca_url
    done("read")
    verified = issuer.verify()
    assert verified.successful is True, verified.message
    done("verify")

    default = entities.certificate_issuer_config().get_default()
    assert default.reference == "LWM2M"
    assert default.certificate_issuer_id is None
    default.certificate_issuer_id = issuer.id
    default.update()
    assert entities.certificate_issuer_config(id=default.id).read().certificate_issuer_id == issuer.id
    done("activate")

    custom = entities.certificate_issuer_config(reference="customer.dlms", certificate_issuer_id=issuer.id)
    custom.create()
    only = ApiFilter()
    only.add_filter("reference", "eq", "customer.dlms")
    assert [row.id for row in entities.certificate_issuer_config().list(filter=only)] == [custom.id]
    assert len(list(entities.certificate_issuer_config().list())) == 2
    # The SDK takes a length from the total, which it does not get round to asking for.
    assert len(entities.certificate_issuer_config().list()) == 2
    done("custom and filter")

    refused(400, issuer.delete)
    twin = entities.certificate_issuer(name="SDK CFSSL", issuer_type="CFSSL_AUTH", issuer_attributes=attributes)
    refused(409, lambda: twin.create({"hmac_hex_key": hmac_key}))
    refused(404, entities.certificate_issuer(id="0" * 32).read)
    refused(400, lambda: twin.create({"hmac_hex_key": "abc"}))
    done("refusals")

    issuer.description = "changed by the SDK"
    issuer.update()
    assert entities.certificate_issuer(id=issuer.id).read().description == "changed by the SDK"
    assert issuer.verify().successful is True
    done("update keeps the credentials")

    credentials = entities.server_credentials().get_bootstrap()
    assert str(credentials.server_uri).startswith("coaps://")
    assert "BEGIN CERTIFICATE" in str(credentials.server_certificate)
    done("server credentials")

    device = entities.device(endpoint_name="sdk-device", name="gate 3", mechanism="connector", mechanism_url="")
    device.create()
    assert (device.state, device.name, device.device_execution_mode) == ("unenrolled", "gate 3", 0)
    read = entities.device(id=device.id).read()
    read.description = "hall 3"
    read.update()
    named = ApiFilter()
    named.add_filter("endpoint_name", "eq", "sdk-device")
    assert [(row.id, row.description) for row in entities.device().list(filter=named)] == [(device.id, "hall 3")]
    assert len(entities.device().list()) == len(list(entities.device().list())) > 0
    device.delete()
    done("a device that is expected")

    key = entities.api_key(name="made by the SDK")
    key.create()
    assert str(key.key).startswith("ak_1")
    assert key.owner == entities.api_key().me().id
    found = ApiFilter()
    found.add_filter("key", "eq", str(key.key)[:-32])
    assert [row.id for row in entities.api_key().list(filter=found)] == [key.id]
    key.name = "renamed by the SDK"
    key.update()
    assert entities.api_key(id=key.id).read().name == "renamed by the SDK"
    key.delete()
    done("an API key")

    user = entities.user(email="sdk@example.com", full_name="S. D. Kay")
    user.create()
    assert (user.email, user.username) == ("sdk@example.com", "sdk@example.com")
    named = ApiFilter()
    named.add_filter("email", "eq", "sdk@example.com")
    assert [row.id for row in entities.user().list(filter=named)] == [user.id]
    assert user.id in [row.id for row in entities.user().list()]
    read = entities.user(id=user.id).read()
    read.update()
    assert (read.email, read.status) == ("sdk@example.com", "ACTIVE")
    refused(409, entities.user(email="sdk@example.com").create)
    user.delete()
    refused(404, entities.user(id=user.id).read)
    done("a user")

    custom.delete()
    default.certificate_issuer_id = None
    default.update()
    assert entities.certificate_issuer_config().get_default().certificate_issuer_id is None
    issuer.delete()
    refused(404, entities.certificate_issuer(id=issuer.id).read)
    trusted.delete()
    done("back to the own CA and removed")


if __name__ == "__main__":
    main(*sys.argv[1:])
