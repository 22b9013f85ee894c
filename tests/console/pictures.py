"""`python -m tests.console.pictures docs/images`: the pictures of README and docs, of a fleet that truly bootstraps."""

import asyncio
import contextlib
import os
import random
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.serialization import Encoding
from playwright.async_api import Page, async_playwright

from tests.console.rig import DESK, FLAGS, chromium, sign_in
from tests.console.scene import bootstrap
from tests.console.views import CAS, PRE_SHARED_KEYS
from tests.integration.service import Service, running, simulate
from tests.issuers.peers.atlas import AtlasPeer, running_atlas
from tests.issuers.peers.cfssl import PAGE_KEY, cfssl_serve
from tests.pki import Holder, make_factory_ca

# So long that the plots of a quarter of an hour have something to tell.
MINUTES = 9.0
FAMILIES = ("meter", "pump", "lamp")
Ask = Callable[..., Awaitable[dict[str, Any]]]


async def fleet(service: Service, factory: Holder, ca: Holder, plant: str, atlas: AtlasPeer, ask: Ask) -> None:
    """Factories, CAs, keys and profiles of a plant; then devices for `MINUTES`, a few of which fail."""

    async def trust(name: str, use: str, holder: Holder) -> None:
        body = {"name": name, "service": use, "certificate": holder.pem.decode()}
        await ask("POST", "/v3/trusted-certificates", body)

    async def add(name: str, description: str, kind: str, attributes: object, credentials: object) -> str:
        body = {"name": name, "description": description, "issuer_type": kind}
        body |= {"issuer_attributes": attributes, "issuer_credentials": credentials}
        made = await ask("POST", "/v3/certificate-issuers", body)
        await ask("POST", f"/v3/certificate-issuers/{made['id']}/verify")
        return str(made["id"])

    await trust("Oulu factory", "bootstrap", factory)
    await trust("Turku factory", "bootstrap", make_factory_ca("Turku Factory"))
    await trust("Plant Root", "lwm2m", ca)
    root = {
        "name": "GlobalSign root",
        "service": "lwm2m",
        "certificate": atlas.atlas.ca.root.certificate.public_bytes(Encoding.PEM).decode(),
    }
    await ask("POST", "/v3/trusted-certificates", root)
    default = await ask("GET", "/v1/profiles/default")
    for family in FAMILIES:
        toml = str(default["toml"]).replace('endpoint = "*"', f'endpoint = "{family}-*"')
        await ask("PUT", f"/v1/profiles/{family}s", {"toml": toml, "files": default["files"]})
    keys = {f"urn:imei:35000000000000{n}": secrets.token_hex(16) for n in range(1, 7)}
    for name, key in keys.items():
        await ask("POST", "/v1/pre-shared-keys", {"identity": name, "key": key, "endpoint_name": name})
    cfssl = {"host_url": plant, "cfssl_profile": "CA"}
    own = await add("Plant CA", "signs the meters of Oulu", "CFSSL_AUTH", cfssl, {"hmac_hex_key": PAGE_KEY})
    away = {"host_url": "http://127.0.0.1:9443"}
    await add("Harbour CA", "", "CFSSL_AUTH", away, {"hmac_hex_key": PAGE_KEY})
    await add("GlobalSign", "", "GLOBAL_SIGN", atlas.attributes, atlas.credentials)
    end, chance, number, moved = asyncio.get_running_loop().time() + 60 * MINUTES, random.Random(7), 0, False
    while (left := end - asyncio.get_running_loop().time()) > 0:
        number += 1
        await bootstrap(service, factory, f"{chance.choice(FAMILIES)}-{number}", chance.randint(1, 4))
        if left < 45 * MINUTES and not moved:
            configuration = {"certificate_issuer_id": own}
            await ask("PUT", "/v3/certificate-issuer-configurations/lwm2m", configuration)
            custom = {"reference": "customer.dlms", "certificate_issuer_id": own}
            await ask("POST", "/v3/certificate-issuer-configurations", custom)
            moved = True
        if keys:
            name, key = keys.popitem()
            await one(service, "psk", name, key)
        await asyncio.sleep(chance.uniform(1, 7))
    await one(service, "valve", "valve-1", "")


