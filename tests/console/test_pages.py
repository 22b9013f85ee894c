"""The main ways through start page, devices, profiles, audit and access, in a real browser with simulated devices."""

import asyncio
import csv
import io
import json
import os
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
from playwright.async_api import Locator, Page, expect

from tests.console.rig import Rig, sign_in
from tests.console.scene import bootstrap
from tests.integration.service import environment, running, simulate

PATIENCE = 60_000


async def read(page: Page, name: str) -> str:
    """The file behind a link of the page."""
    async with page.expect_download() as waiting:
        await page.get_by_role("link", name=name).click()
    return Path(await (await waiting.value).path()).read_text()


def query(page: Page) -> dict[str, list[str]]:
    """The filters in the address."""
    return parse_qs(urlsplit(page.url).query)


# -- start page --------------------------------------------------------------------------


async def test_the_start_page_says_what_needs_me_and_shows_a_bootstrap_without_being_reloaded(
    rig: Rig, page: Page
) -> None:
    await expect(page.get_by_role("heading", name=re.compile("All clear|Attention required"))).to_be_visible()
    await expect(page.get_by_text("live", exact=True)).to_be_visible()
    await page.evaluate("window.same = true")
    before = await confirmed(page)
    await bootstrap(rig.service, rig.scene.factory, "lamp-", 2)
    await expect(page.locator(".funnel li").last).to_contain_text(str(before + 2), timeout=PATIENCE)
    assert await page.evaluate("window.same")
    found = await rig.ask("GET", "/v1/statistics?window=1h")
    assert found["funnel"]["confirmed"] >= before + 2


async def confirmed(page: Page) -> int:
    """The last step of the funnel."""
    return int(await page.locator(".funnel li .count").last.inner_text())


async def test_the_start_page_can_be_paused_and_goes_on(rig: Rig, page: Page) -> None:
    await expect(page.get_by_text("live", exact=True)).to_be_visible()
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_text("paused", exact=True)).to_be_visible()
    before = await confirmed(page)
    await bootstrap(rig.service, rig.scene.factory, "bulb-", 1)
    await asyncio.sleep(5)
    assert await confirmed(page) == before
    await page.get_by_role("button", name="Go on").click()
    await expect(page.locator(".funnel li").last).to_contain_text(str(before + 1), timeout=PATIENCE)


async def test_a_group_of_failures_leads_to_its_devices(rig: Rig, page: Page) -> None:
    await page.get_by_role("link", name="format refused").click()
    assert query(page) == {
        "last_outcome__eq": ["failed"],
        "last_cause__eq": ["format_refused"],
        "profile__eq": ["default"],
        "last_failed_ca__eq": [rig.scene.ids["plant"]],
    }
    await expect(page.locator(".chips")).to_contain_text("CA it failed at is Plant CA")
    await expect(page.get_by_role("row", name="valve-1")).to_be_visible()


# Of the four steps, after each command; a factory that is made is known to the server once it is trusted.
AFTER_COMMANDS = (
    ["next", "not yet", "not yet", "not yet"],
    ["done", "done", "next", "not yet"],
    ["done", "done", "done", "done"],
)


def step_states(steps: Locator) -> Locator:
    """What stands at each step."""
    return steps.locator("li > .pill")


