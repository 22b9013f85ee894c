"""What every page has: keys, copying, times in the viewer's zone, themes, the same with curl, ways back in."""

import asyncio
import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import expect

from tests.console.rig import PHONE, Rig
from tests.console.views import CAS

ISSUED = "/device-identity/certificates/issued"


async def test_slash_focuses_the_search_and_types_itself_elsewhere(rig: Rig) -> None:
    async with rig.page(ISSUED) as page:
        search = page.get_by_role("searchbox")
        await page.keyboard.press("/")
        await expect(search).to_be_focused()
        await page.keyboard.type("a/b")
        await expect(search).to_have_value("a/b")


async def test_control_k_goes_to_any_view_action_or_name_by_keyboard_alone(rig: Rig) -> None:
    async with rig.page("/audit") as page:
        await page.keyboard.press("Control+k")
        text = page.get_by_role("searchbox", name="Go to")
        await expect(text).to_be_focused()
        await page.keyboard.type("dry")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/profiles/dry-run")
        await page.keyboard.press("Control+k")
        await expect(text).to_be_focused()
        await page.keyboard.type("pump-0002")
        await page.keyboard.press("ArrowDown")
        await expect(page.get_by_role("link", name="Devices named pump-0002", exact=True)).to_be_focused()
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/devices?endpoint_name__like=pump-0002")
        await expect(page.get_by_role("row", name="pump-0002")).to_be_visible()
        await page.get_by_role("button", name="Go to…").click()
        await expect(text).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.locator("dialog[open]")).to_have_count(0)


async def test_control_k_offers_nobody_what_the_role_does_not_allow(rig: Rig) -> None:
    async with rig.page("/", who="reader") as page:
        await page.keyboard.press("Control+k")
        await expect(page.get_by_role("link", name="Dry run")).to_be_visible()
        for name in ("Add CA", "New profile", "Upload a certificate", "Seen, not admitted"):
            await expect(page.locator("#palette").get_by_text(name)).to_have_count(0)


async def test_cas_devices_and_profiles_lead_to_each_other(rig: Rig) -> None:
    async with rig.page(CAS) as page:
        await page.get_by_role("row", name="Plant CA").get_by_role("link", name="Its devices").click()
        await page.get_by_role("link", name="pump-0002").click()
        await page.get_by_role("link", name="default", exact=True).click()
        await page.get_by_role("link", name=re.compile("^[0-9]+ devices$")).click()
        await page.get_by_role("link", name="pump-0002").click()
        await page.locator(".card").get_by_role("link", name="Plant CA", exact=True).click()
        await expect(page.locator(":target")).to_contain_text("Plant CA")
        await page.goto(f"{ISSUED}?endpoint_name__eq=pump-0002")
        await page.get_by_role("link", name="pump-0002").click()
        await page.locator(".facts").get_by_role("link", name="pump-0002").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("pump-0002")


async def test_the_devices_of_the_embedded_ca_are_a_filter_of_the_api(rig: Rig) -> None:
    async with rig.page("/device-identity/certificate-authorities") as page:
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="Embedded CA"))
        await row.get_by_role("link", name="Its devices").click()
        await expect(page.locator(".chips")).to_contain_text("CA is Embedded CA")
        await expect(page.get_by_role("row", name="meter-0001")).to_be_visible()
        await expect(page.get_by_role("row", name="pump-0001")).to_have_count(0)
    found = (await rig.ask("GET", "/v3/devices/?ca_id__eq=own&sort=endpoint_name"))["data"]
    assert all(row["ca_id"] is None and row["device_key"] for row in found)


async def test_a_copy_button_copies_and_says_so(rig: Rig) -> None:
    async with rig.page("/device-identity/server", permissions=["clipboard-read", "clipboard-write"]) as page:
        await page.get_by_role("button", name="Copy address").first.click()
        await expect(page.locator("#said")).to_have_text("Copied")
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert copied == (await rig.ask("GET", "/v3/server-credentials/bootstrap"))["server_uri"]


async def test_times_are_in_the_zone_of_the_viewer_with_utc_on_hover(rig: Rig) -> None:
    async with rig.page(f"{ISSUED}/{rig.scene.ids['certificate']}", timezone_id="Asia/Tokyo") as page:
        shown = page.locator("time[data-time=moment]").first
        at = datetime.fromisoformat(str(await shown.get_attribute("datetime")))
        assert at.tzinfo is not None
        await expect(shown).to_have_text(re.compile(f"{at.astimezone(ZoneInfo('Asia/Tokyo')):%H:%M:%S} GMT\\+9$"))
        await expect(shown).to_have_attribute("title", f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")


async def test_the_theme_is_the_systems_until_it_is_switched_and_then_stays(rig: Rig) -> None:
    async with rig.page("/", color_scheme="dark") as page:
        background = "getComputedStyle(document.querySelector('main > *')).color"
        dark = await page.evaluate(background)
        await page.get_by_role("button", name="Theme").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "light")
        assert await page.evaluate(background) != dark
        await page.reload()
        await expect(page.locator("html")).to_have_attribute("data-theme", "light")