async def one(service: Service, kind: str, name: str, key: str) -> None:
    """A device with a pre-shared key, or one that does not take what it is written."""
    file = service.folder / "key.hex"
    file.write_text(key)
    factory = [word for each in ("factory-ca", "factory-key") for word in (f"--{each}", f"{service.folder}/{each}.pem")]
    words = (
        ("--mode", "psk", "--psk-identity", name, "--psk-file", str(file))
        if kind == "psk"
        else ("--mode", "x509", "--endpoint", name, "--format", "senml-json", *factory)
    )
    server = ("--server", service.server_uri, "--server-ca", service.ready["server_ca_file"])
    await simulate(*server, "--out", str(service.folder / "devices"), "--timeout", "10", *words)


@contextlib.asynccontextmanager
async def browsing(url: str, key: str, folder: str) -> AsyncIterator[Page]:
    """A browser that is signed in."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=[*FLAGS], env={**os.environ, "HOME": folder}
        )
        context = await browser.new_context(
            base_url=url, viewport=DESK, locale="en-GB", timezone_id="Europe/Helsinki", reduced_motion="reduce"
        )
        page = await context.new_page()
        await sign_in(page, key)
        yield page
        await browser.close()


async def photograph(page: Page, ask: Ask, out: Path) -> None:
    """Each picture, as tall as what is to be seen on it."""

    async def picture(name: str, height: int = 0) -> None:
        clip = {"x": 0, "y": 0, "width": DESK["width"], "height": height}
        await page.mouse.move(640, 5)
        await page.screenshot(path=out / f"{name}.png", full_page=True, **({"clip": clip} if height else {}))

    await page.goto("/?window=15m")
    await page.get_by_text("live", exact=True).wait_for()
    await picture("start")
    await page.goto("/devices")
    await picture("devices", 620)
    failing = (await ask("GET", "/v3/devices/?last_outcome__eq=failed"))["data"][0]["id"]
    await page.goto(f"/devices/{failing}")
    await picture("device")
    await page.goto(PRE_SHARED_KEYS)
    await picture("pre-shared-keys")
    await page.goto("/profiles/meters")
    await page.get_by_label("Endpoint name").fill("meter-00001")
    await page.get_by_role("button", name="Try it").click()
    await page.get_by_text("would succeed").wait_for()
    await picture("profile")
    await page.goto("/audit")
    await picture("audit", 900)
    await page.goto(CAS)
    await page.get_by_text("certificates left").wait_for()
    await picture("certificate-authorities")
    await page.get_by_role("link", name="Service configuration of GlobalSign").click()
    await page.get_by_role("radio", name="LWM2M").check()
    await page.get_by_text("Create moves 'LWM2M'").wait_for()
    await page.screenshot(path=out / "service-configuration.png")


async def main(out: Path) -> None:
    """All of it, and nothing left afterwards."""
    ca, factory = make_factory_ca("Plant Root"), make_factory_ca("Oulu Factory")
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="console-"))
        service = await stack.enter_async_context(running(Path(folder)))
        first = Path(service.ready["api_key_file"]).read_text().strip()
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=service.ready["http"], trust_env=False))

        async def ask(method: str, path: str, json: object = None, key: str = "") -> dict[str, Any]:
            headers = {"Authorization": f"Bearer {key or maker}"}
            answer = await client.request(method, path, json=json, headers=headers, timeout=60)
            assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
            return answer.json() if answer.content else {}

        made = await ask("POST", "/v3/api-keys", {"name": "day shift", "role": "administrator"}, first)
        maker = str(made["key"])
        plant = await stack.enter_async_context(cfssl_serve(ca))
        atlas = await stack.enter_async_context(running_atlas())
        await fleet(service, factory, ca, plant.url, atlas, ask)
        page = await stack.enter_async_context(browsing(service.ready["http"], maker, folder))
        await photograph(page, ask, out)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