async def test_four_steps_lead_from_nothing_to_a_first_device(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    async with running(tmp_path / "server") as service:
        key = Path(service.ready["api_key_file"]).read_text().strip()
        async with await rig.browser.new_context(base_url=service.ready["http"]) as context:
            page = await context.new_page()
            await sign_in(page, key)
            steps = page.locator("#first-steps")
            await expect(steps.get_by_role("heading", name="From nothing to a first device")).to_be_visible()
            commands = await steps.locator("pre").all_inner_texts()
            assert len(commands) == 3
            (tmp_path / "desk").mkdir()
            # The page follows by itself: nobody reloads it.
            await expect(step_states(steps)).to_have_text(["next", "not yet", "not yet", "not yet"])
            for command, states in zip(commands, AFTER_COMMANDS, strict=True):
                process = await asyncio.create_subprocess_shell(
                    command,
                    cwd=tmp_path / "desk",
                    env=environment(),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                )
                said, _ = await process.communicate()
                assert process.returncode == 0, f"{command}\n{said.decode()}"
                await expect(step_states(steps)).to_have_text(states, timeout=PATIENCE)
                # What was trusted is at work within two seconds.
                await asyncio.sleep(2.5)
            await expect(steps.get_by_role("heading", name="Your first device is here")).to_be_visible()
            await page.get_by_role("link", name=re.compile("^trial-")).click()
            await expect(page.get_by_role("heading", name="The chain as the device holds it")).to_be_visible()


# -- devices -----------------------------------------------------------------------------


async def test_filters_and_sorts_of_devices_live_in_the_address_and_are_the_apis(rig: Rig, page: Page) -> None:
    await page.goto("/devices")
    await page.keyboard.press("/")
    await page.keyboard.type("METER")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**endpoint_name__like=METER**")
    names = await page.locator("tbody th b").all_inner_texts()
    assert names
    assert all(name.startswith("meter-") for name in names)
    await page.get_by_role("link", name="Device", exact=True).click()
    assert query(page) == {"endpoint_name__like": ["METER"], "sort": ["endpoint_name"], "order": ["ASC"]}
    assert await page.locator("tbody th b").all_inner_texts() == sorted(names)
    await page.get_by_role("link", name=re.compile("Device.*ascending")).click()
    assert await page.locator("tbody th b").all_inner_texts() == sorted(names, reverse=True)
    api = await rig.ask("GET", f"/v3/devices/?{urlsplit(page.url).query}")
    assert [row["endpoint_name"] for row in api["data"]] == sorted(names, reverse=True)
    rows = list(csv.DictReader(io.StringIO(await read(page, "CSV"))))
    assert [row["endpoint_name"] for row in rows] == sorted(names, reverse=True)


async def test_a_failed_bootstrap_says_what_went_wrong_and_what_to_do(rig: Rig, page: Page) -> None:
    await page.goto("/devices?last_outcome__eq=failed")
    await page.get_by_role("link", name="valve-1").click()
    told = page.locator(".trouble").first
    await expect(told).to_contain_text("valve-1 does not take the content format of the Write")
    await expect(told).to_contain_text("the operator's turn")
    steps = page.get_by_role("region", name=re.compile("Steps of the bootstrap"))
    await expect(steps.get_by_role("row", name=re.compile("CA"))).to_contain_text("Plant CA")
    await expect(steps.get_by_role("row", name=re.compile("Write")).last).to_contain_text("4.15")
    transcript = json.loads(await read(page, "Transcript"))
    assert transcript["entries"]


async def test_a_device_shows_the_chain_it_holds_and_every_step(rig: Rig, page: Page) -> None:
    await page.goto(f"/devices/{rig.scene.ids['device']}")
    held = await rig.ask("GET", f"/v3/devices/{rig.scene.ids['device']}/")
    pairs = ":".join(held["device_key"][at : at + 2] for at in range(0, 64, 2)).upper()
    shown = (await page.locator(".fingerprint").first.inner_text()).replace("\u200b", "")
    assert shown == pairs
    session = (await rig.ask("GET", f"/v1/sessions?endpoint_name__eq={held['endpoint_name']}"))["data"][0]
    steps = (await rig.ask("GET", f"/v1/sessions/{session['id']}"))["steps"]
    resources = (
        await page.get_by_role("region", name=re.compile("Steps of")).first.locator("tbody code").all_inner_texts()
    )
    assert [step["path"] for step in steps] == [resource for resource in resources if resource != "LWM2M"]


async def test_a_device_whose_certificate_is_revoked_says_so(rig: Rig, page: Page) -> None:
    held = (await rig.ask("GET", "/v1/certificates?endpoint_name__like=meter"))["data"]
    for revoked in (True, False):
        row = next(row for row in held if (row["revoked_at"] is not None) is revoked)
        await page.goto(f"/devices?endpoint_name__eq={row['endpoint_name']}")
        await page.get_by_role("link", name=row["endpoint_name"]).click()
        chain = page.locator("section").filter(has_text="The chain as the device holds it")
        await expect(chain.get_by_role("link", name="download")).to_be_visible()
        assert ("revoked" in await chain.inner_text()) is revoked


async def test_a_device_is_forgotten_with_its_certificate_revoked_and_may_come_back(rig: Rig, page: Page) -> None:
    # One whose certificate is of the embedded CA, which can revoke, and is not revoked yet.
    held = (await rig.ask("GET", "/v1/certificates?endpoint_name__like=meter"))["data"]
    name = str(next(row["endpoint_name"] for row in held if row["revoked_at"] is None))
    await page.goto(f"/devices?endpoint_name__eq={name}")
    await page.get_by_role("link", name=name).click()
    await page.get_by_role("link", name="Forget this device").click()
    await expect(page.get_by_text("What stays:")).to_be_visible()
    await page.get_by_label("Revoke its 1 certificate too").check()
    await page.locator("dialog").get_by_role("button", name="Forget it").click()
    await expect(page.get_by_text(f"{name} is forgotten")).to_be_visible()
    assert (await rig.ask("GET", f"/v3/devices/?endpoint_name__eq={name}"))["data"] == []
    kept = (await rig.ask("GET", f"/v1/certificates?endpoint_name__eq={name}"))["data"]
    assert [row["revocation_reason"] for row in kept] == ["cessationOfOperation"]
    noted = (await rig.ask("GET", f"/v1/audit?subject__eq={name}&action__eq=device.removed"))["data"]
    assert [row["actor_kind"] for row in noted] == ["console"]
    await bootstrap(rig.service, rig.scene.factory, "meter-", 3)
    assert len((await rig.ask("GET", f"/v3/devices/?endpoint_name__eq={name}"))["data"]) == 1


async def test_nothing_is_forgotten_when_the_ca_cannot_revoke(rig: Rig, page: Page) -> None:
    await page.goto("/devices?endpoint_name__eq=pump-0001")
    await page.get_by_role("link", name="pump-0001").click()
    await page.get_by_role("link", name="Forget this device").click()
    await page.get_by_label("Revoke its 1 certificate too").check()
    await page.locator("dialog").get_by_role("button", name="Forget it").click()
    await expect(page.locator("dialog").get_by_role("alert")).to_contain_text("Nothing was forgotten")
    assert len((await rig.ask("GET", "/v3/devices/?endpoint_name__eq=pump-0001"))["data"]) == 1


async def test_one_click_admits_a_device_whose_key_nobody_stored(rig: Rig, page: Page) -> None:
    key, folder = os.urandom(16).hex(), rig.service.folder
    (folder / "late.hex").write_text(key)
    come = (
        *("--server", rig.service.server_uri, "--mode", "psk", "--psk-identity", "late-device"),
        *("--psk-file", str(folder / "late.hex"), "--out", str(folder / "devices")),
    )
    code, _, _ = await simulate(*come)
    assert code != 0
    await asyncio.sleep(1.5)
    await page.goto("/devices/seen?identity__like=late-device")
    row = page.get_by_role("row", name="late-device")
    await expect(row).to_contain_text("Nobody stored a pre-shared key of this identity")
    await row.get_by_role("link", name="Add its key").click()
    await page.get_by_label("Key", exact=True).fill("not hexadecimal")
    await page.get_by_role("button", name="Add the key").click()
    await expect(page.get_by_text("a key is an even number of hexadecimal characters")).to_be_visible()
    # The form came anew: what was typed is put back and the field in question is gone to.
    await expect(page.get_by_label("Key", exact=True)).to_be_focused()
    await page.get_by_label("Key", exact=True).fill(key)
    await page.get_by_role("button", name="Add the key").click()
    await expect(page.get_by_text("the device is admitted at its next try")).to_be_visible()
    assert key not in await page.content()
    await asyncio.sleep(2.5)
    code, reports, _ = await simulate(*come)
    assert code == 0, reports


# -- profiles ----------------------------------------------------------------------------


async def test_a_profile_is_judged_while_it_is_typed_and_shows_what_a_device_would_get(rig: Rig, page: Page) -> None:
    await page.goto("/profiles")
    await page.get_by_role("link", name="New profile").click()
    await page.get_by_label("Name").first.fill("pumps")
    text = page.get_by_label("Text (TOML)")
    good = (await text.input_value()).replace('"meter-*"', '"pump-*"')
    checked = page.locator("#checked")
    await text.fill(good + "\ncolour = 1\n")
    await text.press("End")
    await expect(checked.get_by_role("alert")).to_contain_text("colour")
    await page.get_by_role("button", name="Store").click()
    await expect(page.locator(".problem")).to_contain_text("colour")
    await page.get_by_label("Text (TOML)").fill(good)
    await page.get_by_label("Endpoint name").fill("pump-77")
    await page.get_by_role("button", name="Try it").click()
    await expect(checked).to_contain_text("would succeed")
    await expect(checked).to_contain_text("pump-77 gets the profile pumps")
    await expect(checked.get_by_role("row", name=re.compile("Write")).first).to_be_visible()
    assert [row["name"] for row in (await rig.ask("GET", "/v1/profiles"))["data"]] == ["default"]
    await page.get_by_role("button", name="Store").click()
    await expect(page.get_by_text("The profile pumps is stored")).to_be_visible()
    assert (await rig.ask("GET", "/v1/profiles/pumps"))["toml"] == good
    await page.goto("/profiles/dry-run?endpoint_name=pump-77")
    # No version is put into anybody's mouth: the device says it, or its profile.
    await expect(page.get_by_label("LwM2M version of the device")).to_have_value("")
    await expect(page.get_by_text("LwM2M 1.1 is assumed, which its profile is written for")).to_be_visible()
    await expect(page.get_by_text("gets the profile pumps")).to_be_visible()
    await page.get_by_label("Client of the device").select_option("Izuma client")
    await page.get_by_role("button", name="Try").click()
    await expect(page.get_by_text("It is an Izuma client.")).to_be_visible()
    await page.goto("/profiles/pumps")
    await page.get_by_role("link", name="Delete").click()
    await page.get_by_role("button", name="Delete it").click()
    await expect(page.get_by_text("The profile pumps is removed")).to_be_visible()
    await page.goto("/audit")
    await expect(page.get_by_role("row", name=re.compile("Profile 'pumps' made"))).to_be_visible()


# -- audit -------------------------------------------------------------------------------


async def test_the_audit_tells_who_changed_what_and_is_exported(rig: Rig, page: Page) -> None:
    await page.goto("/audit")
    assert query(page) == {"actor_kind__neq": ["device"]}
    # Actions are chosen by words, the address has the API's.
    await page.get_by_role("combobox", name="Action").select_option("CA made active for a service")
    await page.get_by_role("button", name="Search", exact=True).click()
    await page.wait_for_url("**service.configured**")
    line = page.get_by_role("row", name=re.compile("Certificate authority 'Plant CA' made active for LWM2M")).last
    await expect(line.get_by_role("row").last).to_have_text(re.compile(r"CA\s*Embedded CA →\s*Plant CA"))
    # The API's word and what it keeps are there for whoever asks.
    await expect(line.get_by_text("service.configured")).to_be_hidden()
    await line.get_by_text("Record").click()
    await expect(line.get_by_text("service.configured", exact=True)).to_be_visible()
    await expect(line.locator("pre")).to_contain_text(rig.scene.ids["plant"])
    found = (await rig.ask("GET", "/v1/audit?actor_kind__neq=device&action__eq=service.configured"))["data"]
    exported = json.loads(await read(page, "JSON"))
    assert [row["id"] for row in exported] == [row["id"] for row in reversed(found)]
    rows = list(csv.DictReader(io.StringIO(await read(page, "CSV"))))
    assert [row["id"] for row in rows] == [row["id"] for row in exported]


# -- access ------------------------------------------------------------------------------


async def test_a_key_is_shown_once_works_and_is_revoked(rig: Rig, page: Page) -> None:
    await page.goto("/access")
    await page.get_by_role("link", name="New API key").click()
    await page.get_by_label("Name").fill("line 4")
    await page.get_by_label("Role").select_option("reader")
    await page.get_by_role("button", name="Make the key").click()
    await expect(page.get_by_text("Copy the key now")).to_be_visible()
    key = await page.locator("dialog pre").first.inner_text()
    assert key.startswith("ak_1")
    async with httpx.AsyncClient(base_url=rig.url, headers={"Authorization": f"Bearer {key}"}) as client:
        assert (await client.get("/v3/devices/")).status_code == 200
        # The list reloads by itself; a click in the middle of that would be lost.
        async with page.expect_navigation():
            await page.get_by_role("button", name="Done").click()
        row = page.get_by_role("row", name="line 4")
        await expect(row).to_contain_text("read-only")
        assert key not in await page.content()
        # What each step means is said before it.
        for word, code in (("off", 401), ("on", 200)):
            await row.get_by_role("link", name=f"Switch {word}").click()
            await expect(page.locator("dialog[open]")).to_contain_text("Whatever")
            await page.locator("dialog[open]").get_by_role("button", name=f"Switch {word}").click()
            await expect(page.get_by_text(f"The key line 4 is {word}.")).to_be_visible()
            assert (await client.get("/v3/devices/")).status_code == code
        rows = list(csv.DictReader(io.StringIO(await read(page, "CSV of API keys"))))
        assert ("line 4", "reader", "True") in [(row["name"], row["role"], row["active"]) for row in rows]
        await row.get_by_role("link", name="Revoke").click()
        await page.get_by_role("button", name="Revoke", exact=True).click()
        await expect(page.get_by_text("The key line 4 is revoked")).to_be_visible()
        assert (await client.get("/v3/devices/")).status_code == 401


async def test_what_switching_off_the_cas_of_an_account_means_is_said_before(rig: Rig, page: Page) -> None:
    shown = page.locator("dialog[open]")
    listed = (await rig.ask("GET", "/v3/certificate-issuer-configurations"))["data"]
    active = [f"for {one['reference']}" for one in listed if one["certificate_issuer_id"]]
    none = "None of its own signs for a service"
    for name, words in (("default", active[0] if active else none), ("New plant", none)):
        await page.goto("/access")
        await (
            page.get_by_role("row")
            .filter(has=page.get_by_role("rowheader", name=name))
            .last.get_by_role("link", name="Switch off")
            .click()
        )
        await expect(shown).to_contain_text(words)
    await shown.get_by_role("button", name="Switch off").click()
    await expect(page.get_by_text("New plant may not use CAs of its own.")).to_be_visible()
    row = page.get_by_role("row", name="New plant")
    await row.get_by_role("link", name="Allow").click()
    await shown.get_by_role("button", name="Allow").click()
    await expect(row).to_contain_text("allowed")
    exported = list(csv.DictReader(io.StringIO(await read(page, "CSV of accounts"))))
    assert {row["name"]: row["third_party_ca"] for row in exported}["New plant"] == "True"


async def test_an_operator_signs_in_with_a_password_and_no_more_once_switched_off(rig: Rig, page: Page) -> None:
    await page.goto("/access")
    await page.get_by_role("link", name="New operator").click()
    await page.get_by_label("Name").fill("aino")
    await page.get_by_label("Password").fill("short")
    await page.get_by_role("button", name="Make the operator").click()
    await expect(page.locator(".problem")).to_contain_text("characters")
    await page.get_by_label("Password").fill("a long enough password")
    await page.get_by_role("button", name="Make the operator").click()
    await expect(page.get_by_text("aino may sign in")).to_be_visible()
    await page.get_by_role("row", name="aino").get_by_role("link", name="Edit").click()
    await page.get_by_label("May sign in").uncheck()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("row", name="aino")).to_contain_text(re.compile(r"off\s*since"))


async def test_a_reader_sees_devices_and_profiles_and_may_change_nothing(rig: Rig) -> None:
    async with rig.page("/devices", who="reader") as page:
        await expect(page.get_by_role("link", name="Seen, not admitted")).to_have_count(0)
        await expect(page.get_by_role("link", name="Access")).to_have_count(0)
        await page.goto(f"/devices/{rig.scene.ids['device']}")
        await expect(page.get_by_role("link", name="Forget this device")).to_have_count(0)
        assert (await page.goto("/access")).status == 403
        assert (await page.goto(f"/devices/{rig.scene.ids['device']}/forget")).status == 403
