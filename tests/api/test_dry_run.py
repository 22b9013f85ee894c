"""What a device would get, told without signing anything."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from server.store import readiness
from tests.api.conftest import Api
from tests.api.plant import registered_at
from tests.api.test_certificate_enrollments import device, register
from tests.issuers.peers.cfssl import cfssl_serve
from tests.pki import make_factory_ca


async def test_the_dry_run_tells_what_a_device_would_get_and_signs_nothing(api: Api) -> None:
    found = await api.ask("GET", "/v1/dry-run?endpoint_name=urn:dev:os:1&version=1.2", 200)
    assert (found["profile"], found["issuers"], found["outcome"]) == ("default", {"LWM2M": "embedded CA"}, "succeeded")
    kinds = [step["operation"] for step in found["operations"]]
    assert kinds == ["discover", "delete", "delete", "write", "write", "finish"]
    security = next(step for step in found["operations"] if step["path"] == "/0/1")
    assert security["bytes"] > 500
    small = await api.ask("GET", "/v1/dry-run?endpoint_name=urn:dev:os:1&version=1.0", 200)
    leaf = next(step for step in small["operations"] if step["path"] == "/0/1")
    assert leaf["bytes"] < security["bytes"]
    assert (await api.ask("GET", "/v1/certificates", 200))["data"] == []


async def test_the_dry_run_of_a_name_that_no_certificate_can_bear_says_so(api: Api) -> None:
    found = await api.ask("GET", f"/v1/dry-run?endpoint_name={'n' * 100}", 200)
    assert "error" in [finding["severity"] for finding in found["findings"]]


async def test_the_dry_run_is_of_the_active_ca_and_says_what_keeps_it_from_signing(api: Api) -> None:
    path = "/v1/dry-run?endpoint_name=urn:dev:os:1"

    async def explained() -> tuple[str, list[str], dict[str, Any]]:
        found: dict[str, Any] = await api.ask("GET", path, 200)
        assert found["issuers"] == {"LWM2M": "Plant CA"}
        assert found["sizes_estimated"] is True
        return found["outcome"], [f"{each['severity']}: {each['message']}" for each in found["findings"]], found

    own = await api.ask("GET", path, 200)
    assert own["sizes_estimated"] is False
    assert any("leaf goes out alone" in each["message"] for each in own["findings"])
    root = make_factory_ca("Plant Root")
    async with cfssl_serve(root) as peer:
        ca = await registered_at(api, peer.url)
        activation = {"reference": "LWM2M", "certificate_issuer_id": ca["id"]}
        await api.ask("PUT", "/v3/certificate-issuer-configurations/lwm2m", 200, activation)
        _, findings, _ = await explained()
        assert any("never verified" in each for each in findings)
        assert any("has not shown its certificates" in each for each in findings)
        verify = f"/v3/certificate-issuers/{ca['id']}/verify?issue_test=false"
        await api.ask("POST", verify, 200)
        outcome, findings, _ = await explained()
        assert outcome.startswith("issuer_bad_certificate: ")
        assert [each[:6] for each in findings] == ["error:"]
        assert "the CA certificate of Plant CA is not trusted for LWM2M" in findings[0]
        trusted = {"name": "plant", "service": "lwm2m", "certificate": root.pem.decode()}
        await api.ask("POST", "/v3/trusted-certificates", 201, trusted)
        await api.ask("POST", verify, 200)
        # The root signs by itself: no intermediate stands above the leaf.
        outcome, findings, found = await explained()
        assert (outcome, findings) == ("succeeded", [])
        security = next(step for step in found["operations"] if step["path"] == "/0/1")
        assert security["bytes"] > 500
    until = datetime.now(UTC) + timedelta(hours=1)
    for _ in range(2):
        await readiness.failed(
            api.office.database,
            UUID(str(ca["id"])),
            "Unauthorized",
            "it does not take our login",
            opens_at=2,
            open_until=until,
        )
    outcome, findings, _ = await explained()
    assert outcome == "issuer_unavailable: CA Plant CA is not ready"
    assert len(findings) == 1
    assert findings[0].startswith("error: CA Plant CA is not ready since ")
    assert "it does not take our login; the device would be answered 5.03" in findings[0]


async def test_the_dry_run_takes_the_version_that_the_device_registered_with(api: Api) -> None:
    path = "/v1/dry-run?endpoint_name=meter"
    assert (await api.ask("GET", path, 200))["version"] == "1.1"
    stored = await api.ask("GET", "/v1/profiles/default", 200)
    text, files = str(stored["toml"]), stored["files"]
    newest = text.replace('content_format = "auto"', 'content_format = "lwm2m-cbor"')
    assert newest != text
    # One that writes what only 1.2 reads is for devices of 1.2.
    await api.ask("PUT", "/v1/profiles/default", 200, {"toml": newest, "files": files})
    assert (await api.ask("GET", path, 200))["version"] == "1.2"
    await api.ask("PUT", "/v1/profiles/default", 200, {"toml": text, "files": files})
    await register(api, await device(api), version="1.2")
    assert (await api.ask("GET", path, 200))["version"] == "1.2"
    assert (await api.ask("GET", f"{path}&version=1.0", 200))["version"] == "1.0"
