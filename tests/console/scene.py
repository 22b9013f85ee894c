"""What is on the server that the console's tests look at: a factory, CAs, devices that came, and an empty account."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.integration.service import Service, simulate
from tests.issuers.peers.atlas import AtlasPeer, running_atlas
from tests.issuers.peers.cfssl import PAGE_KEY, Peer, cfssl_serve
from tests.pki import Holder, make_factory_ca

DEVICES = 6


@dataclass(frozen=True)
class Scene:
    """Who is there; `ids` are the ids that addresses of screens hold, by name."""

    factory: Holder
    ca: Holder
    cfssl: Peer
    atlas: AtlasPeer
    reader_key: str
    newcomer_key: str
    ids: Mapping[str, str] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def played(service: Service, client: httpx.AsyncClient) -> AsyncIterator[Scene]:
    """Everything made through the API, devices by the simulator."""
    ca, factory = make_factory_ca("Plant Root"), make_factory_ca("Oulu Factory")

    async def ask(method: str, path: str, json: object = None, **headers: str) -> dict[str, Any]:
        answer = await client.request(method, path, json=json, headers=headers)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else {}

    async def trust(name: str, service_name: str, pem: bytes) -> str:
        body = {"name": name, "service": service_name, "certificate": pem.decode()}
        return str((await ask("POST", "/v3/trusted-certificates", body))["id"])

    async def cfssl_ca(name: str, url: str, description: str = "") -> str:
        body = {
            "name": name,
            "description": description,
            "issuer_type": "CFSSL_AUTH",
            "issuer_attributes": {"host_url": url, "cfssl_profile": "CA"},
            "issuer_credentials": {"hmac_hex_key": PAGE_KEY},
        }
        return str((await ask("POST", "/v3/certificate-issuers", body))["id"])

    async with cfssl_serve(ca) as cfssl, running_atlas() as atlas:
        ids = {"factory": await trust("Oulu factory", "bootstrap", factory.pem)}
        old = await trust("Old factory", "bootstrap", make_factory_ca("Old Factory").pem)
        await ask("PUT", f"/v3/trusted-certificates/{old}", {"status": "INACTIVE"})
        await trust("Plant Root", "lwm2m", ca.pem)
        await bootstrap(service, factory, "meter-", DEVICES // 2)
        ids["plant"] = await cfssl_ca("Plant CA", cfssl.url, "signs the meters of the Oulu plant")
        ids["away"] = await cfssl_ca("Harbour CA", "http://127.0.0.1:1")
        for issuer in ("plant", "away"):
            await ask("POST", f"/v3/certificate-issuers/{ids[issuer]}/verify")
            reports = await ask("GET", f"/v1/issuers/{ids[issuer]}/verifications")
            ids[f"{issuer}-verification"] = reports["data"][-1]["id"]
        await ask("PUT", "/v3/certificate-issuer-configurations/lwm2m", {"certificate_issuer_id": ids["plant"]})
        await ask(
            "POST",
            "/v3/certificate-issuer-configurations",
            {"reference": "customer.dlms", "certificate_issuer_id": ids["plant"]},
        )
        # The change is at work in every worker within two seconds.
        await asyncio.sleep(2.2)
        await bootstrap(service, factory, "pump-", DEVICES - DEVICES // 2)
        await refused(service)
        devices = (await ask("GET", "/v3/devices/?sort=endpoint_name"))["data"]
        ids["device"] = devices[0]["id"]
        ids["failing"] = (await ask("GET", "/v3/devices/?last_outcome__eq=failed"))["data"][0]["id"]
        certificates = (await ask("GET", "/v1/certificates"))["data"]
        ids["certificate"], ids["revoked"] = certificates[-1]["id"], certificates[0]["id"]
        await ask("POST", f"/v1/certificates/{ids['revoked']}/revoke", {"reason": "keyCompromise"})
        for name, service in (("gauge-7", "bootstrap"), ("gauge-7", "lwm2m")):
            key = {"identity": name, "key": secrets.token_hex(16), "endpoint_name": name, "service": service}
            await ask("POST", "/v1/pre-shared-keys", key)
        reader = await ask("POST", "/v3/api-keys", {"name": "night watch", "role": "read-only"})
        newcomer = await ask("POST", "/v3/accounts", {"display_name": "New plant"})
        ids["newcomer"] = newcomer["id"]
        await ask("PUT", f"/v3/accounts/{newcomer['id']}", {"third_party_ca": True})
        yield Scene(factory, ca, cfssl, atlas, reader["key"], newcomer["admin_key"], ids)


async def bootstrap(service: Service, factory: Holder, prefix: str, count: int) -> None:
    """Have devices of the factory bootstrap."""
    files = {"factory-ca": factory.pem, "factory-key": factory.key_pem}
    words = []
    for name, content in files.items():
        (service.folder / f"{name}.pem").write_bytes(content)
        words += [f"--{name}", str(service.folder / f"{name}.pem")]
    code, reports, _ = await simulate(
        *("--server", service.server_uri, "--mode", "x509", "--server-ca", service.ready["server_ca_file"]),
        *("--count", str(count), "--endpoint-prefix", prefix, "--out", str(service.folder / "devices")),
        *words,
    )
    assert code == 0, json.dumps(reports)


async def refused(service: Service) -> None:
    """Devices that fail: one whose key nobody stored, one that does not take what it is written."""
    folder = service.folder
    (folder / "psk.hex").write_text("00112233445566778899aabbccddeeff")
    # Neither device is told that it failed: both would wait for minutes.
    impatient = ("--timeout", "10", "--handshake-timeout", "10")
    common = ("--server", service.server_uri, "--out", str(folder / "devices"), *impatient)
    files = {name: str(folder / f"{name}.pem") for name in ("factory-ca", "factory-key")}
    factory = (word for name, file in files.items() for word in (f"--{name}", file))
    taken = ("--server-ca", service.ready["server_ca_file"], "--format", "senml-json", "--endpoint", "valve-1")
    stranger = ("--psk-identity", "pump-of-nobody", "--psk-file", str(folder / "psk.hex"))
    # Both wait at once.
    for code, reports, _ in await asyncio.gather(
        simulate(*common, "--mode", "psk", *stranger), simulate(*common, "--mode", "x509", *factory, *taken)
    ):
        assert code != 0, json.dumps(reports)
    # Refusals are written once a second.
    await asyncio.sleep(1.5)