@pytest.mark.parametrize("path", [CAS, "/device-identity/server", ISSUED, "/device-identity/certificates"])
async def test_the_curl_of_a_page_gives_what_the_page_shows(rig: Rig, path: str) -> None:
    async with rig.page(path) as page:
        await page.get_by_text("The same with curl").click()
        command = (await page.locator(".curl pre").first.inner_text()).strip()
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f"{command} --silent --show-error --fail --noproxy '*'"),
        stdout=asyncio.subprocess.PIPE,
        env={"FIRSTLIGHT_KEY": rig.key, "PATH": "/usr/bin:/bin"},
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, command
    assert b'"object"' in said


async def test_a_dialog_is_left_by_escape_and_the_focus_is_where_it_was(rig: Rig) -> None:
    async with rig.page(CAS) as page:
        await page.get_by_role("link", name="Add CA").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Issuer type")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.locator("dialog[open]")).to_have_count(0)
        await expect(page.get_by_role("link", name="Add CA")).to_be_focused()


async def test_whoever_is_signed_out_meanwhile_comes_back_to_the_page_of_the_dialog(rig: Rig) -> None:
    async with rig.context() as context:
        page = await context.new_page()
        await page.goto(CAS)
        await context.clear_cookies()
        await page.get_by_role("link", name="Add CA").click()
        await page.wait_for_url(re.compile("/sign-in"))
        await page.get_by_label("API key").fill(rig.key)
        await page.get_by_role("button", name="Sign in with the key").click()
        await expect(page).to_have_url(CAS)


async def test_signing_out_ends_it(rig: Rig) -> None:
    async with rig.context(who="nobody") as context:
        page = await context.new_page()
        await page.goto("/sign-in")
        await page.get_by_label("API key").fill(rig.key)
        await page.get_by_role("button", name="Sign in with the key").click()
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url(re.compile("/sign-in"))
        await page.goto("/")
        await page.wait_for_url(re.compile("/sign-in"))


async def test_on_a_small_screen_the_views_are_behind_a_button(rig: Rig) -> None:
    async with rig.page("/", viewport=PHONE) as page:
        views = page.get_by_role("link", name="Certificates")
        await expect(views).to_be_hidden()
        await page.get_by_role("button", name="Menu").click()
        await views.click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Certificates")


async def test_forms_work_without_any_script(rig: Rig) -> None:
    async with rig.page(f"{CAS}/add?issuer_type=CFSSL_AUTH", java_script_enabled=False) as page:
        await page.get_by_label("Name", exact=True).fill("Without script")
        await page.get_by_label("Host URL").fill(rig.scene.cfssl.url)
        await page.get_by_label("HMAC Hex key").fill("abc")
        await page.get_by_role("button", name="Add CA").click()
        await expect(page.locator(".problem")).to_contain_text("even number of hexadecimal characters, you gave 3")
        # The key did not come back.
        await expect(page.get_by_label("HMAC Hex key")).to_have_value("")
        await page.get_by_label("HMAC Hex key").fill("0123456789ABCDEF0123456789ABCDEF")
        await page.get_by_role("button", name="Add CA").click()
        await expect(page.get_by_role("row", name="Without script")).to_be_visible()


async def test_a_pem_keeps_its_lines_and_the_rule_above_the_curl_is_as_wide_as_the_page(rig: Rig) -> None:
    async with rig.page("/profiles/default") as page:
        pem = page.get_by_role("textbox", name="server-ca.pem")
        assert await pem.evaluate("field => field.scrollWidth <= field.clientWidth")
        # As many lines are shown as there are: none is folded.
        await pem.evaluate("field => { field.style.height = 0; field.style.minHeight = 0; }")
        shown = await pem.evaluate("field => field.scrollHeight / parseFloat(getComputedStyle(field).lineHeight)")
        assert round(shown) <= len((await pem.input_value()).splitlines()) + 2
    async with rig.page("/devices") as page:
        rule, table = await page.locator(".curl").bounding_box(), await page.locator(".table").bounding_box()
        assert rule is not None
        assert table is not None
        assert round(rule["width"]) == round(table["width"])
