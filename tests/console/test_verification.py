"""The steps of a verification appear one by one: the CA is held at one of them, and those before stand there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from playwright.async_api import expect

from tests.console.rig import Rig
from tests.issuers.peers.cfssl import PAGE_KEY


@contextlib.asynccontextmanager
async def gate(target_port: int, word: bytes) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A way to a CA on which a request that holds `word` waits until the event is set."""
    opened = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, held: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if held and word in data:
                    await opened.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", target_port)
        writers.extend((writer, upstream_writer))
        await asyncio.gather(pump(reader, upstream_writer, held=True), pump(upstream_reader, writer, held=False))

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", opened
    finally:
        opened.set()
        server.close()
        for writer in writers:
            writer.close()


async def test_steps_appear_one_by_one_while_the_ca_works(rig: Rig) -> None:
    async with gate(rig.scene.cfssl.port, b"authsign") as (url, opened):
        made = await rig.ask(
            "POST",
            "/v3/certificate-issuers",
            {
                "name": "Slow CA",
                "issuer_type": "CFSSL_AUTH",
                "issuer_attributes": {"host_url": url, "cfssl_profile": "CA"},
                "issuer_credentials": {"hmac_hex_key": PAGE_KEY},
            },
            201,
        )
        async with rig.page("/device-identity/certificate-authorities") as page:
            await page.get_by_role("row", name="Slow CA").get_by_role("link", name="Verify").click()
            await page.get_by_role("button", name="Verify").click()
            steps = page.locator("dialog[open] .checks li")
            await expect(steps).to_contain_text(["Reach", "Asking the CA"])
            await expect(page.locator("#verification")).to_have_attribute("aria-busy", "true")
            opened.set()
            await expect(page.locator("dialog[open]").get_by_text("Test certificate", exact=True)).to_be_visible()
            await expect(page.locator("#verification")).to_have_attribute("aria-busy", "false")
        await rig.ask("DELETE", f"/v3/certificate-issuers/{made['id']}", code=204)
