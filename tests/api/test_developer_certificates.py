"""Developer certificates: made with their key, and the source that a client is built with."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from server.admin import developer_certificates, server_credentials
from tests.api.conftest import PERSON, Api


async def test_the_private_key_of_a_developer_certificate_is_shown_once(api: Api) -> None:
    made = await api.ask("POST", "/v3/developer-certificates", 201, {"name": "desk"})
    certificate = x509.load_pem_x509_certificate(made["developer_certificate"].encode())
    key = serialization.load_pem_private_key(made["developer_private_key"].encode(), None)
    assert key.public_key() == certificate.public_key()
    again = await api.ask("GET", f"/v3/developer-certificates/{made['id']}", 200)
    assert (again["developer_private_key"], again["security_file_content"]) == (None, None)
    trusted = await api.ask("GET", f"/v3/trusted-certificates/{made['id']}", 200)
    assert (trusted["device_execution_mode"], trusted["service"]) == (1, "bootstrap")
    arrays = {
        name: bytes(int(word, 16) for word in re.findall(r"0x([0-9a-f]{2})", body))
        for name, body in re.findall(r"const uint8_t (\w+)\[\] = \{(.*?)\};", made["security_file_content"], re.S)
    }
    device = x509.load_der_x509_certificate(arrays["MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_CERTIFICATE"])
    assert device == certificate
    held = serialization.load_der_private_key(arrays["MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_PRIVATE_KEY"], None)
    assert held.public_key() == certificate.public_key()
    assert f"?aid={api.account_id.hex}" in made["security_file_content"]


# What the developer flow of mbed-cloud-client 4.13 declares `extern`: without one of them it does not link.
CREDENTIALS = {
    "MBED_CLOUD_DEV_BOOTSTRAP_ENDPOINT_NAME",
    "MBED_CLOUD_DEV_ACCOUNT_ID",
    "MBED_CLOUD_DEV_BOOTSTRAP_SERVER_URI",
    "MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_CERTIFICATE",
    "MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_CERTIFICATE_SIZE",
    "MBED_CLOUD_DEV_BOOTSTRAP_SERVER_ROOT_CA_CERTIFICATE",
    "MBED_CLOUD_DEV_BOOTSTRAP_SERVER_ROOT_CA_CERTIFICATE_SIZE",
    "MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_PRIVATE_KEY",
    "MBED_CLOUD_DEV_BOOTSTRAP_DEVICE_PRIVATE_KEY_SIZE",
    "MBED_CLOUD_DEV_MANUFACTURER",
    "MBED_CLOUD_DEV_MODEL_NUMBER",
    "MBED_CLOUD_DEV_SERIAL_NUMBER",
    "MBED_CLOUD_DEV_DEVICE_TYPE",
    "MBED_CLOUD_DEV_HARDWARE_VERSION",
    "MBED_CLOUD_DEV_MEMORY_TOTAL_KB",
}


async def test_the_source_of_a_developer_certificate_has_all_that_the_client_links(api: Api) -> None:
    made = await api.ask("POST", "/v3/developer-certificates", 201, {"name": "desk"})
    assert set(re.findall(r"^const \w+ (\w+)(?:\[\])? = ", made["security_file_content"], re.M)) == CREDENTIALS


@pytest.mark.parametrize(("tcp", "uris"), [((), 1), (("127.0.0.1:5684",), 1), (("127.0.0.1:5685",), 2)])
async def test_the_source_of_a_developer_certificate_leads_each_build_to_its_port(
    api: Api, tcp: tuple[str, ...], uris: int
) -> None:
    office = api.office
    bootstrap = await server_credentials.bootstrap(
        office.database,
        office.sealer,
        replace(office.config, server=replace(office.config.server, coaps_tcp=tcp)),
        api.account_id,
        office.coaps,
    )
    made = await developer_certificates.make(
        office.database,
        PERSON,
        api.account_id,
        name="desk",
        description="",
        owner_id=None,
        bootstrap=bootstrap,
        now=datetime.now(UTC),
    )
    found = re.findall(r"coaps://bootstrap\.example\.com:(\d+)\?aid=", made.source)
    assert found == ["5684", "5685"][:uris]
    udp, _, other = made.source.partition("#else")
    # The client's default is TCP, so that only a build for UDP is told by its macro.
    assert ("MBED_CLOUD_CLIENT_TRANSPORT_MODE_UDP" in udp) is (uris == 2)
    assert (":5685" in other) is (uris == 2)
